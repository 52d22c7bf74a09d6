"""Whether UBI's indexes can be searched by the fields that reading them relies on.

An index that came into being with its first document, without a mapping, has ids as text, cut into
words: nothing can be sorted by them, and who asks for `user-17` gets others, or nothing.
"""

from collections.abc import Iterator
from typing import Final

from opensearchpy import OpenSearch

from neuralrank.errors import NotFound, Unsupported

__all__ = ["USERS", "conflicts", "require_fields"]

# By whom a user's events are found.
USERS: Final = ("user_id", "client_id")
# Types in which a field can be read by its whole value and in order; others: keyword.
_ALLOWED: Final = {
    "timestamp": ("date",),
    "query_attributes.experiment": ("flat_object", "keyword"),
}
_EXACT: Final = ("keyword",)
_ADVICE: Final = (
    'docs/search-engineer.md ("An index of UBI with other types") says how to make it anew from '
    "its own documents."
)


def conflicts(client: OpenSearch, index: str, *fields: str) -> list[str]:
    """The fields that have a type in which they can't be searched, in words. Those that an index
    does not have at all are none.

    Args:
        index: or an alias of several.

    Raises:
        NotFound: there is no such index.
    """
    answer = client.field_caps(index=index, params={"fields": ",".join(fields)})
    return list(_wrong(answer["fields"], index, fields))


def require_fields(client: OpenSearch, index: str, *fields: str) -> None:
    """Refuses an index in which fields can't be searched; one that is not there passes.

    Raises:
        Unsupported: the message names the fields, their types and what to do.
    """
    try:
        found = conflicts(client, index, *fields)
    except NotFound:
        return
    if found:
        raise Unsupported(f"{'; '.join(found)}. What is in it would be missed. {_ADVICE}")


def _wrong(
    caps: dict[str, dict[str, dict[str, list[str]]]], index: str, fields: tuple[str, ...]
) -> Iterator[str]:
    for field in fields:
        allowed = _ALLOWED.get(field, _EXACT)
        for kind, where in caps.get(field, {}).items():
            if kind not in allowed:
                names = ", ".join(where.get("indices") or [index])
                yield f"{field} of {names} is of type {kind}; needed is {' or '.join(allowed)}"
