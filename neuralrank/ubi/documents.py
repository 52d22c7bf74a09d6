"""User behaviour, as OpenSearch UBI 1.3.0 has it: the indexes, their fields and their documents.

`Event` and `Query` validate what goes into `ubi_events` and `ubi_queries`; `parse` reads them from
bulk or plain NDJSON. Fields that the specification leaves open are kept as they came.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from neuralrank.catalogue.product import MAX_ID_BYTES, strings
from neuralrank.errors import InvalidInput
from neuralrank.validation import problems

__all__ = [
    "ACTIONS",
    "BLOCKS",
    "EVENTS_INDEX",
    "ITEM_PATH",
    "MAX_USER",
    "ORDINAL_PATH",
    "QUERIES_INDEX",
    "Event",
    "Query",
    "Record",
    "Rejected",
    "content_id",
    "item_ids",
    "parse",
    "read_time",
    "user_events",
]

QUERIES_INDEX: Final = "ubi_queries"
EVENTS_INDEX: Final = "ubi_events"

# The actions that neuralrank knows the weight of. Any other name is allowed and weighs as a view.
ACTIONS: Final = ("impression", "click", "watch", "view", "add_to_cart", "purchase")
# Those that say what a user never wants to see again, and that are no interest.
BLOCKS: Final = ("block", "dislike")

# The longest user_id, client_id and query_id. Longer ones are not indexed (`ignore_above`, as UBI
# has it): an event would be written, and neither a profile nor `feedback forget` would find it.
MAX_USER: Final = 100

# Milliseconds since 1970 that nobody means: in seconds they are our days (this one the year 5138).
_SECONDS: Final = 10**11

# Paths inside an event, for queries and aggregations.
_ATTRIBUTES: Final = "event_attributes"
ITEM_PATH: Final = f"{_ATTRIBUTES}.object.object_id"
ORDINAL_PATH: Final = f"{_ATTRIBUTES}.position.ordinal"


class _Document(BaseModel):
    """What events and queries share."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)

    @classmethod
    def from_row(cls, row: object) -> Self:
        """The document of a decoded JSON object.

        Raises:
            InvalidInput: it breaks the specification; the message names each wrong field, what
                was received and what is allowed.
        """
        if not isinstance(row, Mapping):
            raise InvalidInput(f"must be a JSON object; got {str(row)[:80]!r}")
        try:
            return cls.model_validate(_without_null(row))
        except ValidationError as error:
            raise InvalidInput("; ".join(problems(error, "document"))) from error

    def document(self) -> dict[str, Any]:
        """What is written to the index: without empty fields, time in UTC.

        Raises:
            InvalidInput: it would not be found again by whose it is, or by its query.
        """
        written = _without_empty(self.model_dump(mode="json"))
        for name in ("user_id", "client_id", "query_id"):
            if len(written.get(name, "")) > MAX_USER:
                raise InvalidInput(
                    f"{name}: got {written[name][:20]!r}… of {len(written[name])} characters; "
                    f"longer than {MAX_USER} is not indexed, e.g. take a hash of it"
                )
        return written


def _now() -> datetime:
    return datetime.now(UTC)


def read_time(value: Any) -> datetime:
    """UTC from ISO 8601 (without zone: UTC) or from milliseconds since 1970.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and re.fullmatch(r"\d{12,14}", value):
        value = int(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        if number:
            return datetime.fromtimestamp(value / 1000, UTC)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:
        if number or not isinstance(error, ValueError):
            raise ValueError("is outside the years 1 to 9999 of UTC") from error
    raise ValueError("must be ISO 8601 or milliseconds since 1970")


def _given_time(value: Any) -> datetime:
    """As `read_time`, of what is to be written: seconds would be days of January 1970."""
    time = read_time(value)
    if isinstance(value, int | float) and 0 < value < _SECONDS:
        raise ValueError(
            f"is {time:%Y-%m-%d} in milliseconds since 1970; if these are seconds, multiply them "
            "by 1,000"
        )
    return time


class EventObject(BaseModel):
    """What the user acted on. `object_id` is the item's id in the product index."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)

    object_id: str | None = None
    # The product index's field that object_id is a value of.
    object_id_field: str | None = None


