"""Documents of a UBI index in order of time, however many there are and however often OpenSearch
goes away.

A point in time keeps the view while it lives. It does not outlive a restart, so what is remembered
is the time of the last document and the ids that share it: reading goes on from that time and
leaves those out. Documents that arrive meanwhile with an older time are not seen.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import NotFound, Overloaded, Unavailable
from neuralrank.opensearch.point_in_time import Hit, batches, count_all, point_in_time

__all__ = ["Place", "Reader"]

_BATCH: Final = 5_000
_KEEP_ALIVE: Final = "5m"
# Seconds between attempts: at first, and at most.
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """How far reading is: the time (ms) of the last document, and all ids of that time."""

    time: int
    ids: frozenset[str] = frozenset()

    def after(self, hits: Sequence[Hit]) -> "Place":
        """Behind these."""
        last = int(hits[-1]["sort"][0])
        ids = {hit["_id"] for hit in hits if hit["sort"][0] == last}
        return Place(last, frozenset(ids) | (self.ids if last == self.time else frozenset()))


@dataclass(frozen=True)
class Reader:
    """Reads one index.

    Attributes:
        until: ms since 1970; documents of that time and later are not read.
        fields: of `_source`.
        patience: seconds that an OpenSearch which does not answer is waited for.
    """

    client: OpenSearch
    index: str
    until: int
    fields: Sequence[str]
    patience: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def count(self, since: int) -> int:
        """Documents from a time (ms) on. Raises as `batches`, at once."""
        return count_all(self.client, self.index, self._query(since))

    def batches(self, place: Place) -> Iterator[list[Hit]]:
        """Hits behind a place, in order of time (`sort[0]`, ms).

        Raises:
            NotFound: there is no such index.
            Unavailable, Overloaded: OpenSearch, or a shard, was away for longer than `patience`.
        """
        waited, wait = 0.0, _FIRST_WAIT
        while True:
            try:
                for hits in self._from(place):
                    waited, wait = 0.0, _FIRST_WAIT
                    place = place.after(hits)
                    yield hits
                return
            except (Unavailable, Overloaded):
                if waited >= self.patience:
                    raise
            self.sleep(wait)
            waited += wait
            wait = min(2 * wait, _LONGEST_WAIT)

    def _from(self, place: Place) -> Iterator[list[Hit]]:
        """From a place on, through one point in time."""
        body = {
            **self._query(place.time),
            "sort": [{"timestamp": "asc"}, {"_shard_doc": "asc"}],
            "_source": list(self.fields),
        }
        with point_in_time(self.client, self.index, _KEEP_ALIVE) as point:
            try:
                for hits in batches(self.client, point, _KEEP_ALIVE, body, size=_BATCH):
                    fresh = [
                        hit
                        for hit in hits
                        if hit["sort"][0] != place.time or hit["_id"] not in place.ids
                    ]
                    if fresh:
                        yield fresh
            except NotFound as error:
                raise Unavailable(f"The point in time is no more: {error}") from error

    def _query(self, since: int) -> dict[str, Any]:
        bounds = {"gte": since, "lt": self.until, "format": "epoch_millis"}
        return {"query": {"bool": {"filter": [{"range": {"timestamp": bounds}}]}}}
