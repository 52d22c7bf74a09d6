"""The files for OpenSearch's own rerank processor, against what ML Commons does with them.

Its side is written down from its sources: `CohereRerankPreProcessFunction`, which gives query,
documents and `top_n` (their number) as parameters, each escaped for JSON; the connector, which
puts them into `request_body`; and `CohereRerankPostProcessFunction`, which casts `index` to Integer
and `relevance_score` to Double, and has one slot for each result.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sidecar.parts import Bench, WordJudge
from tests.unit.sidecar.web import web

FOLDER = Path(__file__).resolve().parents[2] / "examples/ml_commons"
FILES = {file.stem: json.loads(file.read_text()) for file in FOLDER.glob("*.json")}
ACTION = FILES["connector"]["actions"][0]


def filled(template: str, query: str, documents: list[str]) -> str:
    values = {
        "query": json.dumps(query)[1:-1],
        "documents": json.dumps(documents),
        "top_n": str(len(documents)),
        "endpoint": FILES["connector"]["parameters"]["endpoint"],
    }
    return re.sub(r"\$\{parameters\.(\w+)\}", lambda name: values[name[1]], template)


def post_processed(body: str) -> list[float]:
    """Scores by document, as the post-process function gives them."""
    results: list[dict[str, Any]] = json.loads(body)["results"]
    scores: list[float | None] = [None] * len(results)
    for row in results:
        assert type(row["index"]) is int
        assert type(row["relevance_score"]) is float
        scores[row["index"]] = row["relevance_score"]
    return [score for score in scores if score is not None]


@pytest.mark.parametrize(
    ("query", "documents"),
    [
        ("red kettle", ["blue phone", "red kettle", "red phone"]),
        ('a "red"\tkettle \\', ['"quoted" kettle', "", "tab\there"]),
        ("红 kettle", ["红", "blue"]),
    ],
)
async def test_the_connector_s_request_is_answered_as_ml_commons_reads_it(
    query: str, documents: list[str]
) -> None:
    bench = Bench(judge=WordJudge())
    url = filled(ACTION["url"], query, documents)
    try:
        async with web(bench) as client:
            answer = await client.post(
                url.removeprefix(FILES["connector"]["parameters"]["endpoint"]),
                content=filled(ACTION["request_body"], query, documents).encode(),
                headers=ACTION["headers"],
            )
    finally:
        await bench.close()
    assert answer.status_code == 200, answer.text
    scores = post_processed(answer.text)
    assert len(scores) == len(documents)
    if query == "red kettle":
        assert scores.index(max(scores)) == 1


def test_the_files_fit_each_other() -> None:
    assert ACTION["pre_process_function"] == "connector.pre_process.cohere.rerank"
    assert ACTION["post_process_function"] == "connector.post_process.cohere.rerank"
    assert set(re.findall(r"credential\.(\w+)", ACTION["headers"]["Authorization"])) == set(
        FILES["connector"]["credential"]
    )
    url = filled(ACTION["url"], "", [])
    trusted = FILES["cluster_settings"]["persistent"][
        "plugins.ml_commons.trusted_connector_endpoints_regex"
    ]
    assert any(re.fullmatch(pattern, url) for pattern in trusted)
    # The sidecar answers before ML Commons gives up.
    seconds = FILES["connector"]["client_config"]["read_timeout"]
    assert int(ACTION["headers"]["X-Request-Timeout-Ms"]) < 1_000 * seconds
    # In seconds too: of milliseconds it would be a quarter of an hour.
    assert FILES["connector"]["client_config"]["connection_timeout"] <= seconds
    assert FILES["model"]["connector_id"] == "CONNECTOR_ID"
    processor = FILES["pipeline"]["response_processors"][0]["rerank"]
    assert processor["ml_opensearch"]["model_id"] == "MODEL_ID"
    assert FILES["search"]["ext"]["rerank"]["query_context"]["query_text"]
