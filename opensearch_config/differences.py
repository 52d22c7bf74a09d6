"""Differences between two JSON values, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["differences", "short"]


def differences(wanted: Any, live: Any, path: str = "", *, whole: bool = False) -> Iterator[str]:
    """Where `live` differs from `wanted`, in words.

    OpenSearch gives numbers and booleans of settings back as strings; they are compared as such.

    Args:
        whole: whether what only `live` has counts, too. It does where OpenSearch keeps what it was
            given as it was given; of an index it adds settings of its own, and leaves out what is
            empty.
    """
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for name, value in wanted.items():
            where = f"{path}.{name}" if path else str(name)
            if name in live:
                yield from differences(value, live[name], where, whole=whole)
            elif whole or value != {}:
                yield f"{where} is not set, the file says {short(value)}"
        for name in live if whole else ():
            if name not in wanted:
                where = f"{path}.{name}" if path else str(name)
                yield f"{where} is {short(live[name])}, the file does not have it"
    elif _are_texts(wanted) and _are_texts(live):
        gained = [text for text in wanted if text not in live]
        lost = [text for text in live if text not in wanted]
        if gained or lost:
            words = [f"gains {short(gained)}"] * bool(gained) + [f"loses {short(lost)}"] * bool(
                lost
            )
            yield f"{path} {' and '.join(words)}"
        elif wanted != live:
            yield f"{path} is {short(live)}, the file says {short(wanted)}"
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for position, (value, found) in enumerate(zip(wanted, live, strict=True)):
            yield from differences(value, found, f"{path}[{position}]", whole=whole)
    elif _text(wanted) != _text(live):
        yield f"{path} is {short(live)}, the file says {short(wanted)}"


def short(value: Any) -> str:
    """A value as words show it, cut."""
    text = _text(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | str) else repr(value)
