"""Callers that count: what was asked while something was broken, and what became of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from bench.report import Report
from bench.scripted import INDEX
from neuralrank.v1 import ranking_pb2 as pb
from neuralrank.v1 import ranking_pb2_grpc as pb_grpc

__all__ = ["DEADLINE_MS", "TOLERANCE_S", "Account", "Outcome", "ask", "connect", "request"]

# What each request gives ranking, and how much later its answer may be: these tests share a machine
# with whatever else runs there.
DEADLINE_MS: Final = 500
TOLERANCE_S: Final = 1.0
# A caller's own patience. Far beyond, so that it never is what ends the waiting.
_PATIENCE_S: Final = 30.0
_OPTIONS: Final = [
    ("grpc.enable_http_proxy", 0),
    # One connection for each channel, as callers on different machines have.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


@dataclass
class Account:
    """Of a whole test run. Lost: neither answered nor refused by `DEADLINE_MS` and tolerance."""

    injected: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    lost: int = 0
    slowest_s: float = 0.0

    def fault(self, name: str, times: int = 1) -> None:
        self.injected[name] += times

    @property
    def line(self) -> str:
        ends = ", ".join(f"{n} {status}" for status, n in sorted(self.ended.items()))
        return (
            f"faults injected: {sum(self.injected.values())} ({len(self.injected)} kinds); "
            f"requests: {self.asked} ({ends}); lost: {self.lost}; slowest {self.slowest_s:.2f} s "
            f"of {DEADLINE_MS / 1_000} s deadline + {TOLERANCE_S} s tolerance"
        )

    def report(self) -> Report:
        """The same as figures: faults by kind, and what became of the requests."""
        return Report(
            "faults",
            "Faults injected",
            [{"what": name, "faults": n} for name, n in sorted(self.injected.items())],
            "Requests that callers asked while something was broken, and before and after it. "
            "`lost`: neither answered nor refused by deadline and tolerance.",
            {
                "faults": sum(self.injected.values()),
                "kinds": len(self.injected),
                "requests": self.asked,
                "answered": self.ended["OK"],
                "refused": self.ended["RESOURCE_EXHAUSTED"],
                "statuses": dict(sorted(self.ended.items())),
                "lost": self.lost,
                "slowest s": round(self.slowest_s, 2),
                "deadline s": DEADLINE_MS / 1_000,
                "tolerance s": TOLERANCE_S,
            },
        )


@dataclass(frozen=True)
class Outcome:
    """Of one request."""

    status: str
    seconds: float
    reply: pb.RankResponse | None = None
    message: str = ""

    @property
    def ids(self) -> set[str]:
        return {hit.id for hit in self.reply.results} if self.reply else set()

    @property
    def degraded(self) -> set[str]:
        notes = self.reply.degraded if self.reply else ()
        return {pb.DegradedReason.Name(note.reason)[len("DEGRADED_REASON_") :] for note in notes}


def connect(address: str) -> grpc.aio.Channel:
    """A channel of its own connection."""
    return grpc.aio.insecure_channel(address, _OPTIONS)


def request(
    items: Sequence[str] = ("a", "b", "c"), *, user: str = "ann", query: str = "red phone",
    index: str = INDEX, deadline_ms: int = DEADLINE_MS,
) -> pb.RankRequest:  # fmt: skip
    """One that needs the index for everything but ids, and the user's events."""
    return pb.RankRequest(
        query=query,
        index=index,
        user=pb.User(id=user),
        candidates=[pb.Candidate(id=name) for name in items],
        options=pb.RankOptions(deadline_ms=deadline_ms),
    )


async def ask(
    channel: grpc.aio.Channel, requests: Sequence[pb.RankRequest], account: Account
) -> list[Outcome]:
    """All at once; each must end in time, whatever its end is."""
    stub = pb_grpc.RankingStub(channel)  # type: ignore[no-untyped-call]
    outcomes = await asyncio.gather(*(_ask(stub, one) for one in requests))
    for outcome, one in zip(outcomes, requests, strict=True):
        account.asked += 1
        account.ended[outcome.status] += 1
        account.slowest_s = max(account.slowest_s, outcome.seconds)
        allowed = (one.options.deadline_ms or DEADLINE_MS) / 1_000 + TOLERANCE_S
        if outcome.seconds > allowed:
            account.lost += 1
        assert outcome.seconds <= allowed, f"{outcome.status} after {outcome.seconds:.2f} s"
    return outcomes


async def _ask(stub: Any, one: pb.RankRequest) -> Outcome:
    begin = time.monotonic()
    try:
        reply = await stub.Rank(one, timeout=_PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        spent = time.monotonic() - begin
        return Outcome(error.code().name, spent, None, error.details() or "")
    return Outcome("OK", time.monotonic() - begin, reply)
