"""What a dataset must hold to, before anything is trained on it or measured with it.

Of leaks:

- A query is in one part only, whatever its id: two that `query_key` takes for one are one.
- Examples and impressions are in the part of their query.
- Where parts are split by time: no impression and no step of a sequence is later than its part
  ends, and none of dev and test is earlier than it begins. (The history of a dev or test sequence,
  all but its last step, may be old: it is given, not guessed.)
- What is to be guessed of a user in dev or test, the item and its time, is in no train sequence.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from neuralrank.errors import InvalidInput
from neuralrank.judging import query_key

if TYPE_CHECKING:
    from trainer.dataset.format import Dataset

__all__ = ["check", "iso", "milliseconds"]

_ANEW: Final = "Make the dataset anew with `neuralrank train dataset`."


def check(data: "Dataset") -> None:
    """Refuses a dataset that breaks a rule.

    Raises:
        InvalidInput: the message says which, and names a row that does.
    """
    from trainer.dataset import format as form

    for name in ("items", "queries", "examples", "sequences", "impressions", "blocked"):
        _no_nulls(name, getattr(data, name))
    _unique(data.items["item_id"], "items.parquet", "item_id")
    _unique(data.queries["query_id"], "queries.parquet", "query_id")
    for part in ("queries", "examples", "sequences", "impressions", "blocked"):
        _among(getattr(data, part)["split"], form.SPLITS, f"{part}.parquet: split")
    _among(data.queries["segment"], form.SEGMENTS, "queries.parquet: segment")
    _among(data.examples["source"], form.SOURCES, "examples.parquet: source")
    _among(data.examples["negative"], form.NEGATIVES, "examples.parquet: negative")
    scale = data.description.labels
    _within(data.examples["label"], scale.min, scale.max, "examples.parquet: label")
    _above_zero(data.examples["weight"], np.inf, "examples.parquet: weight")
    _above_zero(data.impressions["propensity"], 1.0, "impressions.parquet: propensity")
    _within(data.impressions["position"], 1, 2**31 - 1, "impressions.parquet: position")
    _sequences(data.sequences)
    for part in ("examples", "impressions"):
        table = getattr(data, part)
        asked = table["query_id"]
        if part == "impressions":  # "": recommended
            asked = asked.filter(pc.not_equal(asked, ""))
        _known(asked, data.queries["query_id"], f"{part}.parquet: query_id")
        _known(table["item_id"], data.items["item_id"], f"{part}.parquet: item_id")
    steps = pc.list_flatten(data.sequences["items"])
    _known(steps, data.items["item_id"], "sequences.parquet: items")
    _leaks(data)


def milliseconds(time: str, what: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; without a zone it is in UTC.

    Raises:
        InvalidInput: it is no such time; `what` names it in the message.
    """
    try:
        moment = datetime.fromisoformat(time)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{what} got {time!r}; allowed is ISO 8601, as 2026-01-31 or 2026-01-31T12:00:00Z, of "
            "the years 1 to 9999 in UTC."
        ) from error
    return round(moment.timestamp() * 1000)


