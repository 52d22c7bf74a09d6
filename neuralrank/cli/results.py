"""One page of results: asked of OpenSearch as an application would, and shown to a person.

`ask` sends a query through the search pipeline and gives a `Page`; `show` and `side_by_side` print
pages. Both know that a Chinese character takes two columns (rich does the counting).
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from opensearchpy import OpenSearch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralrank.catalogue.product import strings
from neuralrank.errors import InvalidInput, NotFound

__all__ = ["NO_PIPELINE", "PIPELINE", "Hit", "Page", "ask", "show", "side_by_side"]

# The search pipeline that `neuralrank config apply --yes` creates, and OpenSearch's name for none.
PIPELINE: Final = "neural_rank"
NO_PIPELINE: Final = "_none"

# What is shown of a product. The ranker gets the fields that it needs by itself.
_FIELDS: Final = ("title", "brand", "category", "price", "currency", "in_stock")
# Parts of an explanation that stand beside the id and the score already.
_NOT_PARTS: Final = ("id", "score")


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `parts` is what made its score; empty where it was not re-ranked."""

    id: str
    score: float | None
    source: Mapping[str, Any]
    parts: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        shown = ("title", "brand", "price", "category")
        return {
            "id": self.id,
            "score": self.score,
            **{name: self.source.get(name) for name in shown},
            "parts": dict(self.parts),
        }


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of OpenSearch and what the plugin said about it."""

    query: str
    user: str
    took_ms: float  # wall clock, as the caller saw it
    total: int  # matches of the query itself; what the vectors added is not counted
    hits: tuple[Hit, ...]
    report: Mapping[str, Any]  # the plugin's `ext.neural_rank`; empty without the pipeline

    @property
    def reranked(self) -> bool:
        return bool(self.report.get("reranked", False))

    @property
    def degraded(self) -> list[Mapping[str, Any]]:
        return list(self.report.get("degraded") or ())

    @property
    def dropped(self) -> list[Mapping[str, Any]]:
        return list(self.report.get("dropped") or ())

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "query": self.query,
            "user": self.user,
            "took_ms": round(self.took_ms, 1),
            "total": self.total,
            "reranked": self.reranked,
            "degraded": self.degraded,
            "stages_ms": self.report.get("took_ms", {}),
            "bundles": self.report.get("bundles", []),
            "hits": [hit.json() for hit in self.hits],
            "dropped_count": self.report.get("dropped_count", 0),
            "dropped": self.dropped,
        }


def ask(
    client: OpenSearch,
    index: str,
    query: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    text: str = "",
    size: int = 10,
    start: int = 0,
    pipeline: str = PIPELINE,
) -> Page:
    """One search, as an application sends it.

    Args:
        query: the OpenSearch query.
        options: `ext.neural_rank`; not sent when `pipeline` is `NO_PIPELINE`.
        text: what the user typed, for the `Page`; the plugin reads it from the query itself.
        start: hits to skip.

    Raises:
        NotFound: there is no such index.
        InvalidInput: OpenSearch does not accept the request, or has no such pipeline.
        Unavailable: OpenSearch does not answer. A sidecar that does not answer is no error: the
            page is then in the original order and `degraded` says why.
    """
    body: dict[str, Any] = {
        "query": dict(query),
        "from": start,
        "size": size,
        "_source": list(_FIELDS),
        "track_total_hits": True,
    }
    if pipeline != NO_PIPELINE:
        body["ext"] = {"neural_rank": dict(options or {})}
    began = time.perf_counter()
    try:
        answer = client.search(index=index, body=body, params={"search_pipeline": pipeline})
    except NotFound as error:
        raise NotFound(
            f"There is no index {index!r}: {error} Make it with "
            f"`neuralrank index CATALOGUE --index {index}`."
        ) from error
    except InvalidInput as error:
        if f"Pipeline {pipeline}" in str(error):
            raise InvalidInput(
                f"OpenSearch has no search pipeline {pipeline!r}: {error} Create it with "
                "`neuralrank config apply --yes`."
            ) from error
        raise
    took_ms = (time.perf_counter() - began) * 1000
    report = (answer.get("ext") or {}).get("neural_rank") or {}
    explained = {result["id"]: result for result in report.get("results") or ()}
    return Page(
        query=text,
        user=str((options or {}).get("user_id", "")),
        took_ms=took_ms,
        total=int(answer["hits"]["total"]["value"]),
        hits=tuple(
            Hit(
                id=row["_id"],
                score=row["_score"],
                source=row.get("_source") or {},
                parts=_parts(explained.get(row["_id"], {})),
            )
            for row in answer["hits"]["hits"]
        ),
        report=report,
    )


def show(out: Console, page: Page, *, explain: bool) -> None:
    """A page as a table; with `explain` each hit's score in numbers and what moved it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("id", no_wrap=True, style="cyan")
    table.add_column("title", overflow="ellipsis", no_wrap=True)
    table.add_column("brand", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("score", justify="right")
    if explain:
        for name in ("relevance", "affinity", "retrieval"):
            table.add_column(name, justify="right")
    for place, hit in enumerate(page.hits, start=1):
        row: list[str | Text] = [
            str(place),
            Text(hit.id),
            Text(str(hit.source.get("title", ""))),
            Text(str(hit.source.get("brand", ""))),
            Text(price(hit.source)),
            number(hit.score),
        ]
        if explain:
            row += [number(hit.parts.get(n)) for n in ("relevance", "affinity", "retrieval")]
        table.add_row(*row)
    out.print(table)
    if explain:
        _reasons(out, page, "Why:")
    state = "re-ranked" if page.reranked else "in the order of OpenSearch"
    out.print(
        f"{len(page.hits)} of {page.total} hits, {state}, {page.took_ms:.0f} ms",
        style="dim",
        highlight=False,
    )
    if explain and page.dropped:
        for item in page.dropped:
            note = f" ({item['detail']})" if item.get("detail") else ""
            out.print(Text(f"dropped {item['id']}: {item['reason']}{note}", style="dim"))


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


def _reasons(out: Console, page: Page, heading: str) -> None:
    """What moved each hit, in words; nothing where nothing was re-ranked."""
    if not any(hit.parts.get("summary") for hit in page.hits):
        return
    out.print(Text(f"\n{heading}", style="bold"))
    for place, hit in enumerate(page.hits, start=1):
        out.print(Text(f"  {place:>2} {hit.id}: {hit.parts.get('summary', '')}"))


def _parts(explanation: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in explanation.items() if name not in _NOT_PARTS}


def _move(before: int | None, now: int) -> Text:
    if before is None:
        return Text("●   ", "green")
    if before == now:
        return Text("=   ", "dim")
    up = before > now
    return Text(f"{'▲' if up else '▼'}{abs(before - now):<3}", "green" if up else "red")
