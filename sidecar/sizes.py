"""The most that a caller may send, and the words in which more is refused.

What the wire contract says of sizes is here; what clients of ours look at, too, is in
`neuralrank.limits`. The message as a whole is bounded by `max_message_bytes`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from neuralrank.errors import InvalidInput
from neuralrank.limits import MAX_COLLABORATIVE, MAX_INTERESTS, MAX_QUERY

__all__ = [
    "LARGE_BYTES",
    "MAX_ATTRIBUTES",
    "MAX_CATEGORIES",
    "MAX_COLLABORATIVE",
    "MAX_DIMENSIONS",
    "MAX_EXCLUDED",
    "MAX_FEATURES",
    "MAX_ID",
    "MAX_IMAGES",
    "MAX_INPUTS",
    "MAX_INTERACTIONS",
    "MAX_INTERESTS",
    "MAX_LIST",
    "MAX_NAME",
    "MAX_PASSAGE",
    "MAX_QUERY",
    "MAX_REQUEST_ID",
    "MAX_RULES",
    "MAX_VALUE",
    "MAX_VALUES",
    "MAX_WEIGHT",
    "at_most",
    "column_at_most",
    "in_trailer",
    "shown",
]

# Bytes. A longer message is large: it is read beside the event loop, and not kept waiting before it
# is let in. A page of 300 candidates with texts and 384 dimensions is as long, and takes 0.5 ms to
# be counted and decoded.
LARGE_BYTES: Final = 2**19

# Characters.
MAX_PASSAGE: Final = 65_536
MAX_REQUEST_ID: Final = 128
# Of ids of items and users, and names of indexes. The plugin's are index/id, of 255 and 512 bytes.
MAX_ID: Final = 1_024
# Of brands, categories, languages, names of attributes, actions and bundles.
MAX_NAME: Final = 1_024
# Of a value of an attribute; OpenSearch has no longer one in a flat_object.
MAX_VALUE: Final = 32_766

# Entries.
MAX_INTERACTIONS: Final = 500
# Each takes as long as a few dozen texts.
MAX_IMAGES: Final = 32
MAX_INPUTS: Final = 256
# Of exclude_items, exclude_brands, blocked_items and blocked_brands.
MAX_LIST: Final = 10_000
# Of an encoding's; as many as events say of a user.
MAX_EXCLUDED: Final = 2_000
MAX_RULES: Final = 100
# Values of one rule, and of one attribute of a candidate.
MAX_VALUES: Final = 1_000
# Of one candidate.
MAX_CATEGORIES: Final = 100
MAX_ATTRIBUTES: Final = 1_000
MAX_FEATURES: Final = 1_000

# Numbers in a vector; OpenSearch has no more.
MAX_DIMENSIONS: Final = 16_000
MAX_WEIGHT: Final = 1_000_000.0

# Of a value that a message quotes.
_SHOWN: Final = 64
# Of a status message.
_MESSAGE_BYTES: Final = 2_000


def at_most(name: str, received: int, allowed: int, unit: str, advice: str = "Shorten it.") -> None:
    """
    Raises:
        InvalidInput: there is more than is allowed.
    """
    if received > allowed:
        raise InvalidInput(f"{name} has {received} {unit}; allowed are {allowed}. {advice}")


def column_at_most(name: str, ids: Sequence[str], texts: Iterable[str], allowed: int) -> None:
    """Checks a text of every candidate; the message names the first that is too long.

    Raises:
        InvalidInput: one has more characters than are allowed.
    """
    lengths = [len(text) for text in texts]
    if max(lengths, default=0) > allowed:
        place = next(place for place, length in enumerate(lengths) if length > allowed)
        at_most(f"{name} of candidate {shown(ids[place])}", lengths[place], allowed, "characters")


def in_trailer(message: str) -> str:
    """A status message, cut to what fits gRPC's trailers: 8 KB, of which a byte that is not ASCII
    takes three. A longer one has clients say RESOURCE_EXHAUSTED in the place of what was wrong."""
    data = message.encode("utf-8", "backslashreplace")
    if len(data) <= _MESSAGE_BYTES:
        return data.decode()
    return data[:_MESSAGE_BYTES].decode("utf-8", "ignore") + " …"


def shown(value: str) -> str:
    """A value in quotes for a message, cut where it is long."""
    return repr(value) if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]!r}..."
