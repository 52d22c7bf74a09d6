"""The folder of one pull.

pull.json             `Pulled`: the window, whether it is complete, the counts
queries.parquet       QUERIES, in order of time
events.parquet        EVENTS, in order of time
dropped.parquet       DROPPED: what is in neither of them, and why
raw/                  while it goes on: pieces as they came
.lock                 held by the process that pulls
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.files.whole import write_whole
from neuralrank.validation import first_problem

__all__ = ["DROPPED", "EVENTS", "QUERIES", "Logs", "Pulled", "read_pulled", "write_pulled"]

QUERIES: Final = pa.schema(
    [
        ("id", pa.string()),  # the document's
        ("time", pa.int64()),  # ms since 1970
        ("query_id", pa.string()),
        ("user", pa.string()),  # user_id, else client_id, else ""
        ("user_query", pa.string()),
        ("hits", pa.list_(pa.string())),  # query_response_hit_ids
        ("attributes", pa.map_(pa.string(), pa.string())),  # bundle, experiment arm, …
        ("application", pa.string()),
    ]
)
EVENTS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("time", pa.int64()),
        ("action", pa.string()),
        ("user", pa.string()),
        ("query_id", pa.string()),  # "": of no query
        ("user_query", pa.string()),
        ("item_id", pa.string()),
        ("ordinal", pa.int32()),  # as the client counts, from 0 or 1; null: not in a list
        ("application", pa.string()),
    ]
)
DROPPED: Final = pa.schema([("index", pa.string()), ("id", pa.string()), ("reason", pa.string())])

_DESCRIPTION: Final = "pull.json"


class Pulled(BaseModel):
    """`pull.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    # As they were asked for, such as now-7d; and what that was, ISO 8601 in UTC.
    asked_since: str
    asked_until: str
    since: str
    until: str
    # When it began, ISO 8601 in UTC. "": an earlier version did not write it down.
    begun: str = ""
    # Of which index's items, and with which limits. None: of a time when that was not written down.
    index: str | None = None
    bot_rate: int | None = None
    skew: float | None = None
    complete: bool = False
    # queries, impressions, clicks, carts, purchases, other, users
    counts: Mapping[str, int] = Field(default_factory=dict)
    # Rows that were left out, by reason.
    dropped: Mapping[str, int] = Field(default_factory=dict)

    @property
    def was_early(self) -> bool:
        """Whether its window ended in the future, so that it can't have all of it."""
        if not self.begun:
            return False
        return datetime.fromisoformat(self.begun) < datetime.fromisoformat(self.until)


@dataclass(frozen=True)
class Logs:
    """One complete pull, or several as one."""

    pulled: tuple[Pulled, ...]
    queries: pa.Table  # QUERIES, in order of time
    events: pa.Table  # EVENTS, in order of time

    @classmethod
    def open(cls, *folders: Path) -> Self:
        """
        Raises:
            NotFound: there is no pull.
            InvalidInput: one is not complete, or damaged.
        """
        pulled = [_complete(folder) for folder in folders]
        return cls(
            tuple(pulled),
            _together([_table(folder / "queries.parquet", QUERIES) for folder in folders]),
            _together([_table(folder / "events.parquet", EVENTS) for folder in folders]),
        )

    @property
    def since(self) -> str:
        return min(pull.since for pull in self.pulled)

    @property
    def until(self) -> str:
        return max(pull.until for pull in self.pulled)


def read_pulled(folder: Path) -> Pulled | None:
    """What a folder says of itself; None where nothing was pulled into it.

    Raises:
        InvalidInput: it is damaged.
    """
    path = folder / _DESCRIPTION
    try:
        return Pulled.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InvalidInput(
            f"{path}: {first_problem(error)}. Delete the folder and pull again."
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror or error}.") from error


def write_pulled(folder: Path, pulled: Pulled) -> None:
    """In one step: a reader sees the old state or the new one."""
    write_whole(folder / _DESCRIPTION, f"{pulled.model_dump_json(indent=2)}\n")


def _complete(folder: Path) -> Pulled:
    pulled = read_pulled(folder)
    if pulled is None:
        raise NotFound(
            f"There are no logs in {folder}: {_DESCRIPTION} is missing. Make them with `neuralrank "
            "train pull`."
        )
    if not pulled.complete:
        raise InvalidInput(
            f"The pull in {folder} was interrupted. Run the same `neuralrank train pull` again: it "
            "goes on where it was."
        )
    return pulled


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(path).select(schema.names).cast(schema)
    except (KeyError, ValueError, pa.ArrowException, OSError) as error:
        raise InvalidInput(
            f"{path} can't be read: {error}. Delete the folder and pull again."
        ) from error


def _together(tables: list[pa.Table]) -> pa.Table:
    """As one, in order of time; a document that was pulled twice counts once, with all of its rows:
    a basket has one for each item."""
    whole = tables[0]
    for table in tables[1:]:
        known = pc.is_in(table["id"], whole["id"])
        whole = pa.concat_tables([whole, table.filter(pc.invert(known))])
    return whole if len(tables) == 1 else whole.sort_by("time")
