"""The rerank API of Cohere (v1 and v2) and of Jina: requests checked, answers written.

Cohere, "Rerank API reference"; Jina, "Reranker API". One request type takes what either sends, so
that a client of one can be pointed here unchanged.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

from neuralrank.errors import InvalidInput
from sidecar.domain import Arm, Experiment, Fusion, Mode
from sidecar.http.strict import Strict, few
from sidecar.http.texts import (
    RELEVANCE_ALONE,
    Query,
    TextQuery,
    TextRanking,
    read_query,
    read_text,
)
from sidecar.ranking.experiment import checked
from sidecar.sizes import MAX_ID

__all__ = ["CohereRequest", "CohereResponse", "read_cohere", "write_cohere"]

# Models of those services' own, which clients name by default: they mean our default here, where
# none of that name is served.
_FOREIGN: Final = re.compile(r"(rerank-(v\d|english|multilingual)|jina-reranker|jina-colbert)")
# About what a token has in English. Chinese has fewer: a model's own limit of tokens holds anyway.
_CHARACTERS_PER_TOKEN: Final = 4

_Fields = dict[str, Any]


class RelevantSpans(BaseModel):
    """Cohere v2's request for spans; only "disabled" can be had here."""

    mode: Literal["disabled"]
    threshold: float | None = None
    max_spans: int | None = None


class ArmRequest(Strict):
    """One of two models that are compared."""

    model: Annotated[
        str | None,
        Field(description="As `model` beside it, which stands here where absent.", max_length=256),
    ] = None


class ExperimentRequest(Strict):
    """Two models compared on users; of neuralrank's own."""

    name: Annotated[
        str, Field(description="1 to 64 letters, digits, '.', '_' and '-'.", max_length=64)
    ]
    mode: Annotated[
        Literal["ab", "interleave"],
        Field(description="Half of the users get either, or all a ranking made by both."),
    ] = "ab"
    arms: Annotated[
        dict[str, ArmRequest],
        BeforeValidator(few),
        Field(description="`A`, which is compared with, and `B`; not the same.", max_length=2),
    ]
    share: Annotated[float, Field(description="Of the users, above 0, who take part.", le=1)] = 1.0


class CohereRequest(Strict):
    """Documents to be put in order by how well they answer a query."""

    # Checked by `read_cohere`, whose messages say more; here for the OpenAPI document.
    query: Query
    documents: Annotated[
        list[str | _Fields],
        FailFast(),
        Field(
            description="Texts, or objects whose `rank_fields` are read. Fields that are not texts "
            "are left out.",
            json_schema_extra={"minItems": 1, "maxItems": 10_000},
        ),
    ]
    model: Annotated[
        str | None,
        Field(
            description="A served bundle as name or name@hash. Absent, and for the names of "
            "Cohere's and Jina's own models: the default for the query's language.",
            max_length=256,
        ),
    ] = None
    top_n: Annotated[
        int | None, Field(ge=1, description="How many results come back. Absent: all.")
    ] = None
    rank_fields: Annotated[
        list[str] | None,
        Field(
            max_length=100,
            description="Fields of object documents that are read, in this order. Absent: `text`.",
        ),
    ] = None
    return_documents: Annotated[
        bool | None,
        Field(
            description="Whether results carry their document. Absent: no; for a `jina-…` model "
            "yes, as Jina has it."
        ),
    ] = None
    max_tokens_per_doc: Annotated[
        int | None,
        Field(ge=1, description="How much of a document is read, 4 characters to a token."),
    ] = None
    max_chunks_per_doc: Annotated[
        int | None,
        Field(ge=1, description="Accepted and without effect: a document is read as one chunk."),
    ] = None
    truncation: Annotated[
        bool | None, Field(description="Jina's; without effect: long documents are cut.")
    ] = None
    priority: Annotated[
        int | None, Field(ge=0, le=999, description="Cohere v2's; without effect.")
    ] = None
    relevant_spans: Annotated[
        RelevantSpans | None, Field(description="Cohere v2's; only disabled.")
    ] = None
    user: Annotated[
        str | None,
        Field(description="neuralrank's: who asks, for `experiment` only.", max_length=MAX_ID),
    ] = None
    experiment: Annotated[
        ExperimentRequest | None,
        Field(description="neuralrank's: two models compared on users (docs/experiments.md)."),
    ] = None
    exclusions: Annotated[
        bool | None,
        Field(
            description='neuralrank\'s: whether what the query excludes ("without straw") is read. '
            "Absent: the setting exclusions."
        ),
    ] = None


class Document(BaseModel):
    """A document as it was read."""

    model_config = ConfigDict(extra="allow")

    text: str


class Result(BaseModel):
    """One document's place."""

    index: Annotated[int, Field(ge=0, description="Its place in the request, from 0.")]
    relevance_score: Annotated[float, Field(ge=0, le=1)]
    team: Annotated[
        Literal["A", "B"] | None, Field(description="Of an interleaved ranking: whose it is.")
    ] = None
    document: Document | None = None


class ApiVersion(BaseModel):
    version: str


class BilledUnits(BaseModel):
    """Nothing is billed."""

    search_units: float = 0


class ExperimentResponse(BaseModel):
    """What an experiment did: `arm`, or `left_out`, or neither of an interleaved ranking."""

    name: str
    mode: Literal["ab", "interleave"]
    arm: Literal["A", "B"] | None = None
    left_out: Annotated[str | None, Field(description="Why the request took no part in it.")] = None


