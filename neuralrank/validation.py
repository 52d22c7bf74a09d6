"""What pydantic says is wrong with a document, in our words."""

from pydantic import ValidationError

__all__ = ["first_problem"]


def first_problem(error: ValidationError) -> str:
    """Where the first problem is, what stands there and what should; without a full stop."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return f"{where}: got {repr(first['input'])[:80]}: {first['msg']}"
