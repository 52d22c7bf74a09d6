"""How many fields the bytes of a message hold, counted before it is decoded.

A field takes two bytes on the wire and up to 170 in memory: 64 MiB of empty candidates would be
5 GiB, and nobody else would be answered while they are made. Counting stops at what is allowed.
"""

from collections.abc import Mapping
from typing import Any, Final

from neuralrank.errors import InvalidInput

__all__ = ["MAX_FIELDS", "check_fields"]

# Of a message, those of the messages in it included.
MAX_FIELDS: Final = 1_000_000
# Shorter messages are decoded as they are: what they could hold is soon made.
_SMALL: Final = 2**16
# Only messages in it that are longer are looked into, so that a usual request costs one step a
# candidate. What shorter ones may hold, the contract allows.
_LONG: Final = 2**12
# Bytes of the longest number on the wire.
_VARINT: Final = 10


def check_fields(raw: bytes, kind: Any, most: Mapping[str, int], fields: int = MAX_FIELDS) -> None:
    """Looks at the tags and lengths alone; bytes that are no message are the decoder's to refuse.

    Args:
        kind: the descriptor of the message.
        most: how often a repeated field of it may come, by its name.
        fields: how many there may be in all.

    Raises:
        InvalidInput: there are more.
    """
    if len(raw) > _SMALL:
        try:
            _count(raw, kind, most, fields)
        except IndexError:  # it ends in the middle of a field
            return


def _count(raw: bytes, kind: Any, most: Mapping[str, int], fields: int) -> None:
    left = {kind.fields_by_name[name].number: count for name, count in most.items()}
    # Ranges that are still to be looked at, and what is known of the messages in them.
    waiting: list[tuple[int, int, dict[int, Any]]] = [(0, len(raw), _inner(kind))]
    known: dict[str, dict[int, Any]] = {}
    seen = 0
    at_top = True
    while waiting:
        at, end, inner = waiting.pop()
        while at < end:
            seen += 1
            if seen > fields:
                raise InvalidInput(
                    f"The request has more than {fields} fields in its {len(raw)} bytes; allowed "
                    f"are {fields}, with those of its candidates. Send fewer of them at once."
                )
            tag = raw[at]
            at += 1
            if tag > 127:
                tag, at = _varint(raw, at - 1)
            wire = tag & 7
            if wire == 2:
                length = raw[at]
                at += 1
                if length > 127:
                    if raw[at] < 128:  # nearly all of them: without a call
                        length += (raw[at] - 1) << 7
                        at += 1
                    else:
                        length, at = _varint(raw, at - 1)
                number = tag >> 3
                if at_top and number in left:
                    left[number] -= 1
                    if left[number] < 0:
                        name = kind.fields_by_number[number].name
                        raise InvalidInput(
                            f"The request has more than {most[name]} {name}; allowed are "
                            f"{most[name]}. Send fewer at once."
                        )
                if length > _LONG and number in inner:
                    found = inner[number]
                    if found.full_name not in known:
                        known[found.full_name] = _inner(found)
                    waiting.append((at, min(at + length, end), known[found.full_name]))
                at += length
            elif wire == 0:
                _, at = _varint(raw, at)
            elif wire == 1:
                at += 8
            elif wire == 5:
                at += 4
        at_top = False


def _inner(kind: Any) -> dict[int, Any]:
    """The messages in a message, by the numbers of their fields."""
    return {field.number: field.message_type for field in kind.fields if field.message_type}


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends.

    Raises:
        IndexError: there is none.
    """
    number = 0
    for place in range(_VARINT):
        byte = raw[at + place]
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at + place + 1
    raise IndexError
