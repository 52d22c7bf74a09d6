"""How good a ranking is by the time that it is given: nDCG@10 against the deadline.

A real sidecar over real gRPC, on candidates recorded from a real OpenSearch (`bench.candidates`),
one request after the other. Vectors of queries and scores of pairs are not kept, so that no
deadline has the work of another; items and the tokens of their texts are, as in a shop that has
been open for an hour. The first pass, with all the time it wants and as many reads as any later
one, is not counted: it fills these caches, and the sidecar learns what a token costs.
"""

import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np

from bench.candidates import Found, Recorded, index_name, judged_by_query, recorded
from bench.plot import Line, write_plot
from bench.report import RESULTS, Report
from bench.running import Running, free_port
from neuralrank.settings import Settings, load_settings
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["NO_END", "Counter", "Point", "judged", "one_pass", "request", "run", "serving"]

_SETS: Final = ("esci_en", "icecat_en", "taobao_zh")
NO_END: Final = 600_000
_DEADLINES: Final = (5, 10, 20, 50, 100, 200, NO_END)
# Candidates that the cross-encoder may read: as shipped, and many.
_READ: Final = {"default": 0, "50": 50}
_METRIC: Final = "nDCG@10"


@dataclass(frozen=True)
class Point:
    """What one pass gave on one set: ids by query in order, and counts."""

    orders: Mapping[str, Sequence[str]]
    milliseconds: list[float]
    partial: float
    read: float


def run() -> None:
    """Prints the table; writes JSON and the plot."""
    settings = load_settings()
    rows = [row for name in _SETS for row in measure(name, settings)]
    publish(rows)


def publish(rows: list[dict[str, Any]]) -> None:
    """The table, `deadline.json` and `deadline.svg`."""
    Report(
        "deadline",
        "Quality against the deadline, one caller",
        rows,
        "'reads': how many candidates the cross-encoder may read (default: the setting's five; "
        "50: as many as time allows). 'gain': over the order that came in, recorded with the "
        "candidates. 'read' is the mean a query, 'partial' the share of answers with a note "
        "DEADLINE. Query vectors and pair scores are not cached here; items and tokens are.",
    ).publish()
    lines = [
        Line(
            f"{name}, reads {reads}",
            [
                (float(min(row["deadline ms"], 1_000)), row[_METRIC])
                for row in rows
                if row["what"] == name and row["reads"] == reads
            ],
        )
        for name in dict.fromkeys(row["what"] for row in rows)
        for reads in _READ
        if any(row["what"] == name and row["reads"] == reads for row in rows)
    ]
    write_plot(RESULTS / "deadline.svg", "nDCG@10 against deadline, ms (1000: none)", lines)


def measure(name: str, settings: Settings) -> list[dict[str, Any]]:
    """The rows of one set."""
    data = recorded(name, settings)
    came = judged({q: [id_ for id_, _ in f.candidates] for q, f in data.queries.items()}, data)
    rows = []
    with serving(settings) as (stub, read):
        one_pass(stub, read, data, name, NO_END, max(_READ.values()))
        for reads, most in _READ.items():
            for deadline in _DEADLINES:
                point = one_pass(stub, read, data, name, deadline, most)
                value = judged(point.orders, data)
                p50, p95 = np.percentile(point.milliseconds, [50, 95])
                rows.append(
                    {
                        "what": name,
                        "reads": reads,
                        "deadline ms": deadline,
                        _METRIC: round(value, 4),
                        "gain": round(value - came, 4),
                        "read": round(point.read, 1),
                        "partial": round(point.partial, 3),
                        "p50 ms": round(float(p50), 1),
                        "p95 ms": round(float(p95), 1),
                    }
                )
    return rows


def one_pass(
    stub: Any,
    read: "Counter",
    data: Recorded,
    name: str,
    deadline: int,
    most: int,
    bundle: str = "",
) -> Point:
    """Ranks every query of a set, one after the other.

    Args:
        read: how many candidates a cross-encoder has read so far.
        deadline: milliseconds.
        most: that the cross-encoder may read; 0: the setting's.
        bundle: the cross-encoder; "": the sidecar's choice, "none": none.
    """
    orders, times, partial = {}, [], 0
    before = read()
    for query, found in data.queries.items():
        message = request(found, name, deadline, most, bundle)
        start = time.perf_counter()
        answer = stub.Rank(message)
        times.append((time.perf_counter() - start) * 1_000)
        orders[query] = [hit.id for hit in answer.results]
        partial += any(note.reason == pb.DEGRADED_REASON_DEADLINE for note in answer.degraded)
    count = len(data.queries)
    return Point(orders, times, partial / count, (read() - before) / count)


def request(
    found: Found, name: str, deadline: int, most: int = 0, bundle: str = ""
) -> pb.RankRequest:
    """Ranks what was recorded, by id. The arguments are those of `one_pass`."""
    return pb.RankRequest(
        query=found.text,
        index=index_name(name),
        candidates=[pb.Candidate(id=id_, retrieval_score=score) for id_, score in found.candidates],
        options=pb.RankOptions(deadline_ms=deadline, max_reranked=most, bundle=bundle),
    )


def judged(orders: Mapping[str, Sequence[str]], data: Recorded) -> float:
    """nDCG@10 of a set's orders."""
    return judged_by_query(orders, data).mean(_METRIC)


@dataclass(frozen=True)
class Counter:
    """Candidates that the cross-encoder has read, as the sidecar's metrics say."""

    url: str

    def __call__(self) -> float:
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("neuralrank_reranked_candidates_total "):
                    return float(line.split()[1])
        return 0.0


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[Any, Counter]]:
    """A sidecar that keeps no query's vector and no score, and its counter of what was read."""
    port = free_port()
    running = Running(
        settings.home / "bench" / "deadline.log",
        opensearch_url=settings.opensearch_url,
        registry=settings.registry_path,
        # Whatever else the registry has answers who names it, however slow it is.
        default_cross_encoder="neuralrank-small",
        http_listen=f"127.0.0.1:{port}",
        max_deadline_ms=NO_END,
        query_cache_bytes=0,
        score_cache_bytes=0,
        item_ttl_seconds=86_400,
        index_ttl_seconds=3_600,
        # The first pass reads the catalogue.
        opensearch_timeout_ms=10_000,
    )
    with running:
        running.ready()
        with grpc.insecure_channel(running.address, [("grpc.enable_http_proxy", 0)]) as channel:
            yield pb_grpc.RankingStub(channel), Counter(f"http://127.0.0.1:{port}/metrics")
