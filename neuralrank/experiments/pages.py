"""The pages of an experiment and what users did on them, read from OpenSearch's UBI indexes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.experiments.attributes import ARM, ARMS, EXPERIMENT, TEAMS
from neuralrank.ubi.fields import require_fields
from neuralrank.ubi.rows import Row, Skipped, acts, during, joined, read_rows

__all__ = ["ACTIONS", "Page", "read_pages"]

# What is counted, under the names that reports have.
ACTIONS: Final = {"click": "clicks", "add_to_cart": "carts", "purchase": "purchases"}


@dataclass(frozen=True, slots=True)
class Page:
    """One page that took part. `done` counts the items that were acted on, each once, by action and
    by whose they are: the page's `arm`, or "A" and "B" of an interleaved one (`arm` is "")."""

    user: str
    arm: str
    done: Counter[tuple[str, str]]


def read_pages(
    client: OpenSearch, experiment: str, skipped: Skipped, *, since: str = "", until: str = ""
) -> Iterator[Page]:
    """The pages of an experiment, in no particular order.

    Args:
        since, until: ISO 8601, or OpenSearch's date math ("now-30d"); empty: no bound. Of queries
            and of events.

    Raises:
        NotFound: there are no UBI indexes.
        InvalidInput: OpenSearch does not accept `since` or `until`.
        Unsupported: an index has ids or times of a type that can't be read in order.
    """
    named = f"query_attributes.{EXPERIMENT}"
    require_fields(client, ubi.QUERIES_INDEX, "timestamp", "query_id", named)
    require_fields(client, ubi.EVENTS_INDEX, "timestamp", "query_id", "action_name")
    then = during(since, until)
    of_it = [*then, {"term": {named: experiment}}]
    acted = [*then, {"terms": {"action_name": list(ACTIONS)}}]
    queries = read_rows(
        client,
        ubi.QUERIES_INDEX,
        of_it,
        ["query_id", "user_id", "client_id", "query_attributes", "query_response_hit_ids"],
    )
    events = read_rows(client, ubi.EVENTS_INDEX, acted, ["query_id", "action_name", ubi.ITEM_PATH])
    try:
        for query_rows, event_rows in joined(queries, events):
            if query_rows:
                page = _page(query_rows, event_rows, skipped)
                if page is not None:
                    yield page
    except NotFound as error:
        raise NotFound(
            f"There is no index {ubi.QUERIES_INDEX} or {ubi.EVENTS_INDEX}: {error} Create them "
            "with `neuralrank config apply`, and log what users see and do (docs/experiments.md)."
        ) from error


def _page(queries: Sequence[Row], events: Sequence[Row], skipped: Skipped) -> Page | None:
    try:
        shown = [ubi.Query.from_row({**row, "timestamp": 0}) for row in queries]
    except InvalidInput:
        skipped["pages whose query is not UBI"] += 1
        return None
    users = {query.user_id or query.client_id for query in shown} - {""}
    arms = {query.query_attributes.get(ARM, "") for query in shown}
    if len(users) != 1:
        skipped["pages of no user, or of several"] += 1
        return None
    if len(arms) != 1 or not arms <= {"", *ARMS}:
        skipped["pages of several arms, or of an unknown one"] += 1
        return None
    (arm,) = arms
    owners: dict[str, str] = {}
    if not arm:
        for query in shown:
            teams = query.query_attributes.get(TEAMS, "")
            if len(teams) != len(query.query_response_hit_ids) or not teams:
                skipped["interleaved pages whose teams don't fit query_response_hit_ids"] += 1
                return None
            owners.update(zip(query.query_response_hit_ids, teams, strict=True))
    # Each item once: who clicks twice does not like it twice.
    done = {(event.action_name, event.item_id) for event in acts(events, skipped)}
    counts: Counter[tuple[str, str]] = Counter()
    for action, item in done:
        owner = arm or owners.get(item, "")
        if owner in ARMS:
            counts[ACTIONS[action], owner] += 1
        else:
            skipped["events on items that no arm has put on the page"] += 1
    return Page(users.pop(), arm, counts)
