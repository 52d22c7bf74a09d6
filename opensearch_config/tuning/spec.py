"""What `neuralrank tune` is asked: one YAML file, every key of it known and checked.

The models here are its documentation; docs/search-engineer.md has the table.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from neuralrank.errors import InvalidInput
from neuralrank.judging import is_opensearch
from opensearch_config.tuning.located import Located, Place, read_yaml

__all__ = [
    "PARTS",
    "WHOLE",
    "Clicks",
    "JudgmentsSource",
    "Range",
    "Search",
    "Spec",
    "Variant",
    "Weights",
    "read_spec",
]

PARTS: Final = ("relevance", "affinity", "retrieval")
# Shares, each of something else than the parts' sum.
_SHARES: Final = ("cross_encoder", "diversity")
_WEIGHTS: Final = (*PARTS, *_SHARES)
_Count = Annotated[int, Field(ge=1, le=10_000)]
_Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
# What a search may try, beside `weights.PART` and `boosts.FIELD`: all that needs no index.
_SEARCHED: Final = ("fusion", "window", "k", "ef_search", "max_reranked")
# Of these, what takes whole numbers only.
WHOLE: Final = ("window", "k", "ef_search", "max_reranked")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Clicks(_Model):
    """Judgments of what users saw and clicked, as `neuralrank judge clicks` makes them."""

    model: Literal["coec", "sdbn"] = "coec"
    since: str = ""
    until: str = ""
    min_impressions: Annotated[int, Field(ge=1)] = 10
    thresholds: tuple[float, ...] = ()

    @field_validator("thresholds")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must be ascending numbers, such as [0.25, 1, 2]")
        return value


class JudgmentsSource(_Model):
    """Where judgments come from: a file or clicks. Paths are relative to the spec's folder."""

    # TREC qrels, or `.json` of OpenSearch's Search Relevance.
    file: Path | None = None
    # The queries of a TREC file: lines of id, tab, text.
    queries: Path | None = None
    clicks: Clicks | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.clicks is None):
            raise ValueError("must have either file (with queries) or clicks")
        if self.file is not None and not is_opensearch(self.file) and self.queries is None:
            raise ValueError("has a TREC file, which has no texts; name its queries too")
        return self


class Weights(_Model):
    """What the parts of a score count; those left out are the sidecar's setting."""

    relevance: _Weight | None = None
    affinity: _Weight | None = None
    retrieval: _Weight | None = None
    # The share of its order within relevance, among what it has read.
    cross_encoder: Annotated[float, Field(ge=0, le=1)] | None = None
    # The share of novelty in the score.
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _not_all_zero(self) -> Self:
        if not any(
            value is None or value for value in (self.relevance, self.affinity, self.retrieval)
        ):
            raise ValueError("are all zero; at least one must be above 0")
        return self


