"""OpenSearch's explanation of a lexical score, as one row for each term.

A `combined_fields` query (BM25F, Robertson et al., "Simple BM25 Extension to Multiple Weighted
Fields", 2004) has one score for a term over all its fields, by the sum of weight × count in each.
So a field's share of the term's score is its share of that sum.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from neuralrank.standing.analysis import Meeting

__all__ = ["FieldShare", "Lexical", "Term", "lexical"]

_COMBINED: Final = re.compile(r"weight\(CombinedFieldQuery\(\((.*)\)\((.*)\)\) in \d+\)")
_SYNONYMS: Final = re.compile(r"weight\(Synonym\((.*)\) in \d+\)")
_PLAIN: Final = re.compile(r"weight\(([^\s:(]+):(.*) in \d+\)")
_BOOST: Final = re.compile(r"\^[\d.]+$")


@dataclass(frozen=True, slots=True)
class FieldShare:
    """One field's part of a term's score."""

    field: str
    weight: float
    # How often the term stands there.
    count: int
    # Of the term's score, in [0, 1].
    share: float


@dataclass(frozen=True, slots=True)
class Term:
    """One term's part of a lexical score. `idf` is None where OpenSearch does not say it."""

    term: str
    score: float
    idf: float | None
    fields: tuple[FieldShare, ...]


@dataclass(frozen=True, slots=True)
class Lexical:
    """A document's score by a query; `terms` are best first."""

    score: float
    terms: tuple[Term, ...]
    # What no term accounts for: functions, scripts, vectors, clauses of constant score.
    rest: float

    def json(self) -> dict[str, Any]:
        return asdict(self)


def lexical(explanation: Mapping[str, Any], meetings: Sequence[Meeting] = ()) -> Lexical:
    """The terms of an `explanation` of OpenSearch's `_explain`.

    Args:
        meetings: the query against the product's fields, from which counts come.
    """
    counts = {meeting.field: [token.text for token in meeting.tokens] for meeting in meetings}
    terms = sorted(_terms(explanation, counts), key=lambda term: -term.score)
    score = float(explanation["value"])
    rest = score - sum(term.score for term in terms)
    # The sum of float32 parts is off by their last digits.
    return Lexical(score, tuple(terms), rest if abs(rest) > 1e-4 * max(1.0, abs(score)) else 0.0)


def _terms(node: Mapping[str, Any], counts: Mapping[str, Sequence[str]]) -> Iterator[Term]:
    text = str(node["description"])
    if text.startswith("weight("):
        yield _term(node, text, counts)
        return
    children = node.get("details", ())
    if text.startswith("max of"):
        # Only the best counts.
        children = sorted(children, key=lambda child: -child["value"])[:1]
    elif not text.startswith("sum of"):
        # A product or a function: what is inside has another scale than the whole.
        return
    for child in children:
        yield from _terms(child, counts)


def _term(node: Mapping[str, Any], text: str, counts: Mapping[str, Sequence[str]]) -> Term:
    if match := _COMBINED.match(text):
        weights = dict(_weighted(name) for name in match[1].split())
        words = match[2].split()
    elif match := _SYNONYMS.match(text):
        # "Synonym(title:notebook title:laptop)"; one of little weight is "title:notebook^0.5".
        pairs = [_BOOST.sub("", pair).partition(":") for pair in match[1].split()]
        weights = {field: 1.0 for field, _, _ in pairs}
        words = [word for _, _, word in pairs]
    elif match := _PLAIN.match(text):
        weights, words = {match[1]: 1.0}, [match[2].strip('"')]
    else:
        weights, words = {}, [text]
    found = {
        field: sum(word in words for word in counts.get(field, ())) for field in sorted(weights)
    }
    total = sum(weights[field] * count for field, count in found.items())
    shares = [
        FieldShare(field, weights[field], count, weights[field] * count / total)
        for field, count in found.items()
        if count
    ]
    return Term(
        term=" | ".join(words),
        score=float(node["value"]),
        idf=_idf(node),
        fields=tuple(sorted(shares, key=lambda share: -share.share)),
    )


def _weighted(name: str) -> tuple[str, float]:
    field, _, weight = name.partition("^")
    return field, float(weight or 1.0)


def _idf(node: Mapping[str, Any]) -> float | None:
    """The first one below a node; of synonyms there is one for all of them."""
    for child in node.get("details", ()):
        if str(child["description"]).startswith("idf"):
            return float(child["value"])
        found = _idf(child)
        if found is not None:
            return found
    return None
