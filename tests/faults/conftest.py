"""Real sidecar processes with tiny models, a scripted OpenSearch, and the account of all of it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.faulty import FaultProxy
from bench.running import Running
from bench.scripted import Shop, Site
from neuralrank.bundles.registry import Registry
from tests.faults.account import Account
from tests.unit.conftest import HIDDEN, tiny_bundle

_ACCOUNT = pytest.StashKey[Account]()
START = Callable[..., Running]

PRODUCTS = {
    "a": {"title": "red phone", "brand": "acme", "in_stock": True},
    "b": {"title": "blue phone", "brand": "other", "in_stock": True},
    "c": {"title": "red kettle", "brand": "acme", "in_stock": True},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    # Known where pytest is given this folder; `make test` goes through all of them, and leaves the
    # file alone, as do tries by hand.
    parser.addoption("--publish", action="store_true", help="write bench/results/faults.json")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ACCOUNT] = Account()


@pytest.fixture(scope="session")
def account(pytestconfig: pytest.Config) -> Account:
    """Of this run; printed at its end."""
    return pytestconfig.stash[_ACCOUNT]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    account = config.stash.get(_ACCOUNT, None)
    if account and account.injected:
        terminalreporter.write_line(account.line)
        if config.getoption("publish", default=False):
            file = account.report().write()
            terminalreporter.write_line(f"written to bench/results/{file.name}")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder and a tiny cross-encoder."""
    folder = tmp_path_factory.mktemp("registry")
    made = Registry(str(folder / "models"))
    for kind in ("encoder", "cross_encoder"):
        made.publish(tiny_bundle(folder / kind, kind))
    return str(folder / "models")


@pytest.fixture(scope="session")
def encoder(registry: str) -> str:
    return Registry(registry).get("tiny-encoder").ref


@pytest.fixture
def shop(encoder: str) -> Shop:
    shop = Shop(PRODUCTS, encoder, HIDDEN)
    shop.add("ann", "view", "c", 1)
    return shop


@pytest.fixture
async def opensearch(shop: Shop) -> AsyncIterator[FaultProxy]:
    """The shop behind a proxy that is in order until told otherwise."""
    async with Site(shop.app()) as site, FaultProxy(site.url) as proxy:
        yield proxy


@pytest.fixture
def start(tmp_path: Path, registry: str, opensearch: FaultProxy) -> Iterator[START]:
    """Starts sidecars that cache nothing of OpenSearch; they are ended with the test."""
    with ExitStack() as stack:

        def started(**settings: Any) -> Running:
            given = {
                "log": tmp_path / "sidecar.log",
                "opensearch_url": opensearch.url,
                "registry": registry,
                "registry_poll_seconds": 0.2,
                "opensearch_timeout_ms": 200,
                "opensearch_read_ms": 400,
                "item_ttl_seconds": 0,
                "index_ttl_seconds": 0,
                "user_ttl_seconds": 0,
                "drain_seconds": 2,
                # These tests ask for a clear answer while the machine may be busy with others.
                "max_busy_percent": 100,
            }
            return stack.enter_context(Running(**(given | settings)))

        yield started
