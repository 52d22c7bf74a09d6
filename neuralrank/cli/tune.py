"""`neuralrank tune`: what a change would do, on judgments, before it is live."""

import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from neuralrank.cli.config_folder import config_folder
from neuralrank.cli.interruption import ended_like_ctrl_c, interruptible
from neuralrank.cli.json_output import Json, print_json, print_json_line
from neuralrank.client import Client
from neuralrank.console import table_console
from neuralrank.judging import unknown_in_words
from neuralrank.opensearch.connection import connect
from neuralrank.progress import told
from neuralrank.report import writable
from neuralrank.settings import load_settings

__all__ = ["tune"]

_METRIC = "nDCG@10"
_INTERRUPTED = (
    "What was measured is kept: the same command goes on. Indexes and pipelines of the run are "
    "deleted."
)


def tune(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yml", help="What is compared, on what.")],
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Where a report with plots goes, as one file."),
    ] = None,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard", help="Only delete what a killed run of this spec has left, and end."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compares variants of analyzers, queries, vectors and ranking on judgments.

    Example: neuralrank tune examples/tune.yml --report tune.html

    Each variant is asked every judged query through the real pipeline; where one changes the index,
    indexes are made side by side of the same documents and vectors. The table has nDCG@10 with
    significance against the first variant, recall of the k-NN leg against exact search, p50 and
    p95, index size and indexing time. With `search`, optuna looks for better numbers on a part of
    the queries, and they are judged on the others.

    Nothing that is live is changed. Interrupted? The same command goes on. What was made in the
    cluster is deleted in the end, also after Ctrl-C and errors.
    """
    from opensearch_config.tuning import discard as delete
    from opensearch_config.tuning import tune as compare

    if report is not None:
        writable(report)
    settings = load_settings()
    with closing(connect(settings, timeout=120.0)) as client, Client.of(settings) as ranker:
        if discard:
            gone = delete(client, spec, settings.home)
            words = (
                "\n".join(f"deleted {name}" for name in gone) or "Nothing was left in the cluster."
            )
            if as_json:
                print_json_line({"deleted": gone})
            else:
                typer.echo(words)
            return
        with interruptible(_INTERRUPTED), ended_like_ctrl_c(), told() as tell:
            found = compare(
                client,
                ranker,
                spec,
                settings.home,
                settings.registry_path,
                tell,
                report,
                config_folder(),
            )
    if as_json:
        print_json(found)
        return
    _show(found)
    if report is not None:
        table_console().print(f"report: {report}", highlight=False, soft_wrap=True)


def _show(found: Mapping[str, Any]) -> None:
    out = table_console()
    rows = found["variants"]
    recall = next((row["knn_recall"]["k"] for row in rows if row["knn_recall"]), None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variant")
    headings = [f"{_METRIC} [95%]", "vs first", "p", "win/loss", "R@100"]
    headings += [f"k-NN R@{recall}"] * (recall is not None)
    headings += ["p50 ms", "p95 ms", "index MB", "indexing s"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        versus = row.get("versus_first")
        low, high = row["ci95"][_METRIC]
        cells = [
            f"{row[_METRIC]:.4f} [{low:.3f}, {high:.3f}]",
            f"{versus['difference']:+.4f}" if versus else "",
            f"{versus['p_holm']:.3f}{'*' if versus['significant'] else ''}" if versus else "",
            f"{versus['wins']}/{versus['losses']}" if versus else "",
            f"{row['R@100']:.4f}",
        ]
        if recall is not None:
            cells.append(f"{row['knn_recall']['mean']:.4f}" if row["knn_recall"] else "")
        seconds = row["indexing_seconds"]
        cells += [f"{row['ms_p50']:.1f}", f"{row['ms_p95']:.1f}"]
        cells += [f"{row['index_bytes'] / 1e6:.1f}", "" if seconds is None else f"{seconds:.1f}"]
        table.add_row(row["name"], *cells)
    out.print(table)
    judgments = found["judgments"]
    out.print(
        f"{judgments['queries']:,} judged queries, {found['documents']:,} documents; "
        "p: of a difference by chance, over all variants (Holm); *: below 0.05",
        style="dim",
        highlight=False,
    )
    for row in rows:
        for reason, count in row["degraded"].items():
            out.print(
                f"{row['name']}: {count} of {judgments['queries']} degraded ({reason})",
                style="yellow",
                highlight=False,
            )
    if found["search"]:
        _show_search(out, found["search"])
    if unknown := judgments["unknown_items"]:
        print(f"neuralrank: {unknown_in_words(unknown)}", file=sys.stderr)
    for key, what in (
        ("queries_without_text", "judged queries have no text"),
        ("queries_without_judgment", "queries have no judgment"),
    ):
        if names := judgments[key]:
            print(f"neuralrank: {len(names):,} {what}: {', '.join(names[:20])}", file=sys.stderr)


def _show_search(out: Console, found: Mapping[str, Any]) -> None:
    best = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found["best"].items()
    )
    best = best or "none was better; it stays as it is"
    out.print(f"\nSearch from {found['variant']}, {found['trials']} trials: {best}", markup=False)
    for key, what in (("tuned_on", "tuned on"), ("held_back", "held back")):
        part = found[key]
        before, after = part[f"{_METRIC}_before"], part[_METRIC]
        words = f"  {what:9} {part['queries']:,} queries: {before:.4f} → {after:.4f}"
        if versus := part.get("versus_before"):
            words += f" (p {versus['p']:.3f}, {versus['wins']}/{versus['losses']})"
        out.print(words, highlight=False)
