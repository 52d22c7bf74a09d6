"""How many of the true neighbours a variant's k-NN leg finds.

The truth is a comparison with every whole vector of the source index, so that what quantisation and
cutting lose counts as well as what the graph misses.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from opensearchpy import OpenSearch

from neuralrank.client import Client
from neuralrank.opensearch.packing import VECTOR
from neuralrank.opensearch.point_in_time import AS_STORED
from opensearch_config.tuning.journal import Journal
from opensearch_config.tuning.questions import Questions
from opensearch_config.tuning.variants import Planned, Source

__all__ = ["Neighbours"]

# Queries in one Encode: the sidecar's bound is 256.
_BATCH: Final = 64


class Neighbours:
    """Exact and approximate neighbours of the queries."""

    def __init__(
        self,
        client: OpenSearch,
        ranker: Client,
        journal: Journal,
        source: Source,
        questions: Questions,
        at: int,
    ) -> None:
        """
        Args:
            at: how many neighbours count.
        """
        self._client = client
        self._ranker = ranker
        self._journal = journal
        self._source = source
        self._questions = questions
        self._at = at
        self._vectors: dict[str, dict[str, NDArray[np.float32]]] = {}

    def recall(
        self, planned: Planned, index: str, progress: Callable[[int, int], None]
    ) -> dict[str, float]:
        """By query: the share of the exact neighbours that the variant's leg finds.

        Raises:
            EncoderMismatch: the encoder can't be cut to the index's length.
            Unavailable: the sidecar or OpenSearch does not answer.
        """
        found: dict[str, float] = {}
        for done, query in enumerate(self._questions.texts, start=1):
            key = ("recall", planned.name, query)
            share = self._journal.get(*key)
            if share is None:
                exact = self._exact(query)
                near = self._near(index, self._vector(index, query), planned)
                share = len(exact & near) / len(exact) if exact else 1.0
                self._journal.put(*key, value=share)
            found[query] = float(share)
            progress(done, len(self._questions.texts))
        return found

    def _exact(self, query: str) -> set[str]:
        known = self._journal.get("exact", query)
        if known is None:
            space = self._source.properties[VECTOR].get("method", {}).get("space_type", "l2")
            script = {
                "lang": "knn",
                "source": "knn_score",
                "params": {
                    "field": VECTOR,
                    "query_value": self._vector(self._source.index, query).tolist(),
                    "space_type": space,
                },
            }
            has = {"exists": {"field": VECTOR}}
            known = self._ids(
                self._source.index, {"script_score": {"query": has, "script": script}}, self._at
            )
            self._journal.put("exact", query, value=known)
        return set(known)

    def _near(self, index: str, vector: NDArray[np.float32], planned: Planned) -> set[str]:
        """What the leg brings: as the plugin asks."""
        query = {"knn": {VECTOR: {"vector": vector.tolist(), "k": planned.explored}}}
        return set(self._ids(index, query, min(self._at, planned.k)))

    def _ids(self, index: str, query: Mapping[str, Any], size: int) -> Sequence[str]:
        body = {"query": dict(query), "size": size, "_source": False, "track_total_hits": False}
        answer = self._client.search(index=index, body=body, params=AS_STORED)
        return [str(hit["_id"]) for hit in answer["hits"]["hits"]]

    def _vector(self, index: str, query: str) -> NDArray[np.float32]:
        """float32 [d] of the index, of all queries at once."""
        if index not in self._vectors:
            queries = list(self._questions.texts)
            made: dict[str, NDArray[np.float32]] = {}
            for start in range(0, len(queries), _BATCH):
                batch = queries[start : start + _BATCH]
                texts = [self._questions.texts[each] for each in batch]
                vectors = self._ranker.encode(queries=texts, index=index, timeout=60.0)
                made |= dict(zip(batch, vectors, strict=True))
            self._vectors[index] = made
        return self._vectors[index][query]
