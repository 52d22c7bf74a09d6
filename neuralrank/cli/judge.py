"""`neuralrank judge`: judgment files from clicks, from a person, and from one format to another."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from opensearchpy import OpenSearch

from neuralrank import ubi
from neuralrank.catalogue.product import strings
from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.results import price
from neuralrank.console import plain_console
from neuralrank.errors import InvalidInput
from neuralrank.evaluation import read_queries
from neuralrank.judging import (
    MODELS,
    Judgments,
    Pair,
    Skipped,
    ask_all,
    is_opensearch,
    judgments_from_clicks,
    query_key,
    require_some,
    unknown_in_words,
    unknown_items,
)
from neuralrank.opensearch.connection import connect
from neuralrank.opensearch.page import NO_PIPELINE, PIPELINE, Hit, ask
from neuralrank.settings import load_settings

__all__ = ["judge"]

judge = typer.Typer(
    help="Judgments: from clicks, from a person, from and to OpenSearch's Search Relevance.",
    no_args_is_help=True,
)
Out = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="Where judgments go. `.json`: what OpenSearch's Search Relevance imports; any other "
        "name: TREC qrels, with the queries in NAME.queries.tsv beside it, unless --queries names "
        "them.",
    ),
]
Queries = Annotated[
    Path | None,
    typer.Option(metavar="TSV", help="Lines of query id, tab, text: only these, by these ids."),
]
Known = Annotated[
    str,
    typer.Option(
        "--index",
        "-i",
        metavar="NAME",
        help="Leave out, count and list items that this index or alias does not hold.",
    ),
]
Thresholds = Annotated[
    str, typer.Option(help="From which value on the grade is 1, 2, 3, …: ascending, by commas.")
]


@judge.command()
def clicks(
    out: Out,
    model: Annotated[
        str,
        typer.Option(help="coec: clicks over expected clicks. sdbn: simplified Bayesian network."),
    ] = "coec",
    min_impressions: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pairs that were shown less often get no judgment; with sdbn: that were read less "
            "often, which is down to the last click.",
        ),
    ] = 10,
    thresholds: Thresholds = "",
    since: Annotated[
        str, typer.Option(help="Only from then on: ISO 8601, or date math such as now-30d.")
    ] = "",
    until: Annotated[str, typer.Option(help="Only until then.")] = "",
    queries: Queries = None,
    index: Known = "",
    as_json: Json = False,
) -> None:
    """Makes judgments of what users saw and clicked: ubi_queries and ubi_events.

    Example: neuralrank judge clicks --model sdbn --since now-90d --out clicks.qrels

    An item that stood further down is clicked less, whatever it is; both models take that out.
    coec divides an item's clicks by those that its places get on average (Zhang and Jones, 2007);
    grades from 0.25, 1 and 2. sdbn gives the probability that who reads the item is satisfied
    (Chapelle and Zhang, 2009, for a perseverance of 1); grades from 0.1, 0.25 and 0.5.
    """
    if model not in MODELS:
        raise InvalidInput(f"--model got {model!r}; allowed are {', '.join(MODELS)}.")
    steps = _steps(thresholds) or MODELS[model]
    wanted = Judgments(read_queries(queries)) if queries else None
    with closing(connect(load_settings(), timeout=120.0)) as client:
        learned = judgments_from_clicks(
            client,
            model,
            min_impressions=min_impressions,
            thresholds=steps,
            since=since,
            until=until,
            wanted=wanted,
        )
        made, unknown = _known(client, index, learned.judgments)
    if not (learned.pages or learned.skipped):
        during = f" since {since}" * bool(since) + f" until {until}" * bool(until)
        raise InvalidInput(
            f"{ubi.QUERIES_INDEX} holds no page{during}. Load what users did with `neuralrank "
            "feedback load`, or name another time with --since and --until."
        )
    if not made.count:
        raise InvalidInput(
            f"No judgment came of {learned.pages:,} pages: {learned.too_rare:,} pairs were shown "
            f"less than {min_impressions} times (--min-impressions). "
            f"{_listed(learned.skipped)}".rstrip()
        )
    report = _written(made, out, queries) | {
        "model": model,
        "thresholds": list(steps),
        "pages": learned.pages,
        "too_rare": learned.too_rare,
        "other_queries": learned.other_queries,
        "unknown_items": unknown,
        "skipped": dict(learned.skipped),
    }
    _show(report, as_json)


@judge.command("ask")
def ask_person(
    queries: Annotated[Path, typer.Option(metavar="TSV", help="Lines of query id, tab, text.")],
    index: Annotated[str, typer.Option("--index", "-i", metavar="NAME", help="Index or alias.")],
    out: Out,
    depth: Annotated[
        int, typer.Option(min=1, max=100, help="How many of the best of each ranking are asked.")
    ] = 10,
    pipelines: Annotated[
        str,
        typer.Option(
            help="Rankings to take them from: search pipelines by commas; _none: without."
        ),
    ] = f"{NO_PIPELINE},{PIPELINE}",
) -> None:
    """Asks you in the terminal, pair by pair: does this item answer this query?

    Example: neuralrank judge ask --queries queries.tsv --index shop --out mine.qrels

    The best of several rankings are asked in an order that tells nothing about them. Each answer is
    saved at once; the same command goes on where it was left.
    """
    texts, same = _told_apart(read_queries(queries), out)
    names = [name.strip() for name in pipelines.split(",") if name.strip()]
    if not names:
        raise InvalidInput("--pipelines is empty; name search pipelines, or _none for none.")
    known = _so_far(out, queries, texts)
    console = plain_console()
    for query, first in same.items():
        console.print(
            f"Query {query} is not asked: it is the text of {first} in another case, width or "
            f"spacing, and one with it in {out}, which has no ids.",
            markup=False,
            highlight=False,
        )

    def save(judgments: Judgments) -> None:
        judgments.write(out, queries=False)

    with closing(connect(load_settings())) as client:
        pairs = [
            Pair(query, text, hit.id, _lines(hit))
            for query, text in texts.items()
            for hit in _pool(client, index, query, text, names, depth)
        ]
    done = ask_all(
        pairs,
        known,
        read=input,
        say=lambda line: console.print(line, markup=False, highlight=False),
        save=save,
    )
    console.print(
        f"\n{done.answers} answers, {done.skipped} skipped, {done.left} not asked yet. {out} has "
        f"{known.count} judgments.",
        highlight=False,
    )


@judge.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Judgments: `.json` of OpenSearch, else TREC.")
    ],
    out: Out,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="TSV",
            help="The queries of a TREC file: id, tab, text. Without: FILE.queries.tsv beside it "
            "(mine.qrels: mine.queries.tsv); where there is none, ids as texts.",
        ),
    ] = None,
    thresholds: Thresholds = "",
    index: Known = "",
    as_json: Json = False,
) -> None:
    """Turns judgments of OpenSearch's Search Relevance into TREC qrels and queries, or back.

    Example: neuralrank judge convert mine.qrels --queries queries.tsv --out mine.json

    Import the result with PUT _plugins/_search_relevance/judgments. What a GET of that address
    answers can be read too; ratings of its click model are no grades and need --thresholds.
    """
    made, lacking = Judgments.read_asked(source, queries, _steps(thresholds))
    unknown: list[str] = []
    if index:
        with closing(connect(load_settings())) as client:
            made, unknown = _known(client, index, made)
    skipped = {"judged queries without a text": lacking} if lacking else {}
    _show(_written(made, out, queries) | {"unknown_items": unknown, "skipped": skipped}, as_json)


def _told_apart(texts: dict[str, str], out: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The queries that are asked, by their ids, and for each that is not the id of which it is
    another spelling. TREC has ids; in OpenSearch's format two spellings are one query when they are
    read, and of two answers on one item one would be lost."""
    if not is_opensearch(out):
        return texts, {}
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for query, text in texts.items():
        if (known := first.setdefault(query_key(text), query)) != query:
            same[query] = known
    return {query: text for query, text in texts.items() if query not in same}, same


