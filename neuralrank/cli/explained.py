"""A `Why`, printed for a person."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralrank.cli.analyze import show_meetings
from neuralrank.cli.results import number
from neuralrank.standing import PARTS, Lift, Place, Term, Why, with_difference

__all__ = ["show"]

# Terms that are printed; JSON has all.
_TERMS: Final = 12


def show(out: Console, why: Why) -> None:
    """Headline, orders, parts, words, tokens, and what would lift it."""
    who = f" for {why.user}" if why.user else ""
    out.print(Text.assemble((why.id, "bold cyan"), f" {why.title}"))
    out.print(Text(f"{_headline(why)}  ({why.query!r}{who})", "bold"))
    for lack in why.lacks:
        out.print(Text(f"  {lack}"))
    for note in why.degraded:
        out.print(Text(f"  degraded: {note['reason']} ({note.get('detail', '')})", "yellow"))
    out.print()
    _orders(out, why)
    if why.scored is not None:
        _parts(out, why)
    _words(out, why)
    _tokens(out, why)
    _next(out, why)


def _headline(why: Why) -> str:
    match why.state:
        case "ranked":
            return f"place {why.position} of {why.candidates} candidates"
        case "dropped":
            dropped = why.dropped or {}
            return f"dropped: {dropped.get('reason', '')} ({dropped.get('detail', '')})"
        case "not_reranked":
            place = f"place {why.position}" if why.position else "not on the page"
            return f"{place}, in OpenSearch's own order: nothing was re-ranked"
        case _:
            return f"not among the {why.candidates} candidates"


def _orders(out: Console, why: Why) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("order")
    table.add_column("place", justify="right")
    table.add_column("score")
    words = why.lexical_place
    table.add_row("by words", _place(words), number(words.score))
    near = why.vector
    if near.place is None or near.cosine is None:
        table.add_row("by vector", "–", near.missing)
    else:
        calibrated = "" if near.calibrated is None else f", calibrated {near.calibrated:.3f}"
        table.add_row("by vector", _place(near.place), f"cosine {near.cosine:.3f}{calibrated}")
    if why.scored is not None:
        table.add_row("ranked", f"{why.position} of {why.candidates}", number(why.scored.score))
    out.print(table)


def _place(place: Place) -> str:
    return f"{place.position or '–'} of {place.total:,}"


def _parts(out: Console, why: Why) -> None:
    if (mine := why.scored) is None:
        return
    above = why.gap.above if why.gap else None
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("part")
    for heading in ("value", "weight", "adds", *(("adds above",) if above else ())):
        table.add_column(heading, justify="right")
    table.add_column("from")
    for part in (*PARTS, *(mine.parts.keys() - set(PARTS))):
        cells = ["–", "–", "–"]
        if part in mine.parts:
            cells = [number(mine.parts[part]), number(mine.weights[part]), number(mine.pull(part))]
        if above:
            cells.append(number(above.pull(part)) if part in above.parts else "–")
        table.add_row(part, *cells, Text(_source(part, why)))
    out.print()
    out.print(table)
    for event in why.events:
        query = f" after searching {event['query']!r}" if event["query"] else ""
        out.print(
            Text(f"  {event['action']} of {event['id']} at {event['timestamp']}{query}", "dim")
        )


def _source(part: str, why: Why) -> str:
    """What a part came from, in words."""
    said: Mapping[str, Any] = why.parts
    match part:
        case "relevance":
            reasons = []
            if "query_similarity" in said:
                reasons.append(f"cosine to the query {said['query_similarity']:.3f}")
            if "image_similarity" in said:
                reasons.append(f"cosine of the photos {said['image_similarity']:.3f}")
            if "cross_encoder_logit" in said:
                words = f"cross-encoder's logit {said['cross_encoder_logit']:.3f}"
                # Sidecars of before don't say it.
                share = said.get("weights", {}).get("cross_encoder")
                reasons.append(words if share is None else f"{words}, whose order is {share:.0%}")
        case "affinity":
            reasons = []
            if "user_similarity" in said:
                reasons.append(f"cosine to the user {said['user_similarity']:.3f}")
            if said.get("because_of"):
                reasons.append(f"because of {', '.join(said['because_of'])}")
            if not reasons and not why.user:
                reasons.append("no user")
            if "affinity" in said and "user_similarity" not in said:
                reasons.append("not known, for lack of a vector: the mean of the others'")
        case "novelty":
            reasons = ["how unlike it is to those above it"]
        case _:
            found = "retrieval_score" in said
            reasons = [
                f"lexical score {said['retrieval_score']:.2f}"
                if found
                else "only the vector found it"
            ]
    return "; ".join(reasons)


def _words(out: Console, why: Why) -> None:
    if why.lexical is None:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("term")
    table.add_column("adds", justify="right")
    table.add_column("idf", justify="right")
    table.add_column("in")
    for term in why.lexical.terms[:_TERMS]:
        table.add_row(Text(term.term, "cyan"), number(term.score), number(term.idf), _fields(term))
    if why.lexical.rest:
        table.add_row("the rest", number(why.lexical.rest), "", "clauses that match no term")
    out.print(Text("\nLexical score", "bold"))
    out.print(table)


def _fields(term: Term) -> Text:
    return Text(
        ", ".join(
            f"{each.field}^{each.weight:g} ×{each.count} {each.share:.0%}" for each in term.fields
        )
    )


def _tokens(out: Console, why: Why) -> None:
    """The fields that the query meets, and the tokens that are in none; JSON has every field."""
    out.print(Text("\nTokens of the query, and where they meet the product", "bold"))
    met = [each for each in why.meetings if each.met]
    if met:
        show_meetings(out, met)
    by_analyzer: dict[str, set[str]] = {}
    for each in why.meetings:
        missed = by_analyzer.setdefault(each.search_analyzer, set(each.missed))
        missed &= set(each.missed)
    for analyzer, missed in by_analyzer.items():
        if missed:
            out.print(Text(f"in no field by {analyzer}: {' · '.join(sorted(missed))}", "dim"))


def _next(out: Console, why: Why) -> None:
    if why.gap is not None:
        out.print(Text("\nWhat would lift it by one", "bold"))
        out.print(Text(f"Above it: {why.gap.above.id} {why.gap.above.title}"))
        out.print(Text(why.gap.words))
        for lift in why.gap.lifts:
            out.print(_lift(lift))
    elif why.scored is not None and why.position == 1:
        ahead = ""
        if why.below is not None and (lead := why.scored.score - why.below.score) > 0:
            ahead = f" It leads {why.below.id} by {with_difference(lead, lead)}."
        out.print(Text(f"\nNothing is above it.{ahead}"))


def _lift(lift: Lift) -> Text:
    if lift.needed is None:
        return Text(f"  {lift.words}", "dim")
    return Text(f"  {lift.words}", "green")
