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
    text_bodies,
    text_fields,
    value_of,
)
from neuralrank.standing.gap import PARTS, Gap, Lift, Scored, gap, with_difference
from neuralrank.standing.probes import Place, events_of, knows, place, vector_place
from neuralrank.standing.terms import FieldShare, Lexical, Term, lexical
from neuralrank.standing.why import Nearness, State, Why, cosine_of, lacks

__all__ = [
    "PARTS",
    "FieldShare",
    "Gap",
    "Lexical",
    "Lift",
    "Meeting",
    "Nearness",
    "Place",
    "Scored",
    "State",
    "Term",
    "TextField",
    "Token",
    "Why",
    "analyse",
    "cosine_of",
    "events_of",
    "gap",
    "knows",
    "lacks",
    "lexical",
    "meet",
    "meetings",
    "parts_of",
    "place",
    "text_bodies",
    "text_fields",
    "value_of",
    "vector_place",
    "with_difference",
]
