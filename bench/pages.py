"""Pages that are judged: ranked as usual, however busy the machine is."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import Unavailable
from neuralrank.opensearch.page import PIPELINE, Page, ask
from opensearch_config import pipelines

__all__ = ["Pages", "patient_pages"]

_PATIENT: Final = "bench_patient"
# For all that the plugin adds to a search; of it the sidecar may take so much.
_TIMEOUT_MS: Final = 20_000
_DEADLINE_MS: Final = 4_000
_ATTEMPTS: Final = 5


@dataclass
class Pages:
    """Pages of an index. `retried`: how often one came late or was not ranked as usual, and was
    asked for again."""

    client: OpenSearch
    index: str
    retried: int = 0

    def whole(self, options: Mapping[str, Any], size: int) -> Page:
        """A page without a query, of what is found for a user or an item.

        Raises:
            Unavailable: it was not ranked as usual, however often it was asked for.
        """
        given = {"deadline_ms": _DEADLINE_MS, **options}
        for attempt in range(_ATTEMPTS):
            page = ask(
                self.client, self.index, {"match_all": {}}, given, size=size, pipeline=_PATIENT
            )
            # All candidates are asked for, and no page is longer than what filters have looked at.
            if page.reranked and {note["reason"] for note in page.degraded} <= {"partial_window"}:
                self.retried += attempt
                return page
        raise Unavailable(f"Not served as usual: {json.dumps([given, page.report])}")


@contextmanager
def patient_pages(client: OpenSearch, index: str) -> Iterator[Pages]:
    """By a pipeline like that of `neuralrank config apply`, only that it waits for longer."""
    pipeline = json.loads(json.dumps(pipelines()[PIPELINE]))
    pipeline["request_processors"][0]["neural_recall"]["timeout_ms"] = _TIMEOUT_MS
    client.search_pipeline.put(id=_PATIENT, body=pipeline)
    try:
        yield Pages(client, index)
    finally:
        client.search_pipeline.delete(id=_PATIENT)
