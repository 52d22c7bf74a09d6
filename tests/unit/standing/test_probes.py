"""What a user did with items, as `explain` shows it."""

from typing import Any

from neuralrank.standing import events_of


class Client:
    """Answers every search with these documents."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self.documents = documents

    def search(self, **_: Any) -> dict[str, Any]:
        return {"hits": {"hits": [{"_source": document} for document in self.documents]}}


def test_events_of_any_shape_are_shown_with_the_items_that_were_asked_for() -> None:
    flat = {"action_name": "view", "event_attributes.object.object_id": "A"}
    ids = {"object_id": ["A", "B", "C"]}
    basket = {"action_name": "purchase", "event_attributes": {"object": ids}}
    rows = events_of(Client(flat, basket), "ann", ["A", "C"])  # type: ignore[arg-type]
    assert [(row["id"], row["action"]) for row in rows] == [
        ("A", "view"), ("A", "purchase"), ("C", "purchase"),
    ]  # fmt: skip
