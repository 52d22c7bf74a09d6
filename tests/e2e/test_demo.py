"""`make demo`'s script runs on the real stack, and again without doing the work again."""

import subprocess
import sys

import pytest

from neuralrank.settings import Settings
from tests.e2e.shop import EXAMPLES, Shop


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    return Shop(stack)


def demo(shop: Shop, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--limit", "40", *arguments],
        cwd=EXAMPLES.parent,
        env=shop.environment | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_demo_shows_one_query_four_ways_and_says_how_to_stop(shop: Shop) -> None:
    done = demo(shop)
    assert done.returncode == 0, done.stderr
    for text in (
        "$ neuralrank index",
        "lexical",
        "recall with vectors",
        "re-ranked for A",
        "re-ranked for B",
        "Why, re-ranked for A:",
        "A left out, purchased",
        "C left out, purchased",
        shop.settings.opensearch_url,
        shop.settings.sidecar,
        "make down",
    ):
        assert text in done.stdout

    again = demo(shop, "--size", "3")
    assert again.returncode == 0, again.stderr
    assert "$ neuralrank index" not in again.stdout
    assert again.stdout.count("are indexed already") == 3


def test_the_demo_without_a_stack_says_what_to_do(shop: Shop) -> None:
    done = demo(shop, NEURALRANK_OPENSEARCH_URL="http://127.0.0.1:1")
    assert done.returncode == 5
    assert "neuralrank up" in done.stderr
    assert "Traceback" not in done.stderr
