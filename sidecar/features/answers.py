"""What an answer of OpenSearch must be to be one: in time, whole, and in its own words.

Anything else is `Unavailable`, whoever is at fault: who asks for a ranking can change nothing about
it, and what was not read must not pass for what there is not.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from neuralrank.errors import (
    InvalidInput,
    InvalidSettings,
    NeuralrankError,
    NotFound,
    Overloaded,
    Unavailable,
)

__all__ = ["understood", "whole", "within"]

_Result = TypeVar("_Result")

# What to do stands before the colon: the log ends there, as OpenSearch's reason may quote ids.
_HEALTH: Final = "See `GET _cluster/health` and OpenSearch's log"


async def within(
    timeout: float, call: Awaitable[_Result], *, named_by_caller: bool = False
) -> _Result:
    """The result of a read.

    Args:
        named_by_caller: whether what OpenSearch does not accept is a name that the caller gave.

    Raises:
        NotFound: OpenSearch does not have it.
        InvalidInput: it is no name, with `named_by_caller`.
        Unavailable: the time is over, or OpenSearch gives no answer.
    """
    try:
        async with asyncio.timeout(timeout):
            return await call
    except TimeoutError as error:
        raise Unavailable(
            f"OpenSearch did not answer within {timeout * 1_000:.0f} ms. See its log and load."
        ) from error
    except (NotFound, Unavailable):
        raise
    except NeuralrankError as error:
        if named_by_caller and type(error) is InvalidInput:
            raise
        raise Unavailable(f"{_advice(error)}: {error}") from error


def whole(answer: Mapping[str, Any], index: str) -> Sequence[Mapping[str, Any]]:
    """The hits of a search in which every shard took part.

    Raises:
        Unavailable: it failed, or a shard is missing or was late.
    """
    if "error" in answer:  # of one search among several
        error = answer["error"]
        causes = (error, *error.get("root_cause", ()), error.get("caused_by", {}))
        # Of a missing shard the outermost one has no words.
        reason = next(filter(None, (cause.get("reason") for cause in causes)), "no reason given")
        raise Unavailable(
            f"{index} can't be read. {_HEALTH}, and the user's rights: {reason.rstrip('.')}."
        )
    shards = answer.get("_shards", {})
    total, successful = shards.get("total", 0), shards.get("successful", 0)
    if shards.get("failed") or successful < total or answer.get("timed_out"):
        raise Unavailable(
            f"{total - successful} of {total} shards of {index} did not answer. {_HEALTH}."
        )
    hits: Sequence[Mapping[str, Any]] = answer["hits"]["hits"]
    return hits


@contextmanager
def understood() -> Iterator[None]:
    """What a proxy or a half-dead node answers in the place of JSON, or as JSON of another shape,
    is no answer: Unavailable."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(
            f"OpenSearch gave an answer that is none of its own ({type(error).__name__}). Look at "
            "what stands between it and the sidecar."
        ) from error


def _advice(error: NeuralrankError) -> str:
    if isinstance(error, InvalidSettings):
        return (
            "OpenSearch refuses what the sidecar reads. Set its user's rights there; where the "
            "password was changed, set NEURALRANK_OPENSEARCH_PASSWORD anew and restart the sidecar"
        )
    if isinstance(error, Overloaded):
        return "OpenSearch has too much to do to be read. See its load and memory"
    return "OpenSearch does not accept what the sidecar asks. See the mapping of its indexes"
