"""`neuralrank evaluate`: how good the rankings of an index are, by judgments."""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from opensearchpy import OpenSearch
from rich.table import Table

from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.json_output import Json, print_json
from neuralrank.client import Client
from neuralrank.console import table_console
from neuralrank.errors import EncoderMismatch, InvalidInput
from neuralrank.evaluation import (
    METRICS,
    Judged,
    compare,
    judge,
    read_qrels,
    read_queries,
    scores_of,
    summary,
)
from neuralrank.judging import require_some, unknown_in_words, unknown_items
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, Page, ask, in_time
from neuralrank.progress import tracked
from neuralrank.settings import load_settings

__all__ = ["evaluate"]

_SYSTEMS = ("lexical", "vector", "hybrid", "reranked")
_DEPTH = 100  # hits per query, for R@100
_VECTOR_FIELD = "text_vector"
_EXPLORED = 400  # as the plugin: HNSW finds few of the last neighbours

Search = Callable[[str], Page]


def evaluate(
    index: Annotated[str, typer.Option("--index", "-i", metavar="NAME", help="Index or alias.")],
    queries: Annotated[Path, typer.Option(metavar="TSV", help="Lines of query id, tab, text.")],
    qrels: Annotated[Path, typer.Option(metavar="TREC", help="Lines of `query 0 item grade`.")],
    systems: Annotated[
        str, typer.Option(help="Which rankings, separated by commas; the first is the baseline.")
    ] = ",".join(_SYSTEMS),
    deadline_ms: Annotated[
        int | None,
        typer.Option(min=1, help="The ranker's deadline for `hybrid` and `reranked`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judges the rankings of an index: nDCG@10, RR@10, R@100 and milliseconds a query.

    Example: neuralrank evaluate --index esci --queries queries.tsv --qrels qrels.tsv

    lexical: the query of queries/product.json alone. vector: the nearest
    neighbours of the query's vector alone. hybrid: both, blended, without a cross-encoder.
    reranked: the whole pipeline as `neuralrank search` uses it. An index without vectors has no
    `vector`: --systems lexical,reranked.

    Each system is compared with the first by a paired randomisation test. Queries without a
    judgment are left out. Items with a judgment that the index does not hold are counted and
    listed: no ranking can find them. Times are of whole requests for 100 hits, one after the other.
    A page that came late, as with cold caches, is asked for again, three times at most, and judged
    as it is then; its time is that of the first request. How many were, and stayed late, is said.

    Guesses of users' next items: `neuralrank evaluate personal --help`.
    """
    chosen = [name.strip() for name in systems.split(",") if name.strip()]
    if not chosen or set(chosen) - set(_SYSTEMS):
        raise InvalidInput(f"--systems got {systems!r}; allowed are {', '.join(_SYSTEMS)}.")
    texts, grades = read_queries(queries), read_qrels(qrels)
    judged_queries = {query: text for query, text in texts.items() if query in grades}
    if not judged_queries:
        raise InvalidInput(f"No query of {queries} has a judgment in {qrels}: the ids differ.")
    kept = {query: grades[query] for query in judged_queries}
    settings = load_settings()
    results: dict[str, Judged] = {}
    report: dict[str, Any] = {}
    with closing(connect(settings)) as client, Client.of(settings) as ranker:
        items = {item for row in kept.values() for item in row}
        unknown = unknown_items(client, index, items)
        require_some(index, items, unknown)
        searches = _searches(client, ranker, index, deadline_ms)
        for name in chosen:
            try:
                results[name], report[name] = _judged(
                    name, searches[name], judged_queries, kept, again=deadline_ms is None
                )
            except EncoderMismatch as error:
                raise EncoderMismatch(
                    f"{error} To measure it without vectors: --systems lexical,reranked."
                ) from error
            if name != chosen[0]:
                report[name]["versus"] = {
                    chosen[0]: {
                        metric: asdict(compare(results[name], results[chosen[0]], metric))
                        for metric in METRICS
                    }
                }
    if as_json:
        answer = {"systems": report, "queries": len(judged_queries), "unknown_items": unknown}
        print_json(answer)
    else:
        _show(report, chosen[0], len(judged_queries))
        if unknown:
            print(f"neuralrank: {unknown_in_words(unknown)}", file=sys.stderr)


def _searches(
    client: OpenSearch,
    ranker: Client,
    index: str,
    deadline_ms: int | None,
) -> dict[str, Search]:
    from opensearch_config import lexical_query

    folder = config_folder()
    limits = {} if deadline_ms is None else {"deadline_ms": deadline_ms}

    def nearest(text: str) -> Page:
        (vector,) = ranker.encode(queries=[text], index=index)
        knn = {"knn": {_VECTOR_FIELD: {"vector": vector.tolist(), "k": _EXPLORED}}}
        return ask(client, index, knn, text=text, size=_DEPTH, pipeline=NO_PIPELINE)

    def through(options: dict[str, Any], text: str) -> Page:
        return ask(client, index, lexical_query(text, folder), options, text=text, size=_DEPTH)

    return {
        "lexical": lambda text: ask(
            client, index, lexical_query(text, folder), text=text, size=_DEPTH, pipeline=NO_PIPELINE
        ),
        "vector": nearest,
        "hybrid": lambda text: through({"bundle": "none", **limits}, text),
        "reranked": lambda text: through(limits, text),
    }


def _judged(
    name: str,
    search: Search,
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
    *,
    again: bool,
) -> tuple[Judged, dict[str, Any]]:
    """
    Args:
        again: whether pages that come late are asked for again. Not where a deadline is measured:
            what was read for the first would be there for the second.
    """
    search(next(iter(queries.values())))  # the first request opens connections: not timed
    run: dict[str, dict[str, float]] = {}
    times: list[float] = []
    degraded: Counter[str] = Counter()
    repeated = late = 0
    stages: dict[str, list[float]] = {}
    for query, text in tracked(list(queries.items()), name):
        first = search(text)
        times.append(first.took_ms)
        for stage, ms in first.report.get("took_ms", {}).items():
            stages.setdefault(stage, []).append(ms)
        page = in_time(first, partial(search, text)) if again else first
        repeated += again and first.late
        late += page.late
        run[query] = scores_of(hit.id for hit in page.hits)
        degraded.update({note["reason"] for note in page.degraded})  # pages, not notes
    judged = judge(qrels, run)
    answer = summary(judged, times)
    if repeated:
        answer["asked_again"], answer["late"] = repeated, late
    if degraded:
        answer["degraded"] = dict(degraded)
    if stages:
        answer["stages_ms_p50"] = {s: round(float(np.median(ms)), 2) for s, ms in stages.items()}
    return judged, answer


def _show(report: dict[str, Any], baseline: str, queries: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("system")
    for metric in METRICS:
        table.add_column(f"{metric} [95%]", justify="right")
    for heading in (f"nDCG@10 vs {baseline}", "p", "win/loss", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="right")
    for name, numbers in report.items():
        versus = numbers.get("versus", {}).get(baseline, {}).get("nDCG@10")
        table.add_row(
            name,
            *(
                f"{numbers[m]:.4f} [{numbers['ci95'][m][0]:.3f}, {numbers['ci95'][m][1]:.3f}]"
                for m in METRICS
            ),
            *(
                (
                    f"{versus['difference']:+.4f}",
                    f"{versus['p']:.3f}",
                    f"{versus['wins']}/{versus['losses']}",
                )
                if versus
                else ("", "", "")
            ),
            f"{numbers['ms_p50']:.1f}",
            f"{numbers['ms_p95']:.1f}",
        )
    out = table_console()
    out.print(table)
    out.print(f"{queries} judged queries", style="dim", highlight=False)
    for name, numbers in report.items():
        if again := numbers.get("asked_again"):
            out.print(
                f"{name}: {again} of {queries} came late and were asked for again; "
                f"{numbers['late']} stayed late",
                style="yellow",
            )
        for reason, count in numbers.get("degraded", {}).items():
            out.print(f"{name}: {count} of {queries} degraded ({reason})", style="yellow")
