"""The connection to OpenSearch, and what its errors mean here.

Clients from `connect` and `connect_async` raise errors of `neuralrank.errors` only, so that callers
need not know opensearch-py's:

    no answer, timeout, 5xx, read-only index    Unavailable
    404                                         NotFound
    429                                         Overloaded
    disk full (flood stage)                     Unsupported
    401, 403                                    InvalidSettings
    other 4xx                                   InvalidInput
"""

import json
import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from opensearchpy import AsyncOpenSearch, JSONSerializer, OpenSearch
from opensearchpy import exceptions as opensearch_errors
from opensearchpy._async.transport import AsyncTransport
from opensearchpy.transport import Transport

from neuralrank.errors import (
    InvalidInput,
    InvalidSettings,
    NeuralrankError,
    NotFound,
    Overloaded,
    Unavailable,
    Unsupported,
)
from neuralrank.opensearch.authorities import trusting
from neuralrank.settings import Settings

__all__ = ["connect", "connect_async", "refusal", "translate"]

# opensearch-py logs every failed request as a warning. The error that is raised says the same
# better, so the log is silent unless the program asks for it.
logging.getLogger("opensearch").addHandler(logging.NullHandler())

# Around a request of that method to that path, with headers to send along.
Observe = Callable[[str, str], AbstractContextManager[Mapping[str, str]]]

# Longest part of OpenSearch's own reason that a message quotes.
_REASON_CHARACTERS: Final = 500


def connect(settings: Settings, *, timeout: float = 30.0, retries: int = 2) -> OpenSearch:
    """A client for `settings.opensearch_url`. It connects on first use; close it when done.

    Args:
        timeout: seconds for one attempt.
        retries: attempts after the first where the connection failed or a proxy answered 502 to
            504. Timeouts are not tried again. Every document that neuralrank writes carries its
            own id, so a write that is sent twice changes nothing.

    Raises:
        InvalidSettings: `opensearch_url` is not an http or https address, or `opensearch_ca` is no
            file with certificates.
    """
    return OpenSearch(
        **_options(settings, timeout, retries),
        transport_class=_SyncTransport,
    )


def connect_async(
    settings: Settings,
    *,
    timeout: float = 30.0,
    retries: int = 2,
    connections: int = 32,
    observe: Observe | None = None,
) -> AsyncOpenSearch:
    """As `connect`, for asyncio.

    Args:
        connections: requests that are under way at once, at most.
        observe: is entered with method and path around every request, and gives headers for it.
    """
    return AsyncOpenSearch(
        **_options(settings, timeout, retries),
        transport_class=_AsyncTransport,
        maxsize=connections,
        observe=observe or _unobserved,
    )


def translate(error: opensearch_errors.OpenSearchException, url: str) -> NeuralrankError:
    """The error of `neuralrank.errors` for one of opensearch-py's; `url` is for the message."""
    if not isinstance(error, opensearch_errors.TransportError):
        return InvalidInput(f"OpenSearch's client can't use what it was given: {error}.")
    refused = _certificate_problem(error)
    if refused is not None or isinstance(error, opensearch_errors.SSLError):
        return Unavailable(
            f"No secure connection to OpenSearch at {url}: {refused or error.info}. Name its "
            "authority's PEM file in NEURALRANK_OPENSEARCH_CA, or set "
            "NEURALRANK_OPENSEARCH_VERIFY_CERTS=false for a test cluster."
        )
    if isinstance(error, opensearch_errors.ConnectionTimeout):
        return Unavailable(f"OpenSearch at {url} did not answer in time. See its log and load.")
    if isinstance(error, opensearch_errors.ConnectionError):
        return Unavailable(
            f"OpenSearch at {url} can't be reached. Start it (`neuralrank up`), or name the right "
            "address in NEURALRANK_OPENSEARCH_URL."
        )
    kind, reason = _reason(error)
    status = error.status_code
    return refusal(status if isinstance(status, int) else 500, kind, reason, url)


# All that OpenSearch says of a rule that it can't use.
_NO_SYNONYMS: Final = "Failed to build synonyms"
_SYNONYMS: Final = (
    "It does not say which rule: look for one with two =>, for nothing between two commas, and for "
    "words that synonym_analyzer leaves nothing of, as stop words."
)


def refusal(status: int, kind: str, reason: str, url: str) -> NeuralrankError:
    """The error for an answer of 400 or more, or for one item of a bulk request.

    Args:
        status: the HTTP status.
        kind: OpenSearch's error type, such as "cluster_block_exception".
        reason: its reason, in its words.
    """
    if kind == "cluster_block_exception":
        if "flood-stage" in reason:
            return Unsupported(
                f"OpenSearch at {url} refuses to write because its disk is full: {reason}. Free "
                "disk space there; it lifts the block by itself."
            )
        return Unavailable(
            f"OpenSearch at {url} refuses this: {reason}. A read-only block is lifted by setting "
            "index.blocks.write and index.blocks.read_only to null."
        )
    if kind == "index_create_block_exception":
        return Unsupported(
            f"OpenSearch at {url} makes no index: {reason}. It blocks that itself while the disks "
            "of all nodes are nearly full: free some space there. If somebody has set "
            "cluster.blocks.create_index, set it to null."
        )
    match status:
        case 401 | 403:
            return InvalidSettings(
                f"OpenSearch at {url} refuses access ({status}: {reason}). Check "
                "NEURALRANK_OPENSEARCH_USER, NEURALRANK_OPENSEARCH_PASSWORD and the user's rights."
            )
        case 404:
            return NotFound(f"OpenSearch at {url} does not have it: {reason}.")
        case 429:
            return Overloaded(f"OpenSearch at {url} has too much to do: {reason}. Try again later.")
        case _ if status >= 500:
            return Unavailable(f"OpenSearch at {url} failed ({status}): {reason}.")
        case _:
            told = f"OpenSearch at {url} does not accept this ({status}): {reason}."
            return InvalidInput(f"{told} {_SYNONYMS}" if _NO_SYNONYMS in reason else told)


