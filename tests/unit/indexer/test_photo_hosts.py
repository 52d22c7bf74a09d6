"""Machines that photos come from: when one is asked, and when not."""

import pytest
import urllib3
from urllib3 import exceptions

from indexer.photo_hosts import Hosts, SilentHost

POOL = urllib3.HTTPConnectionPool("photos.example")
UNANSWERED = [
    TimeoutError("after 60 seconds"),
    exceptions.ReadTimeoutError(POOL, "/a", "read timed out"),
    exceptions.MaxRetryError(POOL, "/a", exceptions.ConnectTimeoutError(POOL, "timed out")),
    exceptions.ProtocolError("reset"),
]
ANSWERED = [
    exceptions.MaxRetryError(POOL, "/a", exceptions.ResponseError("too many 503")),
    exceptions.LocationParseError("http://["),
]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(hosts: Hosts, error: Exception | None = None, host: str = "photos.example") -> None:
    with hosts.asking(host):
        if error:
            raise error


def fail(hosts: Hosts, error: Exception, times: int) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            ask(hosts, error)


@pytest.mark.parametrize("error", UNANSWERED, ids=lambda error: type(error).__name__)
def test_after_sixteen_without_an_answer_it_is_asked_once_a_minute(error: Exception) -> None:
    clock = Clock()
    hosts = Hosts(clock)
    fail(hosts, error, 16)
    with pytest.raises(SilentHost, match=r"^photos\.example gave no answer to 16 requests"):
        ask(hosts)
    ask(hosts, host="other.example")
    clock.now += 60.0
    fail(hosts, error, 1)
    with pytest.raises(SilentHost, match="17 requests"):
        ask(hosts)
    clock.now += 60.0
    ask(hosts)  # it answers again
    fail(hosts, error, 15)
    ask(hosts)


def test_while_one_asks_a_silent_machine_the_others_do_not_wait() -> None:
    clock = Clock()
    hosts = Hosts(clock)
    fail(hosts, TimeoutError(), 16)
    clock.now += 61.0
    with hosts.asking("photos.example"), pytest.raises(SilentHost):
        ask(hosts)
    ask(hosts)


@pytest.mark.parametrize("error", ANSWERED, ids=lambda error: type(error).__name__)
def test_a_machine_that_answers_with_errors_is_asked_each_time(error: Exception) -> None:
    hosts = Hosts(Clock())
    fail(hosts, TimeoutError(), 15)
    fail(hosts, error, 40)
    fail(hosts, TimeoutError(), 15)
    ask(hosts)