class Position(BaseModel):
    """Where it stood."""

    model_config = ConfigDict(extra="allow", frozen=True)

    # Place in the result list. From 0 or 1: as the client counts, alike in all of an `application`.
    ordinal: int | None = Field(default=None, ge=0)


class EventAttributes(BaseModel):
    """The open part of an event; more than these two is kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    object: EventObject = EventObject()
    position: Position = Position()


class Event(_Document):
    """One thing that a user did: a document of `ubi_events`."""

    action_name: str = Field(min_length=1, max_length=100)
    # Who: the signed-in user (UBI 1.3), the device or browser, the visit. Empty: not known.
    user_id: str = ""
    client_id: str = ""
    session_id: str = ""
    # The query (of `ubi_queries`) that led to it, and its text.
    query_id: str = ""
    user_query: str = ""
    application: str = ""
    timestamp: datetime = Field(default_factory=_now)
    message_type: str = ""
    message: str = ""
    event_attributes: EventAttributes = EventAttributes()

    _parse_time = field_validator("timestamp", mode="before")(staticmethod(_given_time))

    @classmethod
    def each(cls, row: Mapping[str, Any]) -> list[Self]:
        """The events of a document that others wrote, in any shape of JSON that OpenSearch indexes
        alike: one for each item of a basket.

        Raises:
            InvalidInput: as `from_row`.
        """
        items = _basket(row)
        if not items:
            return [cls.from_row(row)]
        rest = {name: value for name, value in row.items() if not name.startswith(_ATTRIBUTES)}
        place = {"ordinal": next(_values(row, ORDINAL_PATH.split(".")), None)}
        return [
            cls.from_row(rest | {_ATTRIBUTES: {"object": {"object_id": item}, "position": place}})
            for item in items
        ]

    @property
    def user(self) -> str:
        """Whose event it is: user_id, or client_id where there is none. Empty: nobody's."""
        return self.user_id or self.client_id

    @property
    def item_id(self) -> str:
        """The item acted on. Empty: none."""
        return self.event_attributes.object.object_id or ""

    @property
    def ordinal(self) -> int | None:
        """Its place in the result list, if it was in one."""
        return self.event_attributes.position.ordinal