def _certificate_problem(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Why OpenSearch's certificate is not trusted, where that is at the bottom of an error: the
    client for asyncio calls it a connection error as any other."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: opensearch_errors.TransportError) -> tuple[str, str]:
    """OpenSearch's error type and its reason in words, as deep as they are given."""
    body = error.info if isinstance(error.info, dict) else {}
    if body.get("found") is False:
        return "not_found", f"no document {body.get('_id')!r} in index {body.get('_index')!r}"
    details = body.get("error", body)
    if not isinstance(details, dict):
        return str(error.error), str(details)[:_REASON_CHARACTERS]
    roots = details.get("root_cause") or [details]
    reasons = [str(root.get("reason", root)) for root in roots if isinstance(root, dict)]
    cause = details.get("caused_by")
    if isinstance(cause, dict) and cause.get("reason"):
        reasons.append(str(cause["reason"]))
    # Of a missing shard the outermost one has no words.
    words = "; ".join(dict.fromkeys(filter(None, reasons))) or str(error.error)
    return str(details.get("type", error.error)), words.rstrip(".")[:_REASON_CHARACTERS]


class _Serializer(JSONSerializer):
    """orjson: several times faster than `json` on vectors, and it knows numpy."""

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except ValueError:
            # OpenSearch keeps half an emoji, which browsers log where a text is cut, as it came.
            # One such document must not cost the answer with all others.
            try:
                return _whole(json.loads(s))
            except ValueError as error:
                raise opensearch_errors.SerializationError(s, error) from error

    def dumps(self, data: Any) -> Any:
        if isinstance(data, str | bytes):
            return data
        try:
            return orjson.dumps(
                data, default=self.default, option=orjson.OPT_SERIALIZE_NUMPY
            ).decode()
        except TypeError as error:
            raise opensearch_errors.SerializationError(data, error) from error


def _whole(value: Any) -> Any:
    """With U+FFFD for each half of a surrogate pair."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_whole(name): _whole(inner) for name, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
    return value


class _SyncTransport(Transport):
    """Raises errors of `neuralrank.errors`."""

    def perform_request(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().perform_request(*arguments, **options)
        except opensearch_errors.OpenSearchException as error:
            raise translate(error, _address(self)) from error


class _AsyncTransport(AsyncTransport):
    """Raises errors of `neuralrank.errors`."""

    def __init__(self, *arguments: Any, observe: Observe, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._observe = observe

    async def perform_request(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        try:
            with self._observe(method, url) as headers:
                if headers:
                    options["headers"] = {**(options.get("headers") or {}), **headers}
                return await super().perform_request(method, url, *arguments, **options)
        except opensearch_errors.OpenSearchException as error:
            raise translate(error, _address(self)) from error


def _unobserved(_method: str, _path: str) -> AbstractContextManager[Mapping[str, str]]:
    return nullcontext({})


def _address(transport: Transport) -> str:
    return str(transport.hosts[0]["url"])


def _options(settings: Settings, timeout: float, retries: int) -> dict[str, Any]:
    try:
        parts = urlsplit(settings.opensearch_url)
        port = parts.port
    except ValueError:  # a port that is no number, a bracket that is not closed
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings(
            # With an "@" it has a password that was not written as an address has it.
            f"opensearch_url is {settings.opensearch_url.rpartition('@')[2]!r}; allowed is an "
            "address such as http://127.0.0.1:9200. Set NEURALRANK_OPENSEARCH_URL; user and "
            "password go to NEURALRANK_OPENSEARCH_USER and NEURALRANK_OPENSEARCH_PASSWORD."
        )
    secure = parts.scheme == "https"
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    host: dict[str, Any] = {
        "host": parts.hostname,
        "port": port or (443 if secure else 9200),
        "use_ssl": secure,
        # Not used by the connection: the address as messages show it, without a password.
        "url": f"{parts.scheme}://{shown}:{port or (443 if secure else 9200)}",
    }
    if parts.path.strip("/"):
        host["url_prefix"] = parts.path.strip("/")
    options: dict[str, Any] = {
        "hosts": [host],
        "serializer": _Serializer(),
        "http_compress": True,
        "timeout": timeout,
        "max_retries": retries,
        "retry_on_timeout": False,
    }
    if secure:
        options |= {
            "verify_certs": settings.opensearch_verify_certs,
            "ssl_show_warn": settings.opensearch_verify_certs,
        }
        if settings.opensearch_ca:
            # Read here too: else the first request would fail, and say less.
            trusting(settings.opensearch_ca)
            options["ca_certs"] = settings.opensearch_ca
    if settings.opensearch_user:
        options["http_auth"] = (settings.opensearch_user, settings.opensearch_password)
    return options
