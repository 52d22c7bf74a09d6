"""Objects of a body that have known fields only."""

from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["NAMED", "Strict", "few"]

# Of entries that can't be used, those that a message names.
NAMED: Final = 5


class Strict(BaseModel):
    """A field that it does not have is an error. One more than are named are looked at: pydantic
    makes an error of each, and a body has room for a million."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, given: Any) -> Any:
        if not isinstance(given, dict) or len(given) <= len(cls.model_fields):
            return given
        known = {name: given[name] for name in cls.model_fields if name in given}
        unknown = (name for name in given if name not in cls.model_fields)
        return known | {name: given[name] for name in islice(unknown, NAMED + 1)}


def few(given: Any) -> Any:
    """So many entries of an object as are enough to say that there are too many."""
    return dict(islice(given.items(), NAMED + 1)) if isinstance(given, dict) else given
