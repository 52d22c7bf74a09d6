"""Who is asking, and whether this request is let in. The same for gRPC and HTTP."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NoReturn

from neuralrank.errors import (
    DeadlineExceeded,
    NeuralrankError,
    Overloaded,
    RateExceeded,
    Unauthenticated,
    Unavailable,
)
from sidecar.access.addresses import canonical
from sidecar.access.busy import Busy
from sidecar.access.effort import Effort
from sidecar.access.limits import CallerLimits
from sidecar.access.refusals import Refusals
from sidecar.access.tokens import Tokens
from sidecar.access.turns import Turns
from sidecar.deadline import Clock, Deadline
from sidecar.settings import SidecarSettings
from sidecar.sizes import LARGE_BYTES
from sidecar.telemetry.calls import current
from sidecar.telemetry.metrics import Metrics

__all__ = ["Admission", "Place"]

# Of the time that a request has, the share for which it may wait to be let in: what is left must do
# for an answer (docs/decisions/007-one-queue.md).
_PATIENCE: Final = 0.25
# Of its time, the share that the loop is at work where it is never idle: then requests wait in
# gRPC, where nothing is seen of them. Where answers are known already, each is in work for a moment
# only, and the next one finds none beside it.
_NEVER_IDLE: Final = 0.97
# Seconds after which one is let in all the same: callers that ask again at once keep a loop at work
# with refusals alone.
_AT_LEAST: Final = 0.02


class Admission:
    """Names the caller of each request, and refuses what is over a limit before it costs anything.

    A caller is its token's name, else the subject of its certificate, else its address.
    """

    def __init__(self, settings: SidecarSettings, metrics: Metrics, clock: Clock) -> None:
        """
        Raises:
            InvalidSettings: the file of tokens can't be used.
        """
        self._metrics = metrics
        self._max_in_flight = settings.max_in_flight
        self._max_busy = settings.max_busy_percent / 100
        self.busy = Busy(clock, metrics.worked)
        metrics.watch_busy(lambda: self.busy.share)
        self._effort = Effort(lambda: self.busy.total)
        self._tokens = Tokens(Path(settings.tokens), clock) if settings.tokens else None
        self._refusals = Refusals(clock)
        self._turns = Turns(settings.max_in_flight)
        # Seconds that a request has, where it says nothing else.
        self._usual = settings.deadline_ms / 1_000
        self._limits = CallerLimits(
            rate=settings.caller_rate,
            burst=settings.caller_burst,
            concurrency=settings.caller_concurrency,
            clock=clock,
        )
        self._in_flight = 0
        self._clock = clock
        # When a request was let in last.
        self._let_in_at = -math.inf
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def caller(self, authorization: str, subject: str, peer: str) -> str:
        """Who asks. Noted in the current call too, where it has shown a token or a certificate: an
        address may be that of many, and none of them should have to share what one caller gets.

        Args:
            authorization: the `authorization` header; "" where there is none.
            subject: the common name of a certificate that TLS has verified; "" for none.
            peer: the address of the other end, without its port, as the server has it.

        Raises:
            Unauthenticated: tokens are needed, and this is none of them.
        """
        try:
            shown = subject if self._tokens is None else self._tokens.caller(authorization)
        except Unauthenticated as error:
            self._metrics.refused("unauthenticated")
            self._refusals.note(error, canonical(peer))
            raise
        if (call := current()) is not None:
            call.caller = shown
        return shown or canonical(peer)

    async def turn(self, deadline: Deadline, size: int) -> None:
        """Waits while too many are in work, for a quarter of the request's time at most. To be
        awaited before `admitted`, which refuses it where there is still no room.

        Args:
            deadline: as far as it is known before the request is decoded.
            size: of its message, in bytes. One that is large doesn't wait: it would take memory.
        """
        left = deadline.remaining()
        if self._closed or not left or size > LARGE_BYTES or not self._full(left):
            return
        until = Deadline.after(_PATIENCE * min(left, self._usual), deadline.clock)
        with self._metrics.waiting.track_inprogress():
            try:
                while await self._turns.wait(until.remaining()):
                    if not self._full(deadline.remaining()):
                        return
            except asyncio.CancelledError:
                self._let_in()  # it may have been its turn
                raise

    @contextmanager
    def admitted(self, caller: str, deadline: Deadline) -> Iterator["Place"]:
        """Counts a request as in work while it is held.

        Args:
            deadline: as for `turn`.

        Raises:
            Unavailable: this sidecar is stopping.
            DeadlineExceeded: the deadline has passed.
            Overloaded: too many requests are in work, or too many to answer this one in time.
            RateExceeded: this caller has its share.
        """
        with ExitStack() as held:
            # The sidecar's own limit first: a request that is refused anyway costs the caller
            # nothing of its rate.
            self._check(deadline)
            try:
                held.enter_context(self._limits.admitted(caller))
            except RateExceeded as error:
                self._refuse("caller_limit", error)
            place = Place(self, caller, self._in_flight)
            if not self._in_flight:
                self._effort.began()
            self._in_flight += 1
            self._let_in_at = self._clock()
            self._idle.clear()
            self._metrics.in_flight.inc()
            self._let_in()
            try:
                yield place
            finally:
                self._in_flight -= 1
                self._let_in()
                if not place.refused:
                    self._effort.ended()
                if not self._in_flight:
                    self._idle.set()
                self._metrics.in_flight.dec()

    @property
    def in_flight(self) -> int:
        """Requests in work."""
        return self._in_flight

    def close(self) -> None:
        """Refuses every request from now on."""
        self._closed = True
        self._turns.all()

    async def idle(self) -> None:
        """Waits until no request is in work."""
        await self._idle.wait()

    def _let_in(self) -> None:
        """One of those that wait, if there is room. When it is in, it is asked for the next."""
        if self._turns and not self._full(self._usual):
            self._turns.next()

    def _full(self, left: float) -> str:
        """Why a request that has so many seconds would be refused now; "": it would not."""
        if self._in_flight >= self._max_in_flight:
            return "in_flight"
        if self.busy.share > (self._max_busy if self._in_flight else self._max_alone()):
            return "busy"
        return "late" if self._wait(self._in_flight) > left else ""

    def _max_alone(self) -> float:
        """The share of its time that the loop may be at work for one that finds none in work."""
        lately = self._clock() - self._let_in_at < _AT_LEAST
        return max(self._max_busy, _NEVER_IDLE) if lately else 1.0

    def _wait(self, before: int) -> float:
        """Seconds that so many requests keep the loop from the next one."""
        return before * self._effort.seconds

    def _check(self, deadline: Deadline) -> None:
        if self._closed:
            self._refuse(
                "stopping",
                Unavailable("This sidecar is stopping. Ask another, or again in a moment."),
            )
        if deadline.passed:
            self._let_in()  # it may have been its turn
            self._effort.refused(late=False)
            raise DeadlineExceeded(
                "The deadline had passed when the request arrived; nothing was done. Send a "
                "longer one, and look at what delays requests on their way."
            )
        left = deadline.remaining()
        match self._full(left):
            case "in_flight":
                self._refuse(
                    "in_flight",
                    Overloaded(
                        f"{self._in_flight} requests are in work, allowed are "
                        f"{self._max_in_flight}. Try again later, or add a sidecar."
                    ),
                )
            case "busy":
                self._refuse(
                    "busy",
                    Overloaded(
                        f"The sidecar was at work for {self.busy.share:.0%} of its time, allowed "
                        f"are {self._max_busy:.0%}: more requests would only wait. Try again "
                        "later, or add a sidecar."
                    ),
                )
            case "late":
                self._refuse("late", self._late(self._in_flight, left))

    def _late(self, before: int, left: float) -> Overloaded:
        """Says that a request has too little time to wait for so many before it."""
        wait = self._wait(before)
        return Overloaded(
            f"{before} requests are in work, which take {wait * 1_000:.0f} ms of one core; for "
            f"this one there are {left * 1_000:.0f} ms. Try again later, give it a longer "
            "deadline, or add a sidecar."
        )

    def _refuse(self, reason: str, error: NeuralrankError) -> NoReturn:
        self._let_in()  # it may have been its turn
        self._effort.refused(late=reason == "late")
        self._metrics.refused(reason)
        raise error


class Place:
    """That of one request among those in work. What is known of it only once it is decoded may have
    it refused yet: then it counts as those that were refused before, and costs the caller nothing
    of its rate."""

    def __init__(self, admission: Admission, caller: str, before: int) -> None:
        """
        Args:
            before: requests in work when it was let in.
        """
        self._admission = admission
        self._caller = caller
        self._before = before
        self.refused = False

    def hold_to(self, seconds: float) -> None:
        """Asks again, now that it is known how long the request had when it was let in.

        Raises:
            Overloaded: too many were in work to answer it in that time.
        """
        if self._admission._wait(self._before) > seconds:
            self.refuse("late", self._admission._late(self._before, seconds))

    def refuse(self, reason: str, error: NeuralrankError) -> NoReturn:
        """Raises the error, and counts it."""
        self.refused = True
        self._admission._limits.give_back(self._caller)
        self._admission._refuse(reason, error)
