"""A shop whose products are in Chinese, where nothing was said of models."""

import json

import pytest

from neuralrank.settings import Settings
from tests.e2e.shop import EXAMPLES, Shop

INDEX = "e2e_goods"


@pytest.fixture(scope="module")
def shop(stack: Settings) -> Shop:
    made = Shop(stack)
    catalogue = str(EXAMPLES / "goods_zh" / "catalogue.jsonl.gz")
    done = made.run("index", catalogue, "--index", INDEX, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["encoder"].startswith("bge-small-zh@")
    # The stack's sidecar reads the registry to which it was just added.
    assert summary["warnings"] == []
    return made


def test_it_is_searched_by_the_encoder_for_chinese(shop: Shop) -> None:
    # "Pans to cook with", words that no product has.
    page = shop.json("search", INDEX, "做饭的锅子", "--size", "3")
    assert all("锅" in hit["title"] for hit in page["hits"])
    assert all(hit["parts"]["relevance"] > 0 for hit in page["hits"])


def test_similar_items_go_by_its_vectors(shop: Shop) -> None:
    pan = shop.json("search", INDEX, "做饭的锅子", "--size", "1")["hits"][0]["id"]
    page = shop.json("similar", INDEX, pan, "--size", "3")
    assert all("锅" in hit["title"] for hit in page["hits"])


def test_the_encoder_is_told_and_can_be_named(shop: Shop) -> None:
    listed = shop.run("models", "list").stdout
    assert "bge-small-zh@" in listed
    again = shop.run("reencode", INDEX)
    assert again.returncode != 0
    assert "holds vectors of bge-small-zh@" in again.stderr


def test_an_index_without_vectors_gets_those_of_the_same_encoder(shop: Shop) -> None:
    name = f"{INDEX}_text"
    catalogue = str(EXAMPLES / "goods_zh" / "catalogue.jsonl.gz")
    done = shop.run("index", catalogue, "--index", name, "--no-vectors", "--json")
    assert done.returncode == 0, done.stderr
    done = shop.run("reencode", name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["encoder"].startswith("bge-small-zh@")
    page = shop.json("search", name, "做饭的锅子", "--size", "3")
    assert all("锅" in hit["title"] for hit in page["hits"])