def iso(time: float) -> str:
    """The ISO 8601 time, in UTC, of milliseconds since 1970."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat()


def _no_nulls(name: str, table: pa.Table) -> None:
    for column in table.schema:
        if not column.nullable and table[column.name].null_count:
            raise InvalidInput(
                f"{name}.parquet: {column.name} is null in "
                f"{table[column.name].null_count:,} rows; it is required. {_ANEW}"
            )


def _unique(ids: pa.ChunkedArray, file: str, column: str) -> None:
    counts = pc.value_counts(ids)
    if len(counts) != len(ids):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
        raise InvalidInput(f"{file}: {column} {str(twice)!r} comes more than once. {_ANEW}")


def _among(values: pa.ChunkedArray, allowed: tuple[str, ...], where: str) -> None:
    wrong = values.filter(pc.invert(pc.is_in(values, pa.array(allowed))))
    if len(wrong):
        names = ", ".join(repr(name) for name in allowed)
        raise InvalidInput(f"{where} is {str(wrong[0])!r} in {len(wrong):,} rows; allowed: {names}")


def _within(values: pa.ChunkedArray, low: float, high: float, where: str) -> None:
    numbers = values.to_numpy()
    wrong = numbers[~((numbers >= low) & (numbers <= high))]  # NaN is in no interval
    if len(wrong):
        raise InvalidInput(
            f"{where} is {wrong[0]} in {len(wrong):,} rows, outside the scale; allowed is {low:g} "
            f"to {high:g}."
        )


def _above_zero(values: pa.ChunkedArray, high: float, where: str) -> None:
    numbers = values.to_numpy()
    wrong = numbers[~((numbers > 0) & (numbers <= high) & np.isfinite(numbers))]
    if len(wrong):
        most = f" and at most {high:g}" if np.isfinite(high) else " and finite"
        raise InvalidInput(
            f"{where} is {wrong[0]} in {len(wrong):,} rows; allowed is above 0{most}."
        )


def _sequences(sequences: pa.Table) -> None:
    """Items, actions and times of the same length, above 0, and oldest first."""
    counts = [pc.list_value_length(sequences[name]) for name in ("items", "actions", "times")]
    wrong = pc.or_(pc.not_equal(counts[0], counts[1]), pc.not_equal(counts[0], counts[2]))
    wrong = pc.or_(wrong, pc.equal(counts[0], 0))
    if pc.any(wrong).as_py():
        user = sequences["user_id"].filter(wrong)[0]
        raise InvalidInput(
            f"sequences.parquet: the sequence of user {str(user)!r} has items, actions and times "
            f"of different lengths, or is empty. {_ANEW}"
        )
    times = pc.list_flatten(sequences["times"]).to_numpy()
    users = np.repeat(np.arange(sequences.num_rows), counts[2].to_numpy())
    back = np.flatnonzero((np.diff(times) < 0) & (np.diff(users) == 0))
    if len(back):
        user = sequences["user_id"][int(users[back[0]])]
        raise InvalidInput(
            f"sequences.parquet: the sequence of user {str(user)!r} goes back in time; allowed is "
            f"oldest first. {_ANEW}"
        )


def _known(ids: pa.ChunkedArray, known: pa.ChunkedArray, where: str) -> None:
    unknown = pc.unique(ids.filter(pc.invert(pc.is_in(ids, pc.unique(known)))))
    if len(unknown):
        table = "queries.parquet" if where.endswith("query_id") else "items.parquet"
        raise InvalidInput(
            f"{where}: {len(unknown):,} unknown ids, {str(unknown[0])!r} among them; each must be "
            f"in {table}."
        )


def _leaks(data: "Dataset") -> None:
    part_of: dict[str, str] = {}
    for text, split in zip(
        data.queries["text"].to_pylist(), data.queries["split"].to_pylist(), strict=True
    ):
        if (other := part_of.setdefault(query_key(text), split)) != split:
            raise _leak(f"the query {text!r} is in {other} and in {split}")
    queries = data.queries.select(["query_id", "split"]).rename_columns(["query_id", "of_query"])
    for name in ("examples", "impressions"):
        table = getattr(data, name).select(["query_id", "split"])
        joined = table.join(queries, "query_id")
        wrong = joined.filter(pc.not_equal(joined["split"], joined["of_query"]))
        if wrong.num_rows:
            row = wrong.slice(0, 1).to_pylist()[0]
            raise _leak(
                f"{wrong.num_rows:,} rows of {name}.parquet are in another part than their query "
                f"({row['query_id']!r} is in {row['of_query']}, its row in {row['split']})"
            )
    _times(data)
    _targets(data.sequences)


def _times(data: "Dataset") -> None:
    """Nothing is in a part whose time it is not of."""
    split = data.description.split
    if not split.train_until:
        return
    train_until = milliseconds(split.train_until, "dataset.json: split.train_until")
    dev_until = milliseconds(split.dev_until, "dataset.json: split.dev_until")
    if dev_until < train_until:
        raise InvalidInput(
            f"dataset.json: dev_until ({split.dev_until}) is before train_until "
            f"({split.train_until}). {_ANEW}"
        )
    lowest, highest = -(2**63), 2**63 - 1
    spans = {
        "train": (lowest, train_until - 1),
        "dev": (train_until, dev_until - 1),
        "test": (dev_until, highest),
    }
    for part, (low, high) in spans.items():
        shown = data.of("impressions", part)["time"].to_numpy()
        targets = _last(data.of("sequences", part)["times"])
        for what, times in (("impressions", shown), ("sequences", targets)):
            outside = times[(times < low) | (times > high)]
            if len(outside):
                raise _leak(
                    f"{len(outside):,} rows of {what}.parquet are in {part} and of another time, "
                    f"one of {iso(int(outside[0]))}"
                )


def _last(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    """The last element of each list; none is empty."""
    ends: NDArray[np.int64] = np.cumsum(pc.list_value_length(lists).to_numpy(), dtype=np.int64)
    values: NDArray[np.int64] = pc.list_flatten(lists).to_numpy()
    return values[ends - 1]


def _targets(sequences: pa.Table) -> None:
    """No user's dev or test target is in a train sequence of theirs."""
    trained: dict[str, set[tuple[str, int]]] = {}
    rows = sequences.to_pylist()
    for row in rows:
        if row["split"] == "train":
            steps = zip(row["items"], row["times"], strict=True)
            trained.setdefault(row["user_id"], set()).update(steps)
    for row in rows:
        if row["split"] != "train":
            target = (row["items"][-1], row["times"][-1])
            if target in trained.get(row["user_id"], ()):
                raise _leak(
                    f"what is to be guessed of user {row['user_id']!r} in {row['split']}, "
                    f"{target[0]!r}, is in a train sequence"
                )


def _leak(what: str) -> InvalidInput:
    return InvalidInput(
        f"The dataset leaks: {what}. What is measured with it would be too good. {_ANEW}"
    )
