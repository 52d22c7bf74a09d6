"""Pages of results (`neuralrank.opensearch.page`), shown to a person.

A Chinese character takes two columns; rich does the counting.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralrank.catalogue.product import strings
from neuralrank.opensearch.page import Page

__all__ = ["number", "price", "show", "side_by_side", "warn_degraded"]

# Dropped items that are named in words: a filter may drop a whole window.
_DROPPED = 20


def show(out: Console, page: Page, *, explain: bool, start: int = 0) -> None:
    """A page as a table; with `explain` each hit's score in numbers and what moved it.

    Args:
        start: hits before it.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    # On a narrow terminal rich cuts the columns that may wrap, and only then the others: a title
    # that is cut is still known, a price or a score that is cut is another one. Other commands take
    # the id; with `explain` the reasons name it whole.
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=not explain, style="cyan")
    table.add_column("title")
    table.add_column("brand")
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    if explain:
        for name in ("relevance", "affinity", "retrieval"):
            table.add_column(name, justify="right", no_wrap=True)
    for place, hit in enumerate(page.hits, start=start + 1):
        row: list[str | Text] = [
            str(place),
            _line(hit.id),
            _line(str(hit.source.get("title", ""))),
            _line(str(hit.source.get("brand", ""))),
            Text(price(hit.source)),
            number(hit.score),
        ]
        if explain:
            row += [number(hit.parts.get(n)) for n in ("relevance", "affinity", "retrieval")]
        table.add_row(*row)
    out.print(table)
    if explain:
        _reasons(out, page, "Why:", start)
    summary = f"{len(page.hits)} of {page.total} hits, {_order(page)}, {page.took_ms:.0f} ms"
    out.print(Text(summary, style="dim"))
    if explain and page.dropped:
        for item in page.dropped[:_DROPPED]:
            note = f" ({item['detail']})" if item.get("detail") else ""
            out.print(Text(f"dropped {item['id']}: {item['reason']}{note}", style="dim"))
        if len(page.dropped) > _DROPPED:
            more = len(page.dropped) - _DROPPED
            out.print(Text(f"dropped: {more} more; --json names all", style="dim"))


def side_by_side(
    out: Console,
    pages: Sequence[tuple[str, Page]],
    *,
    moves: bool = True,
) -> None:
    """Pages of one query beside each other, and for each hit how far it moved from the first.

    ▲2 is two places up, ▼1 one down, ● new on the page; without `moves` the pages are of different
    queries and nothing is marked. The reasons of each page that was asked to explain follow below.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("#", justify="right", width=2)
    for heading, _ in pages:
        table.add_column(heading, overflow="ellipsis", no_wrap=True, ratio=1)
    before = {hit.id: place for place, hit in enumerate(pages[0][1].hits)}
    for place in range(max(len(page.hits) for _, page in pages)):
        cells: list[Text] = []
        for column, (_, page) in enumerate(pages):
            if place >= len(page.hits):
                cells.append(Text(""))
                continue
            hit = page.hits[place]
            cell = _move(before.get(hit.id), place) if moves and column else Text()
            cells.append(cell.append(hit.id, "cyan").append(f" {hit.source.get('title', '')}"))
        table.add_row(str(place + 1), *cells)
    out.print(table)
    for heading, page in pages:
        _reasons(out, page, f"Why, {heading}:")


def warn_degraded(page: Page) -> None:
    """Says on standard error what kept the page from being the best possible one."""
    for note in page.degraded:
        detail = f": {note['detail']}" if note.get("detail") else ""
        print(f"neuralrank: degraded ({note['reason']}){detail}", file=sys.stderr)


def price(source: Mapping[str, Any]) -> str:
    """A price with its currency; empty where it is not known. An index that others write may hold
    anything there: what is no number is shown as it is, several separated by commas."""
    amount = source.get("price")
    text = f"{amount:,.2f}" if isinstance(amount, int | float) else ", ".join(strings(amount))
    return f"{text} {source.get('currency') or ''}".strip() if text else ""


def number(value: float | None) -> str:
    """A score with three digits; empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def _order(page: Page) -> str:
    """What the hits are in the order of, in words."""
    if not page.reranked:
        return "in the order of OpenSearch"
    nobody = any(note["reason"] == "no_user" for note in page.degraded)
    # Nothing was searched for, and there was no user to rank for: the score says nothing.
    if nobody and not page.query and len({hit.score for hit in page.hits}) == 1:
        return f"in the order in which they were found (nothing is known of user {page.user})"
    return "re-ranked"


def _line(text: str) -> Text:
    """On one line, cut where it is too long."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _reasons(out: Console, page: Page, heading: str, start: int = 0) -> None:
    """What moved each hit, in words; nothing where nothing was re-ranked."""
    if not any(hit.parts.get("summary") for hit in page.hits):
        return
    out.print(Text(f"\n{heading}", style="bold"))
    for place, hit in enumerate(page.hits, start=start + 1):
        out.print(Text(f"  {place:>2} {hit.id}: {hit.parts.get('summary', '')}"))


def _move(before: int | None, now: int) -> Text:
    if before is None:
        return Text("●   ", "green")
    if before == now:
        return Text("=   ", "dim")
    up = before > now
    return Text(f"{'▲' if up else '▼'}{abs(before - now):<3}", "green" if up else "red")