class Variant(_Model):
    """One way to search. What it does not say is as the files have it."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    # Files of another folder (`mappings/`, `settings/`, `queries/`, `pipelines/`).
    folder: Path | None = None

    # These need an index of their own.
    analyzers: dict[str, str] = {}
    synonyms: tuple[str, ...] = ()
    synonyms_file: Path | None = None
    settings: dict[str, Any] = {}
    mappings: dict[str, Any] = {}
    m: Annotated[int, Field(ge=2, le=512)] | None = None
    ef_construction: Annotated[int, Field(ge=2, le=10_000)] | None = None
    quantization: Literal["none", "sq"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=16_000)] | None = None

    # These don't.
    query: dict[str, Any] = {}
    boosts: dict[str, Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]] = {}
    rank: bool = True
    vector: bool | None = None
    window: _Count | None = None
    k: _Count | None = None
    ef_search: _Count | None = None
    fusion: Literal["weights", "rrf"] | None = None
    weights: Weights | None = None
    bundle: str | None = None
    exclusions: bool | None = None
    max_reranked: Annotated[int, Field(ge=0, le=10_000)] | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=60_000)] | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.synonyms and self.synonyms_file:
            raise ValueError("has synonyms and synonyms_file; keep one of them")
        if not self.rank and (given := sorted(self.model_fields_set & _OF_THE_PIPELINE)):
            raise ValueError(f"has rank: false, and {', '.join(given)}, which need ranking")
        return self


_OF_THE_PIPELINE: Final = frozenset(
    {"vector", "window", "k", "ef_search", "fusion", "weights", "bundle", "max_reranked"}
    | {"exclusions", "deadline_ms", "timeout_ms"}
)


class Range(_Model):
    """What a search may choose: a number between two, or one of several values."""

    low: float | None = None
    high: float | None = None
    one_of: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        bounds = self.low is not None and self.high is not None
        if bool(self.one_of) == bounds or (not bounds and (self.low, self.high) != (None, None)):
            raise ValueError("must have either low and high, or one_of")
        if bounds and not (self.low or 0) < (self.high or 0):
            raise ValueError(f"has low {self.low:g}, which is not below high {self.high:g}")
        return self


class Search(_Model):
    """A search (optuna) over numbers of one variant, on a part of the queries."""

    # Which variant it starts from. Empty: the first.
    variant: str = ""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 40
    # The share of the queries that it never sees, and that its result is judged on.
    held_back: Annotated[float, Field(gt=0, lt=1)] = 0.5
    seed: int = 0
    over: Annotated[dict[str, Range], Field(min_length=1)]

    @field_validator("over")
    @classmethod
    def _can_be_searched(cls, value: dict[str, Range]) -> dict[str, Range]:
        for name, choice in value.items():
            head, _, rest = name.partition(".")
            if not (
                name in _SEARCHED
                or (head == "weights" and rest in _WEIGHTS)
                or (head == "boosts" and rest)
            ):
                allowed = [*_SEARCHED, *(f"weights.{each}" for each in _WEIGHTS)]
                raise ValueError(
                    f"can't search {name!r}; allowed are {', '.join(allowed)} and boosts.FIELD"
                )
            if name == "fusion" and set(choice.one_of) - {"weights", "rrf"}:
                raise ValueError("fusion must be one_of weights, rrf")
            numbers = [choice.low, choice.high] if choice.low is not None else list(choice.one_of)
            if name != "fusion":
                _check_numbers(name, numbers)
        return value


def _check_numbers(name: str, numbers: Sequence[Any]) -> None:
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{name} can't be {number!r}; it must be a number")
        least = 1 if name in WHOLE and name != "max_reranked" else 0
        most = 1.0 if name.removeprefix("weights.") in _SHARES else math.inf
        if (
            not math.isfinite(number)
            or not least <= number <= most
            or (name in WHOLE and number != int(number))
        ):
            kind = "a whole number" if name in WHOLE else "a number"
            upto = f" to {most:g}" if most < math.inf else ""
            raise ValueError(f"{name} can't be {number!r}; it must be {kind} from {least}{upto}")


class Spec(_Model):
    """A comparison of variants on judgments."""

    # The index or alias whose documents, vectors included, every variant searches.
    index: Annotated[str, Field(min_length=1, max_length=200)]
    judgments: JudgmentsSource
    # The files that variants start from. Default: those in use (NEURALRANK_CONFIG_FOLDER).
    folder: Path | None = None
    # The search pipeline of the folder that variants start from.
    pipeline: str = "neural_rank"
    # How many neighbours of the exact search the k-NN leg is measured against.
    recall_at: Annotated[int, Field(ge=1, le=1_000)] = 100
    # How often each query is timed.
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=100)]
    search: Search | None = None

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        names = [variant.name for variant in self.variants]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"has several variants called {', '.join(map(repr, twice))}")
        if self.search and self.search.variant and self.search.variant not in names:
            raise ValueError(
                f"search.variant is {self.search.variant!r}; allowed are "
                f"{', '.join(map(repr, names))}"
            )
        return self


def read_spec(path: Path) -> tuple[Spec, Located]:
    """The spec, its paths made those of the spec's folder, and the file with its lines.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it can't be used; the message names the line, and what is allowed.
        Unsupported: the extra `tune` is not installed.
    """
    found = read_yaml(path)
    if not isinstance(found.value, Mapping):
        raise found.refusal((), f"a spec is a mapping; allowed keys are {_listed(Spec)}.")
    try:
        spec = Spec.model_validate(found.value)
    except ValidationError as error:
        raise _refused(found, error) from error
    return spec, found


def _refused(found: Located, error: ValidationError) -> InvalidInput:
    """The first problem, at its line; the others are counted. A key that is not known goes first:
    one that is missing may be the one that was meant."""
    problems = sorted(
        error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden"
    )
    first = problems[0]
    place: Place = tuple(part for part in first["loc"] if part != "[key]")
    more = f" ({len(problems) - 1} more problems follow.)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        above, key = place[:-1], str(place[-1])
        model = _model_at(above)
        near = difflib.get_close_matches(key, model.model_fields, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return found.refusal(
            place, f"this key is not known.{hint} Allowed are {_listed(model)}.{more}"
        )
    if first["type"] == "missing":
        return found.refusal(place, f"is missing; it is required.{more}")
    words = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] == "value_error" else f"got {_short(first['input'])}; "
    return found.refusal(place, f"{got}{words[0].lower() if got else words[0]}{words[1:]}.{more}")


def _listed(model: type[BaseModel]) -> str:
    return ", ".join(sorted(model.model_fields))


def _model_at(place: Place) -> type[BaseModel]:
    """The model of which a value at a place is one."""
    model: type[BaseModel] = Spec
    for part in place:
        field = model.model_fields.get(str(part))
        # A position in a list, or a name of the user's own: the model is that of the entries.
        if field is not None:
            model = _models_in(field.annotation) or model
    return model


def _models_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _models_in(part))), None)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
