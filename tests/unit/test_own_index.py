"""The script of plugin/README.md that writes vectors into an index of one's own, as it stands
there, against a sidecar that refuses what the real one does."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

README = Path(__file__).parents[2] / "plugin/README.md"
DOCUMENTS: dict[str, dict[str, Any]] = {
    "plain": {"name": "kettle", "maker": "Acme", "description": "d" * 100_000},
    "long": {"name": "k" * 100_000},
    "blank": {"name": " ", "maker": None},
    "none": {},
    **{f"p{n}": {"name": f"cup {n}"} for n in range(100)},
}


class Sidecar:
    def __init__(self, address: str) -> None:
        assert address

    def __enter__(self) -> "Sidecar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def encode(self, *, passages: Sequence[str], index: str, timeout: float) -> list[Any]:
        assert index == "products"
        assert timeout >= 30  # a minute for 64 texts, where the usual seconds may not do
        assert all(text.strip() for text in passages)
        # Of more than a vector reads a slow machine does not get through in that time.
        assert max(map(len, passages)) <= 1_000
        return [np.full(2, len(text), np.float32) for text in passages]


def test_every_document_with_a_text_gets_its_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, list[float]] = {}

    def scan(_: object, *, index: str, _source: list[str]) -> Iterable[dict[str, Any]]:
        assert index == "products"
        for id, document in DOCUMENTS.items():
            yield {"_id": id, "_source": {k: v for k, v in document.items() if k in _source}}

    def bulk(_: object, actions: Iterable[dict[str, Any]]) -> None:
        written.update({action["_id"]: action["doc"]["text_vector"] for action in actions})

    monkeypatch.setattr("neuralrank.Client", Sidecar)
    monkeypatch.setattr("opensearchpy.OpenSearch", lambda *_, **__: None)
    monkeypatch.setattr("opensearchpy.helpers.scan", scan)
    monkeypatch.setattr("opensearchpy.helpers.bulk", bulk)
    scripts = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = (script for script in scripts if "client.encode(" in script)
    exec(script, {})
    assert set(written) == DOCUMENTS.keys() - {"blank", "none"}
    assert written["plain"] == [11.0, 11.0]