class Meta(BaseModel):
    api_version: ApiVersion
    billed_units: BilledUnits = BilledUnits()
    warnings: Annotated[
        list[str] | None, Field(description="What kept the answer from being the best possible.")
    ] = None
    experiment: ExperimentResponse | None = None


class Usage(BaseModel):
    """What Jina bills: nothing is."""

    total_tokens: int
    prompt_tokens: int


class CohereResponse(BaseModel):
    """Best first; one result for each document, or `top_n` of them."""

    id: Annotated[str, Field(description="The request's id.")]
    model: Annotated[
        str, Field(description="The bundle that scored, as name@hash; both of an interleaved one.")
    ]
    results: list[Result]
    meta: Meta
    usage: Annotated[
        Usage | None, Field(description="For `jina-…` models, whose clients read it.")
    ] = None


def read_cohere(
    request: CohereRequest,
    *,
    max_documents: int,
    characters: int,
    request_id: str,
    exclusions: bool,
    served: Callable[[str], bool],
) -> TextQuery:
    """The checked request.

    Args:
        characters: the most that is read of a document.
        exclusions: whether what the query excludes is read, where the request does not say.
        served: whether a name or name@hash is that of a bundle here.

    Raises:
        InvalidInput: a field can't be used.
    """
    query = read_query(request.query)
    if not 1 <= len(request.documents) <= max_documents:
        raise InvalidInput(
            f"documents has {len(request.documents)} entries; allowed are 1 to {max_documents}. "
            "Send the best of them only."
        )
    if request.max_tokens_per_doc:
        characters = min(characters, request.max_tokens_per_doc * _CHARACTERS_PER_TOKEN)
    model = _ours(request.model, served)
    return TextQuery(
        query,
        _texts(request.documents, request.rank_fields, characters),
        characters,
        model,
        request_id,
        request.user or "",
        _experiment(request.experiment, model, served) if request.experiment else None,
        exclusions=exclusions if request.exclusions is None else request.exclusions,
    )


def write_cohere(request: CohereRequest, ranking: TextRanking, version: str, id: str) -> Any:
    """The answer, in the form of `CohereResponse`, as plain objects."""
    jina = (request.model or "").startswith("jina-")
    wanted = jina if request.return_documents is None else request.return_documents
    rows: list[dict[str, Any]] = []
    for score in ranking.scores[: request.top_n]:
        row: dict[str, Any] = {"index": score.index, "relevance_score": score.score}
        if score.index in ranking.teams:
            row["team"] = ranking.teams[score.index]
        if wanted:
            row["document"] = _document(request.documents[score.index], request.rank_fields)
        rows.append(row)
    meta: dict[str, Any] = {
        "api_version": {"version": version},
        "billed_units": {"search_units": 0},
    }
    if ranking.degraded:
        meta["warnings"] = [f"{note.reason.value}: {note.detail}" for note in ranking.degraded]
    if ranking.experiment is not None:
        joined = ranking.experiment
        told = {"arm": joined.arm, "left_out": joined.left_out}
        meta["experiment"] = {"name": joined.name, "mode": joined.mode.value} | {
            key: value for key, value in told.items() if value
        }
    answer = {"id": id, "model": ranking.model, "results": rows, "meta": meta}
    return answer | {"usage": {"total_tokens": 0, "prompt_tokens": 0}} if jina else answer


def _ours(model: str | None, served: Callable[[str], bool]) -> str:
    """The bundle that a name stands for; "" for the default."""
    if model is None or (_FOREIGN.match(model) and not served(model)):
        return ""
    return model


def _experiment(given: ExperimentRequest, model: str, served: Callable[[str], bool]) -> Experiment:
    arms = {
        name: Arm(_ours(arm.model, served) or model, RELEVANCE_ALONE, Fusion.WEIGHTS)
        for name, arm in given.arms.items()
    }
    return checked("experiment", given.name, Mode(given.mode), arms, given.share)


def _texts(
    documents: Sequence[str | _Fields], fields: Sequence[str] | None, characters: int
) -> list[str]:
    texts = []
    for place, document in enumerate(documents):
        if isinstance(document, str):
            texts.append(read_text(f"documents[{place}]", document, characters))
            continue
        if not any(isinstance(document.get(name), str) for name in fields or ("text",)):
            names = ", ".join(repr(name)[:80] for name in list(document)[:20])
            raise InvalidInput(
                f"documents[{place}] is an object with {names or 'no fields'}, and none of "
                f"{list(fields or ['text'])} is a text in it. Name the fields to be read in "
                "rank_fields."
            )
        texts.append(read_text(f"documents[{place}]", _joined(document, fields), characters))
    return texts


def _joined(document: _Fields, fields: Sequence[str] | None) -> str:
    """The fields that are read, a line each, so that the end of one is no part of the next."""
    values = [document.get(name) for name in fields or ("text",)]
    return "\n".join(value.strip() for value in values if isinstance(value, str)).strip()


def _document(document: str | _Fields, fields: Sequence[str] | None) -> dict[str, Any]:
    if isinstance(document, str):
        return {"text": document}
    return document if isinstance(document.get("text"), str) else {
        **document, "text": _joined(document, fields)
    }  # fmt: skip
