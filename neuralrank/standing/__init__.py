"""Why a product stands where it stands: tokens, terms, vectors, parts of the score, and what is
missing to the next place."""

from neuralrank.standing.analysis import (
    Meeting,
    TextField,
    Token,
    analyse,
    meet,
    meetings,
    parts_of,
    text_fields,
    value_of,
)

__all__ = [
    "Meeting",
    "TextField",
    "Token",
    "analyse",
    "meet",
    "meetings",
    "parts_of",
    "text_fields",
    "value_of",
]
