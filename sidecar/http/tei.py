"""The rerank API of Hugging Face's text-embeddings-inference (TEI)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from neuralrank.errors import (
    DeadlineExceeded,
    InvalidInput,
    NeuralrankError,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from sidecar.http.texts import Query, TextQuery, TextRanking, read_query, read_text

__all__ = ["TeiError", "TeiInfo", "TeiRank", "TeiRequest", "read_tei", "tei_type", "write_tei"]


class TeiRequest(BaseModel):
    """Texts to be put in order by how well they answer a query. Other fields are passed over, as
    TEI does: clients of several services send those of all (LiteLLM's `top_n`)."""

    # Checked by `read_tei`, whose messages say more; here for the OpenAPI document.
    query: Query
    texts: Annotated[
        list[str], FailFast(), Field(json_schema_extra={"minItems": 1, "maxItems": 10_000})
    ]
    raw_scores: Annotated[
        bool,
        Field(
            description="The model's own number (a cross-encoder's logit, an encoder's cosine) for "
            "what the query wants, in place of a score in [0, 1]. What the query excludes does not "
            "count in it."
        ),
    ] = False
    return_text: Annotated[bool, Field(description="Whether results carry their text.")] = False
    truncate: Annotated[
        bool | None, Field(description="Without effect: long texts are always cut.")
    ] = None
    truncation_direction: Annotated[
        Literal["right", "Right"], Field(description="Texts are cut at their end.")
    ] = "right"


class TeiRank(BaseModel):
    """One text's place."""

    index: Annotated[int, Field(ge=0, description="Its place in the request, from 0.")]
    score: float
    text: str | None = None


class TeiError(BaseModel):
    """What went wrong, in words, and TEI's name for its kind."""

    error: str
    error_type: str


class TeiInfo(BaseModel):
    """What serves, in TEI's words."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str


def read_tei(
    request: TeiRequest, *, max_texts: int, characters: int, request_id: str, exclusions: bool
) -> TextQuery:
    """The checked request.

    Args:
        exclusions: whether what the query excludes is read.

    Raises:
        InvalidInput: a field can't be used.
    """
    query = read_query(request.query)
    if not 1 <= len(request.texts) <= max_texts:
        raise InvalidInput(
            f"texts has {len(request.texts)} entries; allowed are 1 to {max_texts}. Send the best "
            "of them only."
        )
    texts = [
        read_text(f"texts[{place}]", text, characters) for place, text in enumerate(request.texts)
    ]
    return TextQuery(query, texts, characters, request_id=request_id, exclusions=exclusions)


def write_tei(request: TeiRequest, ranking: TextRanking) -> list[dict[str, Any]]:
    """The answer, in the form of `TeiRank`, as plain objects.

    Raises:
        DeadlineExceeded: raw scores were asked for, and some texts were not read: no number says
            so.
        InvalidInput: the same, of an empty text.
    """
    unread = [score.index for score in ranking.scores if score.raw is None]
    if request.raw_scores and unread:
        empty = [place for place in unread if not request.texts[place].strip()]
        if empty:
            raise InvalidInput(
                f"texts[{empty[0]}] is empty: no model has a raw score for it. Leave it out, or "
                "ask without raw_scores."
            )
        raise DeadlineExceeded(
            f"{len(unread)} of {len(ranking.scores)} texts were not read, and no raw score says "
            "so. Give more time or fewer texts, or ask without raw_scores."
        )
    rows: list[dict[str, Any]] = []
    for score in ranking.scores:
        row: dict[str, Any] = {
            "index": score.index,
            "score": score.raw if request.raw_scores else score.score,
        }
        if request.return_text:
            row["text"] = request.texts[score.index]
        rows.append(row)
    # Best first by the number that is shown.
    return sorted(rows, key=lambda row: -row["score"]) if request.raw_scores else rows


_TYPES: list[tuple[type[NeuralrankError], str]] = [
    (InvalidInput, "Validation"),
    (NotFound, "Validation"),
    (Unauthenticated, "Unauthenticated"),
    (Overloaded, "Overloaded"),
    (DeadlineExceeded, "Backend"),
    (Unavailable, "Unhealthy"),
]


def tei_type(error: NeuralrankError) -> str:
    """TEI's name for a kind of error."""
    return next((name for kind, name in _TYPES if isinstance(error, kind)), "Backend")