class Query(_Document):
    """One search as a user made it: a document of `ubi_queries`."""

    query_id: str = Field(min_length=1)
    user_query: str = ""
    client_id: str = ""
    user_id: str = ""
    session_id: str = ""
    application: str = ""
    query_response_id: str = ""
    query_response_hit_ids: list[str] = Field(default_factory=list)
    # Strings only, as the specification says; numbers are written as strings.
    query_attributes: dict[str, str] = Field(default_factory=dict)
    # The query as it was sent, as JSON text.
    query: str = ""
    timestamp: datetime = Field(default_factory=_now)

    _parse_time = field_validator("timestamp", mode="before")(staticmethod(_given_time))

    @field_validator("query", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


@dataclass(frozen=True, slots=True)
class Record:
    """A valid document and where it belongs."""

    line: int
    index: str
    id: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is not a UBI document, and why."""

    line: int
    reason: str
    row: str


def parse(lines: Iterable[bytes | str]) -> Iterator[Record | Rejected]:
    """Reads UBI documents from NDJSON: bulk format (action lines) or one document a line.

    Where no action line names the index, a document with `action_name` is an event and one with
    `query_id` a query. The id is the action line's `_id`, else a hash of the content: the same line
    loaded twice is one document.
    """
    action = ("", "")
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = _without_mark(line)
        if not line.strip():
            continue
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        try:
            row = orjson.loads(line)
            if (found := _action(row)) is not None:
                action = found
                continue
            (named, identity), action = action, ("", "")
            index = named or _index_of(row)
            yield Record(number, index, _identity(identity, row), _of_index(index, row))
        except (InvalidInput, orjson.JSONDecodeError) as error:
            action = ("", "")
            yield Rejected(number, str(error), text.rstrip("\r\n"))


def _of_index(index: str, row: object) -> dict[str, Any]:
    if index == EVENTS_INDEX:
        return _event(row)
    if index == QUERIES_INDEX:
        return Query.from_row(row).document()
    raise InvalidInput(
        f"its action is for index {index!r}; allowed are {QUERIES_INDEX} and {EVENTS_INDEX}"
    )


def _event(row: object) -> dict[str, Any]:
    """What is written of an event; its items in the shape in which it names them."""
    if not isinstance(row, Mapping) or not _basket(row):
        return Event.from_row(row).document()
    written = Event.each(row)[0].document()
    del written[_ATTRIBUTES]
    return written | {name: own for name, own in row.items() if name.startswith(_ATTRIBUTES)}


def _basket(row: Mapping[str, Any]) -> list[str]:
    """The items of an event that names them otherwise than as one `object_id` of one object."""
    given = row.get(_ATTRIBUTES)
    inner = given.get("object") if isinstance(given, Mapping) else None
    usual = isinstance(inner, Mapping) and not isinstance(inner.get("object_id"), list)
    return [] if usual else item_ids(row)


def _identity(given: str, row: object) -> str:
    if (length := len(given.encode())) > MAX_ID_BYTES:
        raise InvalidInput(
            f"_id: got {given[:20]!r}… of {length} bytes; OpenSearch takes {MAX_ID_BYTES} at "
            "most. Shorten it, or leave it out: then it is made of the content"
        )
    return given or content_id(row)


def _without_mark(line: bytes | str) -> bytes | str:
    """Some editors begin a file with a byte order mark, which JSON does not know."""
    if isinstance(line, str):
        return line.removeprefix("\ufeff")
    return line.removeprefix(b"\xef\xbb\xbf")


def user_events(*users: str) -> dict[str, Any]:
    """The query for events of users: those with one of these as user_id, and those without a
    user_id whose client_id it is."""
    signed_in = {
        "bool": {
            "must": [{"exists": {"field": "user_id"}}],
            "must_not": [{"term": {"user_id": ""}}],
        }
    }
    return {
        "bool": {
            "minimum_should_match": 1,
            "should": [
                {"terms": {"user_id": users}},
                {"bool": {"must": [{"terms": {"client_id": users}}], "must_not": [signed_in]}},
            ],
        }
    }


def item_ids(event: Mapping[str, Any]) -> list[str]:
    """The items that a document of `ubi_events` names, each once, whatever shape of JSON it has: as
    OpenSearch indexes it, for which a dotted name is a nested one, and a list of objects or ids
    several values. What ships logs writes the first, a basket is the second."""
    return list(dict.fromkeys(_values(event, ITEM_PATH.split("."))))


def _values(value: Any, path: Sequence[str]) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _values(one, path)
    elif isinstance(value, Mapping):
        for length in range(1, len(path) + 1):
            yield from _values(value.get(".".join(path[:length])), path[length:])
    elif not path:
        yield from strings(value)


def _action(row: object) -> tuple[str, str] | None:
    """Index and id of a bulk action line, "" where it has none; None if the row is a document."""
    if not isinstance(row, dict) or len(row) != 1:
        return None
    ((verb, target),) = row.items()
    if verb not in ("index", "create") or not isinstance(target, dict):
        return None
    return str(target.get("_index") or ""), str(target.get("_id") or "")


def _index_of(row: object) -> str:
    if isinstance(row, dict):
        if "action_name" in row:
            return EVENTS_INDEX
        if "query_id" in row:
            return QUERIES_INDEX
    raise InvalidInput(
        "is neither an event (action_name is missing) nor a query (query_id is missing); "
        f"got {str(row)[:80]!r}"
    )


def content_id(row: object) -> str:
    """The `_id` of a document that came without one: the same content has the same id.

    Raises:
        InvalidInput: a text in it is no Unicode, as of a terminal that is not UTF-8.
    """
    try:
        content = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:  # orjson's own
        raise InvalidInput(
            f"A text in it is no Unicode ({error}). Send UTF-8, and have the terminal do so."
        ) from error
    return hashlib.sha256(content).hexdigest()[:32]


def _without_null(value: Mapping[str, Any]) -> dict[str, Any]:
    """Null means the same as a field that is left out."""
    return {
        name: _without_null(inner) if isinstance(inner, Mapping) else inner
        for name, inner in value.items()
        if inner is not None
    }


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: _without_empty(inner) if isinstance(inner, dict) else inner
        for name, inner in value.items()
    }
    return {name: inner for name, inner in kept.items() if inner not in (None, "", [], {})}
