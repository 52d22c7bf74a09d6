"""What is remembered of earlier datasets for a ranker of texts: a sample of their queries.

A model that is trained on new data alone forgets the old. Experience replay mixes old examples in:
Chaudhry et al., "On Tiny Episodic Memories in Continual Learning" (2019). Which ones: each query
has a number in [0, 1) by a hash of its text, and the lowest are kept, so that of all queries ever
seen each is as likely to be there as another, without a count of them (bottom-k sampling: Cohen and
Kaplan, "Summarizing Data using Bottom-k Sketches", 2007). Vitter's reservoir (1985) does the same
for a stream in which nothing comes twice.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from neuralrank.errors import NotFound, Unsupported
from neuralrank.judging import query_key
from trainer.dataset import Dataset, Description, query_keys
from trainer.dataset.splits import place

__all__ = ["SALT", "Memory", "all_items", "remembered", "salt_of", "sample"]

# Another salt than that of any split: what is remembered must not hang on what is measured with.
SALT: Final = 20_190
_TABLES: Final = ("queries", "examples", "impressions")
_TRAINED: Final = "trained.txt"
Tables = Mapping[str, pa.Table]


@dataclass(frozen=True)
class Memory:
    """What rounds leave to the next one, of bounded size but for `trained`.

    `replay`: examples of train parts. `old`: what test parts held. `trained`: a hash of every query
    that was ever trained on, so that none of them measures later. It grows by each new query: one
    that it forgot could measure what it has taught, and a filter of fixed size would, once full,
    take all for trained on, so that nothing measured. `judged`: keys of queries that judgments
    measure with; they are given, not kept.
    """

    replay: Dataset | None = None
    old: Dataset | None = None
    trained: frozenset[str] = frozenset()
    judged: frozenset[str] = frozenset()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """
        Raises:
            NotFound, InvalidInput: it is not there, or damaged.
        """
        try:
            trained = (folder / _TRAINED).read_text("ascii").split()
        except OSError as error:
            raise NotFound(
                f"{folder / _TRAINED} can't be read: {error.strerror or error}. Begin anew with "
                "another --out folder."
            ) from error
        replay, old = (Dataset.open(folder / name) for name in ("replay", "old"))
        return cls(replay, old, frozenset(trained))

    def write(self, folder: Path) -> None:
        """
        Raises:
            Unsupported: the disk is full.
        """
        for name, data in (("replay", self.replay), ("old", self.old)):
            if data is not None:
                data.write(folder / name)
        try:
            (folder / _TRAINED).write_text("\n".join(sorted(self.trained)), "ascii")
        except OSError as error:
            raise Unsupported(f"{folder / _TRAINED} can't be written: {error}.") from error

    def mixed(self, new: Dataset, share: float) -> Dataset:
        """The new dataset with remembered examples in its train part.

        Queries of `old` and `judged` ones leave the train and dev parts, else nothing could say
        what was forgotten or learned; queries that were trained on leave dev and test, which they
        would make too good. What is replayed is drawn anew for each window.

        Args:
            share: of the train examples that are to be remembered ones, in [0, 1).
        """
        but = query_keys(new.queries) | self.measured()
        new = self.apart(new)
        if self.replay is None or not share:
            return new
        tables = {name: getattr(new, name) for name in _TABLES}
        fresh = new.of("examples", "train").num_rows
        wanted = round(fresh * share / (1 - share))
        taken = _enough(self.replay, but, wanted, salt_of(new))
        items = all_items([new.items, self.replay.items])
        return replace(new, items=items, **_joined([tables, taken]))

    def trained_on(self, key: str) -> bool:
        """Whether an earlier round has learned from the query of a key."""
        return _hash(key) in self.trained

    def measured(self) -> set[str]:
        """Keys of the queries that say what was forgotten, or learned."""
        old = query_keys(self.old.queries) if self.old is not None else set()
        return old | self.judged

    def kept_back(self, data: Dataset) -> Dataset | None:
        """`old`, as what is known at the end of a window has it: it says what was forgotten."""
        del data
        return self.old

    def apart(self, new: Dataset) -> Dataset:
        """The new dataset without queries that measure beside it in train and dev, and without
        those that were trained on in dev and test."""
        measured = self.measured()
        split = new.queries["split"].to_pylist()
        named = [query_key(text) for text in new.queries["text"].to_pylist()]
        kept = {
            key
            for key, part in zip(named, split, strict=True)
            if not (part != "test" and key in measured)
            and not (part != "train" and self.trained_on(key))
        }
        source = f"{new.description.source}, with remembered examples"
        return replace(
            new,
            description=new.description.model_copy(update={"source": source}),
            **_of_keys({name: getattr(new, name) for name in _TABLES}, kept),
        )

    @staticmethod
    def examples(data: Dataset) -> list[str]:
        """Of each example of the train part, what it is remembered by."""
        names: list[str] = data.of("examples", "train")["query_id"].to_pylist()
        return names

    def after(self, data: Dataset, most: int) -> "Memory":
        """What is remembered after a round on a mixed dataset.

        Args:
            most: queries, of each kind.
        """
        return Memory(
            remembered(self.replay, data, "train", most),
            remembered(self.old, data, "test", most),
            self.trained_with(data),
            self.judged,
        )

    def trained_with(self, data: Dataset) -> frozenset[str]:
        """`trained`, and the queries of a train part."""
        return self.trained | {_hash(key) for key in query_keys(data.of("queries", "train"))}


def remembered(
    old: Dataset | None, new: Dataset, part: Literal["train", "test"], most: int
) -> Dataset:
    """The queries of one part of both datasets, `most` of them, with their examples.

    Of a query that is in both, the new examples count. Logged pages are kept of the test part only.
    """
    tables = _joined([_part(data, part) for data in (new, old) if data is not None])
    ordered = sorted(query_keys(tables["queries"]), key=lambda key: (place(key, SALT), key))
    tables = _of_keys(tables, set(ordered[:most]))
    if part == "train":
        tables["impressions"] = tables["impressions"].slice(0, 0)
    return sample(part, new, old, tables)


def sample(part: str, new: Dataset, old: Dataset | None, tables: Tables) -> Dataset:
    """What is remembered, with the items that it names.

    Args:
        tables: of those that datasets have, without the items.
    """
    items = all_items([data.items for data in (new, old) if data is not None])
    named = [tables[name]["item_id"] for name in ("examples", "impressions") if name in tables]
    if "sequences" in tables:
        named.append(pc.list_flatten(tables["sequences"]["items"]))
    used = pa.chunked_array([chunk for column in named for chunk in column.chunks], pa.string())
    return Dataset(
        Description(
            source=f"remembered of {part} parts",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            labels=new.description.labels,
            propensities=new.description.propensities,
        ),
        items=items.filter(pc.is_in(items["item_id"], used)),
        **tables,
    )


def salt_of(new: Dataset) -> str:
    """For the draw of what is replayed with it: another in each window, so that all of the memory
    is replayed in time, and the same one where a round goes on."""
    return f"{SALT}:{new.description.window.since}"


def _enough(replay: Dataset, but: set[str], most: int, salt: str) -> dict[str, pa.Table]:
    """Queries of the memory in a random order, until they have so many examples."""
    tables = {name: getattr(replay, name) for name in _TABLES}
    sizes: dict[str, int] = {}
    for query in replay.examples["query_id"].to_pylist():
        sizes[query] = sizes.get(query, 0) + 1
    rows = zip(
        replay.queries["query_id"].to_pylist(), replay.queries["text"].to_pylist(), strict=True
    )
    taken: set[str] = set()
    total = 0
    ordered = sorted((place(query_key(text), salt), query_key(text), q) for q, text in rows)
    for _, key, query in ordered:
        if key not in but and total < most:
            taken.add(key)
            total += sizes.get(query, 0)
    return _of_keys(tables, taken)


def _part(data: Dataset, part: Literal["train", "test"]) -> dict[str, pa.Table]:
    return {
        "queries": data.of("queries", part),
        "examples": data.of("examples", part),
        "impressions": data.of("impressions", part),
    }


def _joined(parts: Sequence[Tables]) -> dict[str, pa.Table]:
    """Tables one after the other; a query of an earlier one is not taken from a later one."""
    known: set[str] = set()
    taken: dict[str, list[pa.Table]] = {name: [] for name in _TABLES}
    for tables in parts:
        kept = _of_keys(tables, query_keys(tables["queries"]) - known)
        known |= query_keys(kept["queries"])
        for name in _TABLES:
            taken[name].append(kept[name])
    return {name: pa.concat_tables(tables) for name, tables in taken.items()}


def _of_keys(tables: Tables, wanted: set[str]) -> dict[str, pa.Table]:
    """The queries with these texts, and what belongs to them."""
    queries = tables["queries"]
    texts = queries["text"].to_pylist()
    queries = queries.filter(pa.array([query_key(text) in wanted for text in texts], pa.bool_()))
    ids = queries["query_id"]
    return {
        "queries": queries,
        **{
            name: tables[name].filter(pc.is_in(tables[name]["query_id"], ids))
            for name in ("examples", "impressions")
        },
    }


def all_items(tables: Sequence[pa.Table]) -> pa.Table:
    """All items, each as the first table has it."""
    found = tables[0]
    for table in tables[1:]:
        new = pc.invert(pc.is_in(table["item_id"], found["item_id"]))
        found = pa.concat_tables([found, table.filter(new)])
    return found


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
