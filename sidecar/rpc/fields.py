"""How many fields the bytes of a message hold, counted before it is decoded.

A field takes two bytes on the wire and up to 170 in memory: 64 MiB of empty candidates would be
5 GiB, and nobody else would be answered while they are made. Counting stops at what is allowed.
A request of 1,000 candidates of 2 KB takes half a millisecond.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from random import random
from typing import Any, Final

from neuralrank.errors import InvalidInput

__all__ = ["MAX_FIELDS", "check_fields"]

# Of a message, those of the messages in it included.
MAX_FIELDS: Final = 1_000_000
# Shorter messages are decoded as they are: what they could hold is soon made.
_SMALL: Final = 2**16
# Messages in it that are longer are looked into. Of shorter ones, such as a usual candidate, one of
# so many is, and the others are taken to hold as much; all of them where that would be too much.
_LONG: Final = 2**12
_SAMPLE: Final = 16
# Bytes of the longest number on the wire.
_VARINT: Final = 10

# From, to, the messages that are looked for in it, and for how many such it stands.
_Range = tuple[int, int, dict[int, Any], int]


def check_fields(raw: bytes, kind: Any, most: Mapping[str, int], fields: int = MAX_FIELDS) -> None:
    """Looks at the tags and lengths alone; bytes that are no message are the decoder's to refuse.

    Args:
        kind: the descriptor of the message.
        most: how often a repeated field of it may come, by its name.
        fields: how many there may be in all.

    Raises:
        InvalidInput: there are more.
    """
    if len(raw) <= _SMALL:
        return
    if _guess(raw, kind, most, fields, _SAMPLE) > fields:
        _guess(raw, kind, most, fields, 1)


def _guess(raw: bytes, kind: Any, most: Mapping[str, int], fields: int, every: int) -> int:
    """How many fields there are about, from one of `every` short message.

    Raises:
        InvalidInput: as `check_fields`, of what was looked at.
    """
    left = {kind.fields_by_name[name].number: count for name, count in most.items()}
    # Ranges that are still to be looked at, with the messages in them that may be.
    waiting: list[_Range] = [(0, len(raw), _inner(kind), 1)]
    seen = guessed = 0
    at_top = True
    while waiting:
        at, end, inner, weight = waiting.pop()
        before = seen
        # Cut in the middle of a field: the decoder says so, once it has made all that is before.
        with suppress(IndexError):
            while at < end:
                seen += 1
                if seen > fields:
                    raise _too_many(f"{fields} fields, in candidates and beside", fields)
                # Numbers of one byte, as nearly all tags are, are read without a call.
                tag = raw[at]
                at += 1
                if tag > 127:
                    tag, at = _varint(raw, at - 1)
                wire = tag & 7
                if wire == 2:
                    length = raw[at]
                    at += 1
                    if length > 127:
                        length, at = _varint(raw, at - 1)
                    number = tag >> 3
                    if at_top and number in left:
                        left[number] -= 1
                        if left[number] < 0:
                            name = kind.fields_by_number[number].name
                            raise _too_many(f"{most[name]} {name}", most[name])
                    if number in inner:
                        if length > _LONG:
                            waiting.append((at, min(at + length, end), _inner(inner[number]), 1))
                        elif at_top and random() * every < 1:
                            waiting.append((at, min(at + length, end), {}, every))
                    at += length
                elif wire == 0:
                    _, at = _varint(raw, at)
                elif wire == 1:
                    at += 8
                elif wire == 5:
                    at += 4
        guessed += (seen - before) * weight
        at_top = False
    return guessed


def _too_many(what: str, allowed: int) -> InvalidInput:
    return InvalidInput(
        f"The request has more than {what}; allowed are {allowed}. Send fewer at once."
    )


@cache
def _inner(kind: Any) -> dict[int, Any]:
    """The messages in a message, by the numbers of their fields."""
    return {field.number: field.message_type for field in kind.fields if field.message_type}


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of several bytes, and where it ends.

    Raises:
        IndexError: there is none.
    """
    if raw[at + 1] < 128:  # of two, as nearly all of them
        return raw[at] + ((raw[at + 1] - 1) << 7), at + 2
    number = 0
    for place in range(_VARINT):
        byte = raw[at + place]
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at + place + 1
    raise IndexError
