"""The folder that training and evaluation read.

    dataset.json          `Description`: where it comes from, its times, its counts
    items.parquet         what can be found                        ITEMS
    queries.parquet       what was asked, and in which part it is  QUERIES
    examples.parquet      query, item, label                       EXAMPLES
    sequences.parquet     what a user did, oldest first            SEQUENCES
    impressions.parquet   what was shown where, and clicked        IMPRESSIONS
    blocked.parquet       what a user never wants to see again     BLOCKED

A part that there is nothing for is an empty table. `Dataset.write` and `Dataset.open` both refuse
what `check` (see `trainer.dataset.checks`) refuses: labels outside the scale, ids that are not
there, and parts that leak.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuralrank.errors import InvalidInput, NotFound, Unsupported
from neuralrank.files.full_disk import out_of_room
from neuralrank.files.whole import whole_folder
from neuralrank.judging import query_key
from neuralrank.validation import first_problem

__all__ = [
    "BLOCKED",
    "EXAMPLES",
    "IMPRESSIONS",
    "ITEMS",
    "NEGATIVES",
    "QUERIES",
    "SEQUENCES",
    "SPLITS",
    "Dataset",
    "Description",
    "Labels",
    "Propensities",
    "Split",
    "Window",
    "query_keys",
    "replaceable",
]

# Parts in the order of time: what is learned from, what training is stopped by, what it is measured
# with.
SPLITS: Final = ("train", "dev", "test")
# How an example with a low label was chosen. "": it was judged or clicked itself; shown: it was
# seen and not clicked.
NEGATIVES: Final = ("", "shown", "bm25", "knn", "random")
SOURCES: Final = ("judgment", "click")
# By traffic; "" where there is none to tell by, as with judgment files.
SEGMENTS: Final = ("", "head", "torso", "tail")

_TEXTS: Final = pa.list_(pa.string())
ITEMS: Final = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # `neuralrank.catalogue.product.passage`
        pa.field("brand", pa.string(), nullable=False),  # "": not known
        pa.field("category", pa.string(), nullable=False),  # "Home > Kettles"; "": not known
        pa.field("language", pa.string(), nullable=False),  # BCP 47 primary subtag, or ""
        pa.field("price", pa.float64()),  # null: not known
    ]
)
QUERIES: Final = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # of SPLITS
        pa.field("segment", pa.string(), nullable=False),  # of SEGMENTS
    ]
)
EXAMPLES: Final = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("label", pa.float32(), nullable=False),  # within the description's `labels`
        pa.field("weight", pa.float32(), nullable=False),  # above 0
        pa.field("source", pa.string(), nullable=False),  # of SOURCES
        pa.field("negative", pa.string(), nullable=False),  # of NEGATIVES
        pa.field("split", pa.string(), nullable=False),  # that of its query
    ]
)
SEQUENCES: Final = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        # Of the same length, oldest first; the last one is what is to be guessed.
        pa.field("items", _TEXTS, nullable=False),
        pa.field("actions", _TEXTS, nullable=False),
        pa.field("times", pa.list_(pa.int64()), nullable=False),  # ms since 1970
        pa.field("split", pa.string(), nullable=False),  # of the last item
    ]
)
IMPRESSIONS: Final = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),  # "": recommended, without a query
        pa.field("user_id", pa.string(), nullable=False),  # "": nobody's
        pa.field("time", pa.int64(), nullable=False),  # ms since 1970
        pa.field("page_id", pa.string(), nullable=False),  # rows of one page share it
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # from 1
        pa.field("clicked", pa.bool_(), nullable=False),
        # The estimated probability that what stands there is looked at, in (0, 1].
        pa.field("propensity", pa.float32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # that of its query; without, of its time
    ]
)
# No sequence has what its user blocked by its end. In rounds of `neuralrank train update` what was
# blocked in earlier windows is here, too, in the train part.
BLOCKED: Final = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # by the time of it
    ]
)
_PARTS: Final[Mapping[str, pa.Schema]] = {
    "items": ITEMS,
    "queries": QUERIES,
    "examples": EXAMPLES,
    "sequences": SEQUENCES,
    "impressions": IMPRESSIONS,
    "blocked": BLOCKED,
}
# What datasets of before do not have.
_LATER: Final = frozenset({"blocked"})
_DESCRIPTION: Final = "dataset.json"


class _Model(BaseModel):
    # `from` is a word of Python's, so that field has another name here.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


class Window(_Model):
    """The time that the data is of, ISO 8601 in UTC; empty where it has none."""

    since: str = Field(default="", alias="from")
    until: str = ""

    @property
    def interval(self) -> str:
        """As ISO 8601 writes an interval, SINCE/UNTIL; empty where there is no time."""
        return f"{self.since}/{self.until}" if self.since else ""


class Split(_Model):
    """Where the parts end, ISO 8601 in UTC: train before `train_until`, dev from there to
    `dev_until`, test from there on. Both empty: not split by time."""

    train_until: str = ""
    dev_until: str = ""


class Labels(_Model):
    """The scale of labels."""

    min: float = 0.0
    max: float = 1.0


class Propensities(_Model):
    """How likely each position is looked at, from 1 on, as was estimated from the logs."""

    estimator: str = ""
    values: tuple[float, ...] = ()


class Description(_Model):
    """`dataset.json`."""

    format: Literal[1] = 1
    # In words: "judgments", "logs", and of which files or folders.
    source: str
    # ISO 8601, UTC.
    created: str
    window: Window = Window()
    split: Split = Split()
    labels: Labels = Labels()
    propensities: Propensities = Propensities()
    counts: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory, checked."""

    description: Description
    items: pa.Table = field(default_factory=ITEMS.empty_table)
    queries: pa.Table = field(default_factory=QUERIES.empty_table)
    examples: pa.Table = field(default_factory=EXAMPLES.empty_table)
    sequences: pa.Table = field(default_factory=SEQUENCES.empty_table)
    impressions: pa.Table = field(default_factory=IMPRESSIONS.empty_table)
    blocked: pa.Table = field(default_factory=BLOCKED.empty_table)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The dataset of a folder.

        Raises:
            NotFound: there is no dataset.
            InvalidInput: it is damaged, of another format, or `check` refuses it.
        """
        path = folder / _DESCRIPTION
        try:
            description = Description.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise NotFound(
                f"There is no dataset in {folder}: {_DESCRIPTION} is missing. Make one with "
                "`neuralrank train dataset`."
            ) from error
        except ValidationError as error:
            raise InvalidInput(
                f"{path}: {first_problem(error)}. Make the dataset anew with `neuralrank train "
                "dataset`."
            ) from error
        except OSError as error:
            raise InvalidInput(f"{path} can't be read: {error.strerror or error}.") from error
        made = cls(description, **{name: _read(folder / f"{name}.parquet") for name in _PARTS})
        made.check()
        return made

    def write(self, folder: Path) -> None:
        """Writes it in one step; a dataset that is there already is replaced.

        Raises:
            InvalidInput: `check` refuses it, or the folder holds something else or can't be
                written.
            Unsupported: the disk is full.
        """
        self.check()
        replaceable(folder)
        try:
            with whole_folder(folder) as unfinished:
                for name in _PARTS:
                    pq.write_table(
                        getattr(self, name), unfinished / f"{name}.parquet", compression="zstd"
                    )
                text = self.description.model_dump_json(indent=2, by_alias=True)
                (unfinished / _DESCRIPTION).write_text(f"{text}\n", "utf-8")
        except OSError as error:
            kind = Unsupported if out_of_room(error) else InvalidInput
            raise kind(
                f"{folder} can't be written: {error.strerror or error}. What was there is as it "
                "was."
            ) from error

    def check(self) -> None:
        """Refuses what can't be trained on or measured with; see `trainer.dataset.checks`.

        Raises:
            InvalidInput: the message says what was found, and where.
        """
        from trainer.dataset.checks import check

        for name, schema in _PARTS.items():
            found = getattr(self, name).schema
            if not found.equals(schema):
                raise InvalidInput(
                    f"{name}.parquet has the columns {_columns(found)}; the format has "
                    f"{_columns(schema)}. Make the dataset anew with `neuralrank train dataset`."
                )
        check(self)

    def of(self, part: Literal["queries", "examples", "sequences", "impressions", "blocked"],
           split: str) -> pa.Table:  # fmt: skip
        """The rows of one table in one part."""
        table: pa.Table = getattr(self, part)
        return table.filter(pc.equal(table["split"], split))

    def texts(self) -> dict[str, str]:
        """What the ranker reads of each item, by id."""
        return dict(
            zip(self.items["item_id"].to_pylist(), self.items["text"].to_pylist(), strict=True)
        )

    def query_texts(self) -> dict[str, str]:
        """Each query's text, by id."""
        return dict(
            zip(self.queries["query_id"].to_pylist(), self.queries["text"].to_pylist(), strict=True)
        )


