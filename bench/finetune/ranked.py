"""What the running system gives for the recorded candidates: the order that a fine-tuned model may
change. Asked once, and kept beside the recording."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.candidates import Recorded, recorded
from bench.deadline import NO_END, request, serving
from neuralrank.evaluation import Qrels
from neuralrank.files.whole import write_whole
from neuralrank.settings import Settings

__all__ = ["Ranked", "Ranking", "ranked"]


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
    """A data set's judged queries."""

    queries: Mapping[str, Ranking]
    qrels: Qrels


def ranked(name: str, settings: Settings, folder: Path) -> Ranked:
    """The rankings of a set.

    Raises:
        NotFound: the data is not there.
        Unavailable: OpenSearch does not answer.
    """
    file = folder / f"{name}.json"
    if file.is_file():
        known = json.loads(file.read_text("utf-8"))
    else:
        known = _asked(name, recorded(name, settings), settings)
        write_whole(file, json.dumps(known))
    return Ranked(
        {
            query: Ranking(
                row["text"], tuple(row["lexical"]), tuple(row["items"]), tuple(row["scores"])
            )
            for query, row in known["queries"].items()
        },
        known["qrels"],
    )


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
