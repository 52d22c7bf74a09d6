"""What pydantic says is wrong with a document, in our words."""

from collections.abc import Iterator
from typing import Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

__all__ = ["first_problem", "of_part", "problems", "short"]

_OF_PART: Final = "of_part"


def problems(error: ValidationError, what: str) -> Iterator[str]:
    """For each wrong field: its name, what was received, what is allowed; without a full stop.

    Args:
        what: the name of the whole, for what is wrong with no single field.
    """
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"])) or what
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            yield f"{where}: is missing or empty; it is required"
        elif problem["type"] == _OF_PART:
            yield message
        else:
            yield f"{where}: got {short(problem['input'])}; {message[0].lower()}{message[1:]}"


def first_problem(error: ValidationError) -> str:
    """The first of them."""
    return next(problems(error, "the whole"))


def of_part(name: str, why: str) -> PydanticCustomError:
    """An error of one part of a field: the part is named, and not the field."""
    return PydanticCustomError(_OF_PART, "{said}", {"said": f"{name}: {why}"})


def short(value: object) -> str:
    """A value in a message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
