"""`neuralrank rank`: what it reads, and what it says when the sidecar is not there."""

import json
import struct

import pytest
from typer.testing import CliRunner

from neuralrank.cli import app, commands  # noqa: F401  registers the subcommands
from neuralrank.cli.rank import read_request
from neuralrank.client import Client
from neuralrank.errors import InvalidInput, Unavailable
from neuralrank.v1 import ranking_pb2 as pb


def read(value: object) -> pb.RankRequest:
    return read_request(json.dumps(value).encode())


def test_the_mapping_of_protobuf_is_read() -> None:
    made = read(
        {
            "query": "电脑",
            "user": {"id": "A"},
            "candidates": [{"id": "1", "retrieval_score": 2.5, "inStock": False}],
            "options": {"topK": 3, "min_score": 0.5},
        }
    )
    assert (made.query, made.user.id, made.options.top_k) == ("电脑", "A", 3)
    assert made.candidates[0].retrieval_score == 2.5
    assert not made.candidates[0].in_stock


def test_the_short_shape_is_read() -> None:
    made = read(
        {
            "query": "q",
            "user": "A",
            "candidates": [
                "just a text",
                {"id": 7, "category": "phones", "attributes": {"color": "red", "size": [1, 2]}},
                {"id": "8", "vector": [0.5, -1]},
            ],
        }
    )
    assert made.user.id == "A"
    assert (made.candidates[0].id, made.candidates[0].text) == ("0", "just a text")
    assert made.candidates[1].id == "7"
    assert list(made.candidates[1].category) == ["phones"]
    assert list(made.candidates[1].attributes["size"].values) == ["1", "2"]
    assert made.candidates[2].vector == struct.pack("<2f", 0.5, -1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "a JSON list"),
        (b'{"quary": "x"}', "quary"),
        (b'{"candidates": [{"id": "a", "price": "dear"}]}', "no RankRequest"),
        (b'{"query": 1}', r"got 'int'\. Fields are those of ranking\.proto"),
        (
            b'{"candidates": [{"id": "a", "vector": ["x"]}]}',
            "vector of candidate 'a' can't be used",
        ),
    ],
)
def test_what_is_no_request_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_request(text)


def test_a_sidecar_that_is_not_there_is_said_with_what_to_do() -> None:
    with (
        Client("127.0.0.1:1", timeout=5.0) as client,
        pytest.raises(
            Unavailable, match=r"127.0.0.1:1 can't be reached. Start it \(`neuralrank up`\)"
        ),
    ):
        client.model_status()


@pytest.mark.parametrize("option", ["--deadline-ms", "--top-k"])
def test_a_number_that_no_request_holds_is_wrong_usage(option: str) -> None:
    done = CliRunner().invoke(app, ["rank", option, "5000000000"], input="{}")
    assert done.exit_code == 2
    assert "4294967295" in done.output


def test_an_argument_that_is_no_text_is_said() -> None:
    done = CliRunner().invoke(app, ["rank", "--query", "\udcff"], input="{}")
    assert isinstance(done.exception, InvalidInput)
    assert "--query is not valid UTF-8" in str(done.exception)


def test_help_shows_an_example() -> None:
    done = CliRunner().invoke(app, ["rank", "--help"])
    assert done.exit_code == 0
    assert "neuralrank rank request.json" in done.output
