"""`neuralrank feedback`: what users did, into OpenSearch's UBI indexes."""

import difflib
import itertools
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.console import plain_console
from neuralrank.errors import InvalidInput, NotFound, Unavailable
from neuralrank.files.zipped import read_lines
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.writing import bulk_write
from neuralrank.settings import load_settings
from neuralrank.ubi.fields import USERS, conflicts, require_fields
from neuralrank.ubi.rows import read_rows

__all__ = ["feedback"]

_BATCH = 1000
# How many queries are asked for at once; OpenSearch allows 65,536.
_IDS = 10_000
# How often documents that change while they are deleted are tried again.
_ATTEMPTS = 5
# Without any feedback there is nothing to delete.
_MAYBE_ABSENT = {"ignore_unavailable": "true"}

feedback = typer.Typer(
    help="User behaviour (OpenSearch UBI 1.3): load it, or log one event.", no_args_is_help=True
)


@feedback.command()
def load(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="UBI documents as NDJSON, also gzip: bulk format, or one event or query a line.",
        ),
    ],
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where lines that are no UBI documents go, as JSON Lines of line, reason and row. "
            "Default: <name of FILE>.rejects.jsonl in the working folder.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Loads UBI queries and events into ubi_queries and ubi_events.

    Example: neuralrank feedback load examples/events/ubi.ndjson

    A document keeps the _id of its bulk action; one without gets an id from its content. So a file
    can be loaded again without counting anything twice.
    """
    from indexer import Rejects
    from opensearch_config import apply_ubi

    if not file.is_file():
        raise NotFound(f"There is no file {file}. Name a file of UBI documents (.ndjson, .jsonl).")
    where = rejects or Path(f"{file.name.removesuffix('.gz')}.rejects.jsonl")
    written = {ubi.QUERIES_INDEX: 0, ubi.EVENTS_INDEX: 0}
    rejected = 0
    refused = Rejects(where, file)
    with closing(connect(load_settings(), timeout=60.0)) as client, refused:
        apply_ubi(client, config_folder())
        warnings = _warned(client, *written)
        documents = ubi.parse(read_lines(file))
        while batch := list(itertools.islice(documents, _BATCH)):
            records = [item for item in batch if isinstance(item, ubi.Record)]
            for item in batch:
                if isinstance(item, ubi.Rejected):
                    refused.write(item.line, item.reason, item.row)
            for index in written:
                mine = {record.id: record for record in records if record.index == index}
                outcome = bulk_write(client, index, [(r.id, r.document) for r in mine.values()])
                for problem in outcome:
                    record = mine.pop(problem.id)
                    refused.write(
                        record.line, f"OpenSearch refused it: {problem.reason}", record.document
                    )
                written[index] += len(mine)
        client.indices.refresh(index=",".join(written))
        rejected = refused.count
    if not sum(written.values()):
        raise InvalidInput(
            f"{file} holds no UBI document"
            + (f"; {where} says why, line by line." if rejected else ": it is empty.")
        )
    summary = {
        "queries": written[ubi.QUERIES_INDEX],
        "events": written[ubi.EVENTS_INDEX],
        "rejected": rejected,
        "rejects": str(where) if rejected else "",
        "warnings": warnings,
    }
    if as_json:
        print_json_line(summary)
        return
    out = plain_console()
    out.print(f"{summary['queries']:,} queries and {summary['events']:,} events written.")
    if rejected:
        out.print(f"{rejected:,} lines rejected: see {where}.")


@feedback.command()
def log(
    user: Annotated[str, typer.Option("--user", "-u", help="Who: becomes user_id.")],
    action: Annotated[
        str, typer.Option(help=f"What: {', '.join(ubi.ACTIONS)}, or a name of your own.")
    ],
    item: Annotated[
        str, typer.Option(help="On which item: its id in the product index. Empty: none.")
    ] = "",
    query: Annotated[str, typer.Option(help="What the user had typed. Empty: no search.")] = "",
    query_id: Annotated[str, typer.Option(help="The query_id in ubi_queries.")] = "",
    client: Annotated[str, typer.Option(help="The browser or device: becomes client_id.")] = "",
    session: Annotated[str, typer.Option(help="The visit: becomes session_id.")] = "",
    position: Annotated[
        int | None, typer.Option(min=0, help="The item's place in the result list.")
    ] = None,
    application: Annotated[str, typer.Option(help="Which application.")] = "neuralrank",
    index: Annotated[
        str, typer.Option("--index", help="Check that the item is in this product index.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Logs one event; the very next search sees it.

    Example: neuralrank feedback log --user A --action click --item laptop-thinkpad-x1 --query 电脑
    """
    from opensearch_config import apply_ubi

    if not user.strip():
        raise InvalidInput("--user is empty. Name the user whose event it is.")
    event = ubi.Event.from_row(
        {
            "action_name": action,
            "user_id": user,
            "client_id": client,
            "session_id": session,
            "query_id": query_id,
            "user_query": query,
            "application": application,
            "event_attributes": {
                "object": {"object_id": item or None, "object_id_field": "id" if item else None},
                "position": {"ordinal": position},
            },
        }
    )
    row = event.document()
    identity = ubi.content_id(row)
    with closing(connect(load_settings())) as opensearch:
        if index and item and not opensearch.exists(index=index, id=item):
            raise NotFound(
                f"There is no item {item!r} in index {index!r}. Name one that is there, or leave "
                "out --index to log it anyway."
            )
        apply_ubi(opensearch, config_folder())
        warnings = [*_unknown(action), *_warned(opensearch, ubi.EVENTS_INDEX)]
        refused = bulk_write(opensearch, ubi.EVENTS_INDEX, [(identity, row)], refresh=True)
    if refused:
        raise InvalidInput(f"OpenSearch refused the event: {refused[0].reason}.")
    if as_json:
        print_json_line({"id": identity, "event": row, "warnings": warnings})
    else:
        on = f" on {item}" if item else ""
        plain_console().print(f"Logged: {user} {action}{on}.", highlight=False)