def replaceable(folder: Path) -> None:
    """Sees that a dataset can take the place of a folder: before the work that makes one, too.

    Raises:
        InvalidInput: the folder holds something else, or is where a volume is mounted.
    """
    if not folder.exists():
        return
    if folder.is_mount():
        raise InvalidInput(
            f"{folder} is where a volume is mounted, and a dataset takes its folder's place in one "
            f"step. Name a folder in it, such as {folder / 'data'}."
        )
    if not folder.is_dir() or (not (folder / _DESCRIPTION).is_file() and any(folder.iterdir())):
        raise InvalidInput(
            f"{folder} holds something that is no dataset. Name a new folder, or one that "
            "holds a dataset to replace it."
        )


def query_keys(queries: pa.Table) -> set[str]:
    """Keys of a table of queries, as `query_key` makes them of texts."""
    return {query_key(text) for text in queries["text"].to_pylist()}


def _read(path: Path) -> pa.Table:
    schema = _PARTS[path.stem]
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        if path.stem in _LATER:
            return schema.empty_table()
        raise InvalidInput(
            f"{path} is missing. Make the dataset anew with `neuralrank train dataset`."
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{path} is not Parquet that can be read: {error}.") from error
    # Files that others write have nullable columns and their own metadata; the types must agree.
    try:
        return table.select(schema.names).cast(schema)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise InvalidInput(
            f"{path} has the columns {_columns(table.schema)}; the format has {_columns(schema)}: "
            f"{error}. Make the dataset anew with `neuralrank train dataset`."
        ) from error


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in schema)
