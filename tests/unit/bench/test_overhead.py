"""What a measurement leaves behind in OpenSearch."""

from unittest.mock import MagicMock

import pytest

from bench import overhead
from neuralrank.errors import Unavailable


@pytest.mark.parametrize(("items", "deleted"), [([{"id": "1"}], 1), ([], 0)])
def test_its_events_are_deleted_also_where_it_fails(
    items: list[dict], deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MagicMock()
    monkeypatch.setattr(overhead, "connect", lambda *_, **__: client)
    monkeypatch.setattr(overhead, "_items", lambda *_: items)
    monkeypatch.setattr(overhead, "_sidecar", MagicMock(side_effect=Unavailable("no sidecar")))
    with pytest.raises(Unavailable, match="no sidecar"):
        overhead.measure()
    assert client.indices.delete.call_count == deleted
