"""What the running system gives for the recorded candidates: the order that a fine-tuned model may
change. Asked once, and kept beside the recording."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.candidates import Recorded, recorded
from bench.deadline import NO_END, request, serving
from neuralrank.bundles.bundle import Kind
from neuralrank.bundles.registry import Registry
from neuralrank.evaluation import Qrels
from neuralrank.files.whole import write_whole
from neuralrank.settings import Settings

__all__ = ["Ranked", "Ranking", "ranked"]

# Of models that rank for nobody in particular.
_KINDS: Final[tuple[Kind, ...]] = ("encoder", "cross_encoder")


@dataclass(frozen=True)
class Ranking:
    """One query: its text, the order of its lexical hits, and all candidates by the default models,
    best first, with their scores."""

    text: str
    lexical: tuple[str, ...]
    items: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Ranked:
    """A data set's judged queries. `key` is another one where they were recorded or ranked anew."""

    queries: Mapping[str, Ranking]
    qrels: Qrels
    key: str = ""


def ranked(name: str, settings: Settings, folder: Path) -> Ranked:
    """The rankings of a set, by what serves now.

    Raises:
        NotFound: the data is not there.
        Unavailable: OpenSearch does not answer.
    """
    data = recorded(name, settings, indexed=False)
    if not _file(name, data, settings, folder).is_file():
        data = recorded(name, settings)  # anew, where the index was another encoder's
    file = _file(name, data, settings, folder)
    if not file.is_file():
        write_whole(file, json.dumps(_asked(name, data, settings)))
    known = json.loads(file.read_text("utf-8"))
    return Ranked(
        {
            query: Ranking(
                row["text"], tuple(row["lexical"]), tuple(row["items"]), tuple(row["scores"])
            )
            for query, row in known["queries"].items()
        },
        known["qrels"],
        file.stem,
    )


def _file(name: str, data: Recorded, settings: Settings, folder: Path) -> Path:
    """Where the rankings of a recording by the models that serve now lie."""
    registry = Registry(settings.registry_path)
    models = [ref for kind in _KINDS for ref in sorted(registry.serving(kind))]
    hangs_on = json.dumps([asdict(data), models], sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(hangs_on.encode()).hexdigest()[:16]}.json"


def _asked(name: str, data: Recorded, settings: Settings) -> dict[str, Any]:
    queries = {}
    with serving(settings) as (stub, _):
        for query, found in data.queries.items():
            answer = stub.Rank(request(found, name, NO_END))
            queries[query] = {
                "text": found.text,
                "lexical": [item for item, score in found.candidates if score is not None],
                "items": [hit.id for hit in answer.results],
                "scores": [hit.score for hit in answer.results],
            }
    return {"queries": queries, "qrels": data.qrels}
