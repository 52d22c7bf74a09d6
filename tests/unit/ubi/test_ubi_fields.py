"""Types of UBI's fields in which reading would miss documents, as `_field_caps` tells them."""

from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank import ubi
from neuralrank.cli.commands import app
from neuralrank.errors import NotFound, Unsupported
from neuralrank.experiments import read_pages as experiment_pages
from neuralrank.judging import Skipped, read_pages
from neuralrank.ubi.fields import conflicts, require_fields

KEYWORD = {"keyword": {"type": "keyword"}}
TEXT = {"text": {"type": "text"}}


class Cluster:
    """Indexes by name, each with the answer for each of its fields."""

    def __init__(self, **indexes: dict[str, Any]) -> None:
        self._indexes = indexes

    def field_caps(self, index: str, params: dict[str, str]) -> dict[str, Any]:
        if index not in self._indexes:
            raise NotFound(f"no such index [{index}]")
        asked = params["fields"].split(",")
        fields = self._indexes[index]
        return {"fields": {name: fields[name] for name in asked if name in fields}}


def test_ids_as_text_and_times_as_numbers_are_named() -> None:
    client: Any = Cluster(
        ubi_events={"query_id": TEXT, "timestamp": {"long": {"type": "long"}}, "user_id": KEYWORD}
    )
    assert conflicts(client, "ubi_events", "query_id", "timestamp", "user_id", "client_id") == [
        "query_id of ubi_events is of type text; needed is keyword",
        "timestamp of ubi_events is of type long; needed is date",
    ]


def test_of_several_indexes_behind_an_alias_those_that_differ_are_named() -> None:
    mixed = {
        "keyword": {"type": "keyword", "indices": ["ubi_events-2", "ubi_events-3"]},
        "text": {"type": "text", "indices": ["ubi_events-1"]},
    }
    client: Any = Cluster(ubi_events={"query_id": mixed})
    with pytest.raises(Unsupported, match=r"query_id of ubi_events-1 is of type text.* anew"):
        require_fields(client, "ubi_events", "query_id")


def test_an_index_that_is_not_there_is_for_others_to_say() -> None:
    require_fields(Cluster(), "ubi_events", "query_id")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [ubi.QUERIES_INDEX, ubi.EVENTS_INDEX])
def test_judgments_and_experiments_refuse_what_they_would_miss(index: str) -> None:
    client: Any = Cluster(**{index: {"query_id": TEXT}})
    for pages in (read_pages(client, Skipped()), experiment_pages(client, "x", Skipped())):
        with pytest.raises(Unsupported, match=f"query_id of {index} is of type text"):
            next(pages)


def test_the_name_of_an_experiment_must_be_found_as_a_whole() -> None:
    client: Any = Cluster(ubi_queries={"query_attributes.experiment": TEXT})
    with pytest.raises(Unsupported, match=r"needed is flat_object or keyword"):
        next(experiment_pages(client, "more-affinity", Skipped()))


def test_what_is_logged_into_such_an_index_comes_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client: Any = Cluster(ubi_events={"user_id": TEXT})
    client.close = lambda: None
    monkeypatch.setattr("neuralrank.cli.feedback.connect", lambda *_: client)
    monkeypatch.setattr("neuralrank.cli.feedback.bulk_write", lambda *_, **__: [])
    monkeypatch.setattr("opensearch_config.apply_ubi", lambda *_: [])
    command = ["feedback", "log", "--user", "U-17", "--action", "click", "--item", "a"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "user_id of ubi_events is of type text; needed is keyword" in done.stderr
    assert "profiles" in done.stderr