@feedback.command()
def forget(
    users: Annotated[
        list[str],
        typer.Argument(
            metavar="USER...",
            help="Whose events go: user ids, and client ids of their devices from before they "
            "signed in.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be deleted, and delete nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Deletes everything that OpenSearch keeps of a user: events and queries in the UBI indexes.

    Example: neuralrank feedback forget A device-7

    A query without a user_id, as UBI's own clients write them, goes where one of the user's events
    has its query_id.

    In OpenSearch and the sidecars nothing else is stored of a user. A sidecar knows nothing of them
    as soon as it reads again: NEURALRANK_SIDECAR_USER_TTL_SECONDS, a quarter of a second by
    default; where it can't read, ten minutes after it last did. Folders of `neuralrank train` hold
    ids of users, and are yours to delete (docs/security.md).
    """
    if not all(user.strip() for user in users):
        raise InvalidInput("A user is empty. Name the users whose events are to be deleted.")
    if too_long := [user for user in users if len(user) > ubi.MAX_USER]:
        raise InvalidInput(
            f"{too_long[0][:20]!r}… has {len(too_long[0])} characters, and ids longer than "
            f"{ubi.MAX_USER} are not indexed: no search finds their documents. Delete those by "
            "_id. Nothing was deleted."
        )
    which = ubi.user_events(*users)
    count = _count if dry_run else _delete
    # Longer than other commands: it goes through all that the user did.
    with closing(connect(load_settings(), timeout=600.0)) as client:
        for index in (ubi.EVENTS_INDEX, ubi.QUERIES_INDEX):
            require_fields(client, index, "query_id", *USERS)
        queries = count(client, ubi.QUERIES_INDEX, which)
        for led in _led_to_events(client, users, which):
            queries += count(client, ubi.QUERIES_INDEX, led)
        # Last: they say which queries were the user's, also to who runs this again after a failure.
        deleted = {"events": count(client, ubi.EVENTS_INDEX, which), "queries": queries}
    if as_json:
        print_json_line(deleted | {"dry_run": dry_run})
        return
    what = f"{deleted['events']:,} events and {deleted['queries']:,} queries"
    plain_console().print(f"{what} would be deleted." if dry_run else f"{what} deleted.")


def _unknown(action: str) -> list[str]:
    """What there is to say of an action of one's own, which may be a typo; to stderr, too."""
    known = (*ubi.ACTIONS, *ubi.BLOCKS)
    if action in known:
        return []
    near = difflib.get_close_matches(action.casefold(), known)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    text = f"The action {action!r} is one of your own, which counts as a view.{hint}"
    print(f"neuralrank: {text}", file=sys.stderr)
    return [text]


def _warned(client: OpenSearch, *indexes: str) -> list[str]:
    """What is written into these indexes and can't be found there, in words; to stderr, too."""
    told = [
        f"{problem}: what is written is kept, and profiles, judgments and experiments miss it "
        "(`neuralrank config diff`)"
        for index in indexes
        for problem in conflicts(client, index, "timestamp", "query_id", "action_name", *USERS)
    ]
    for text in told:
        print(f"neuralrank: {text}", file=sys.stderr)
    return told


def _led_to_events(
    client: OpenSearch, users: list[str], which: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The searches for queries that led to the users' events, and are nobody else's; without those
    that the users are named in.

    Args:
        which: the users' documents.
    """
    others = {
        "bool": {
            "filter": [{"exists": {"field": "user_id"}}],
            "must_not": [{"terms": {"user_id": ["", *users]}}],
        }
    }
    client.indices.refresh(index=ubi.EVENTS_INDEX, params=_MAYBE_ABSENT)
    rows = read_rows(client, ubi.EVENTS_INDEX, [which], ["query_id"])
    # They come in the order of their ids.
    ids = (name for name, _ in itertools.groupby(str(row["query_id"]) for row in rows))
    try:
        while some := list(itertools.islice(ids, _IDS)):
            led = {"terms": {"query_id": some}}
            yield {"bool": {"filter": [led], "must_not": [others, which]}}
    except NotFound:
        return  # no events, and so no queries that led to any


def _count(client: OpenSearch, index: str, which: dict[str, Any]) -> int:
    client.indices.refresh(index=index, params=_MAYBE_ABSENT)
    found = client.count(index=index, body={"query": which}, params=_MAYBE_ABSENT)
    return int(found["count"])


def _delete(client: OpenSearch, index: str, which: dict[str, Any]) -> int:
    """How many documents were deleted: all that were there when it began, and all since."""
    deleted = 0
    for _ in range(_ATTEMPTS):
        # What is not searchable yet would not be found.
        client.indices.refresh(index=index, params=_MAYBE_ABSENT)
        answer = client.delete_by_query(
            index=index,
            body={"query": which},
            # One that changes meanwhile is found by the next attempt.
            params={**_MAYBE_ABSENT, "conflicts": "proceed", "refresh": "true"},
        )
        deleted += int(answer["deleted"])
        if not answer["version_conflicts"] and not answer["failures"]:
            return deleted
    raise Unavailable(
        f"{deleted} documents of {index} were deleted, and some were being changed each time. Run "
        "the command again."
    )
