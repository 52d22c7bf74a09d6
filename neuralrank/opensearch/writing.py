"""Writes documents in bulk, and tells which ones OpenSearch refused and why."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from opensearchpy import OpenSearch

from neuralrank.errors import Overloaded, Unavailable
from neuralrank.opensearch.connection import refusal

__all__ = ["Refused", "bulk_write"]

# OpenSearch works best on bulk requests of a few MB.
_MAX_REQUEST_BYTES: Final = 5 * 1024 * 1024
# Waits between attempts, in seconds: 31 in all, which outlasts a full queue or a node's restart.
_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that OpenSearch did not take."""

    id: str
    reason: str


def bulk_write(
    client: OpenSearch,
    index: str,
    documents: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    versions: Mapping[str, int] | None = None,
    refresh: bool = False,
    ingested: bool = False,
    waits: Sequence[float] = _WAITS,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Refused]:
    """Writes documents by id, overwriting. What OpenSearch has no room for now is sent again.

    Args:
        documents: id and content.
        versions: of all of them, by id: each becomes the document's own version, and one that is
            there with a higher version is a conflict (InvalidInput). None: OpenSearch counts.
        refresh: whether searches see them when this returns.
        ingested: whether they are from an index: what its ingest pipeline makes of a document, it
            has made of these already.
        waits: seconds before each further attempt.

    Returns:
        Those that it refused because of what they are. The others are written.

    Raises:
        Overloaded, Unavailable: still so after the last attempt.
        Unsupported: its disk is full.
    """
    refused: list[Refused] = []
    for request in _requests(documents):
        left = request
        for wait in (*waits, None):
            try:
                outcome = _send(client, index, left, versions, refresh, ingested)
            except (Overloaded, Unavailable) as error:
                problem: Exception = error
            else:
                left, found = _sorted_out(left, outcome, index)
                refused += found
                if not left:
                    break
                problem = Overloaded(
                    f"OpenSearch has no room for {len(left)} documents of {index}. Try again later."
                )
            if wait is None:
                raise problem
            sleep(wait)
    return refused


_Lines = list[tuple[str, bytes]]  # id and document as JSON


def _requests(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[_Lines]:
    request: _Lines = []
    size = 0
    for identity, document in documents:
        line = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if request and size + len(line) > _MAX_REQUEST_BYTES:
            yield request
            request, size = [], 0
        request.append((identity, line))
        size += len(line)
    if request:
        yield request


def _send(
    client: OpenSearch,
    index: str,
    request: _Lines,
    versions: Mapping[str, int] | None,
    refresh: bool,
    ingested: bool,
) -> list[Any]:
    """One bulk request. Empty: all went well; else what became of each document."""

    def action(identity: str) -> bytes:
        meta: dict[str, Any] = {"_id": identity}
        if versions is not None:
            # Or equal: what is sent a second time changes nothing.
            meta |= {"version": versions[identity], "version_type": "external_gte"}
        return orjson.dumps({"index": meta})

    body = b"".join(action(identity) + b"\n" + line + b"\n" for identity, line in request)
    answer = client.bulk(
        body=body.decode(),
        index=index,
        params={
            "refresh": str(refresh).lower(),
            "filter_path": "errors,items.*.status,items.*.error",
            **({"pipeline": "_none"} if ingested else {}),
        },
    )
    return list(answer["items"]) if answer.get("errors") else []


def _sorted_out(request: _Lines, outcomes: list[Any], index: str) -> tuple[_Lines, list[Refused]]:
    """What is to be sent again, and what was refused for good.

    Raises:
        NeuralrankError: OpenSearch refuses to write at all, which waiting does not change.
    """
    again: _Lines = []
    refused: list[Refused] = []
    for entry, item in zip(request, outcomes, strict=bool(outcomes)):
        outcome = item["index"]
        status = int(outcome["status"])
        if status < 300:
            continue
        error = outcome.get("error") or {}
        kind, reason = str(error.get("type", "")), _reason(error)
        if status in (429, 503) and kind != "cluster_block_exception":
            again.append(entry)
        elif status == 400:
            refused.append(Refused(entry[0], reason))
        else:
            raise refusal(status, kind, reason, f"index {index}")
    return again, refused


def _reason(error: Mapping[str, Any]) -> str:
    reason = str(error.get("reason", error))
    cause = error.get("caused_by")
    if isinstance(cause, Mapping) and cause.get("reason"):
        reason = f"{reason}: {cause['reason']}"
    return reason[:500]
