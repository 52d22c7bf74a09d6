"""What one caller may ask: a rate (token bucket) and a number of requests at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cachetools import LRUCache
from pyrate_limiter import AbstractClock, Rate, RateItem, StateBucket, TokenBucket

from neuralrank.errors import RateExceeded
from sidecar.deadline import Clock

__all__ = ["CallerLimits"]

# Callers without a token are addresses, and there can be any number of those.
_CALLERS: Final = 10_000
# The bucket counts whole units in an interval; a minute allows for rates below one a second.
_INTERVAL_MS: Final = 60_000


class _Milliseconds(AbstractClock):
    """The injected clock as the bucket wants it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> int:
        return int(self._clock() * 1_000)


class CallerLimits:
    """Each caller's own limits, so that one that asks too much is refused and others are served.

    They are this process's: with several processes or replicas, each allows as much.
    """

    def __init__(self, *, rate: float, burst: int, concurrency: int, clock: Clock) -> None:
        """
        Args:
            rate: requests a second that a caller may make in the long run; 0: any.
            burst: requests that it may make at once after a pause. 0: what `rate` allows in one
                second, at least 1.
            concurrency: its requests in work at the same time; 0: any.
        """
        self._rate = rate
        self._burst = burst or max(1, round(rate))
        self._concurrency = concurrency
        self._clock = _Milliseconds(clock)
        self._buckets: LRUCache[str, StateBucket] = LRUCache(_CALLERS)
        self._in_work: Counter[str] = Counter()
        # Of each caller the requests that were given back: they cost nothing the next time.
        self._given_back: LRUCache[str, int] = LRUCache(_CALLERS)

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Counts one request of a caller as in work while it is held.

        Raises:
            RateExceeded: it is one too many; the message says what is allowed and when to come
                back.
        """
        if not self._concurrency:
            self._spend(caller)
            yield
            return
        in_work = self._in_work[caller]
        if in_work >= self._concurrency:
            raise RateExceeded(
                f"{in_work} requests of {caller!r} are in work, allowed are {self._concurrency} at "
                "once. Send the next one when one of them is answered."
            )
        self._spend(caller)
        self._in_work[caller] += 1
        try:
            yield
        finally:
            self._in_work[caller] -= 1
            if not self._in_work[caller]:
                del self._in_work[caller]

    def give_back(self, caller: str) -> None:
        """Of its rate, one request that was let in and then refused for no fault of the caller."""
        if self._rate:
            self._given_back[caller] = self._given_back.get(caller, 0) + 1

    def _spend(self, caller: str) -> None:
        if not self._rate:
            return
        if more := self._given_back.pop(caller, 0):
            if more > 1:
                self._given_back[caller] = more - 1
            return
        bucket = self._buckets.get(caller)
        if bucket is None:
            limit = max(1, round(self._rate * _INTERVAL_MS / 1_000))
            rate = Rate(limit, _INTERVAL_MS, burst=self._burst)
            bucket = StateBucket([rate], TokenBucket(), clock=self._clock)
            self._buckets[caller] = bucket
        item = RateItem(caller, self._clock.now())
        if bucket.put(item):
            return
        wait = bucket.waiting(item)
        assert isinstance(wait, int)  # it is awaitable for remote stores only
        seconds = wait / 1_000
        raise RateExceeded(
            f"{caller!r} asks too often; allowed are {self._rate:g} requests a second, and "
            f"{self._burst} at once after a pause. Come back in {seconds:.3f} s.",
            retry_after=seconds,
        )