def _so_far(out: Path, queries: Path, texts: dict[str, str]) -> Judgments:
    """What an earlier run has saved; the last answer taken back leaves an empty file."""
    known = Judgments(dict(texts))
    if out.exists() and out.stat().st_size:
        known.grades.update(Judgments.read(out, queries).by_ids_of(known).grades)
    return known


def _known(client: OpenSearch, index: str, made: Judgments) -> tuple[Judgments, list[str]]:
    """Without the items that the index does not hold, and these; all where no index is named.

    Raises:
        InvalidInput: it holds none of them.
    """
    if not index:
        return made, []
    unknown = unknown_items(client, index, made.items)
    require_some(index, made.items, unknown)
    return made.without(set(unknown)), unknown


def _written(made: Judgments, out: Path, queries: Path | None) -> dict[str, Any]:
    beside = made.write(out, queries=queries is None)
    return {
        "judgments": made.count,
        "queries": len(made.grades),
        "out": str(out),
        "queries_file": str(beside or ""),
    }


def _steps(text: str) -> tuple[float, ...]:
    try:
        steps = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        steps = (1.0, 0.0)
    if list(steps) != sorted(set(steps)):
        raise InvalidInput(
            f"--thresholds got {text!r}; allowed are ascending numbers, as 0.25,1,2."
        )
    return steps


def _pool(
    client: OpenSearch, index: str, query: str, text: str, names: list[str], depth: int
) -> list[Hit]:
    """The best of all rankings, each once, in an order of their own that is always the same."""
    from opensearch_config import lexical_query

    found: dict[str, Hit] = {}
    lexical = lexical_query(text, config_folder())
    for name in names:
        page = ask(client, index, lexical, text=text, size=depth, pipeline=name)
        for hit in page.hits:
            found.setdefault(hit.id, hit)
    pool = [found[item] for item in sorted(found)]
    Random(query).shuffle(pool)
    return pool


def _lines(hit: Hit) -> list[str]:
    source = hit.source
    facts = (
        source.get("brand"),
        price(source),
        " > ".join(strings(source.get("category"))),
        hit.id,
    )
    return [str(source.get("title", "")), "   ".join(str(fact) for fact in facts if fact)]


def _listed(skipped: Skipped) -> str:
    return " ".join(f"{count:,} {reason}." for reason, count in skipped.items())


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json_line(report)
        return
    out = plain_console()

    def say(line: str) -> None:
        out.print(line, markup=False, highlight=False)

    for line in _words(report):
        say(line)


def _words(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['judgments']:,} judgments on {report['queries']:,} queries: {report['out']}"
    if report["queries_file"]:
        yield f"queries: {report['queries_file']}"
    if "pages" in report:
        yield f"from {report['pages']:,} pages; {report['too_rare']:,} pairs were shown too rarely"
    for reason, count in report.get("skipped", {}).items():
        yield f"left out: {count:,} {reason}"
    if unknown := report["unknown_items"]:
        yield unknown_in_words(unknown)
