"""`neuralrank train dataset`: logs or judgments become training examples."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neuralrank.cli.encoders import default_encoder
from neuralrank.cli.json_output import Json, print_json_line
from neuralrank.cli.train import train
from neuralrank.console import plain_console
from neuralrank.errors import InvalidInput
from neuralrank.progress import told
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from trainer.dataset import Dataset
    from trainer.dataset.negatives import Finders

__all__ = ["dataset", "finders"]

_NONE = "none"
_TIME = "ISO 8601. Default: by --dev and --test."


@train.command()
def dataset(
    catalogue: Annotated[
        Path, typer.Option(metavar="FILE", help="The products, as for `neuralrank index`.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the dataset goes.")],
    logs: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="What `train pull` wrote; several are taken as one."),
    ] = None,
    judgments: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TREC qrels, or `.json` of OpenSearch, as `judge` has."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="TSV",
            help="The queries of a TREC file: id, tab, text. Default: NAME.queries.tsv beside it, "
            "as `judge` writes it.",
        ),
    ] = None,
    propensities: Annotated[
        str,
        typer.Option(
            help="How likely each position is looked at. harvest: from items seen at several; "
            "regression-em: from alike items at different ones; auto: the first where the logs "
            "allow it; none: no correction, clicks as they are."
        ),
    ] = "auto",
    dev: Annotated[float, typer.Option(help="Share of pages (or judged queries) in dev.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of pages (or judged queries) in test.")] = 0.1,
    train_until: Annotated[str, typer.Option(metavar="TIME", help=f"Train before. {_TIME}")] = "",
    dev_until: Annotated[str, typer.Option(metavar="TIME", help=f"Dev before. {_TIME}")] = "",
    negatives: Annotated[
        int,
        typer.Option(
            min=0,
            help="Negatives that a query has at least: where too few were seen (or judged), what "
            "BM25 and vectors find further down fills it up.",
        ),
    ] = 4,
    highest: Annotated[
        int, typer.Option(min=0, help="The grade that becomes 1. Default: the highest in FILE.")
    ] = 0,
    encoder: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="For neighbours: name or name@hash, or none. Default: the newest in service.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Another one splits queries otherwise.")] = 0,
    as_json: Json = False,
) -> None:
    """Makes a dataset: logs split by time, with clicks freed of position bias; or judgments.

    Example: neuralrank train dataset --logs logs --catalogue products.jsonl --out data

    Parts are train, dev and test. Of logs, earlier pages are learned from and later ones measure,
    and a query is in one part only. Judgments have no time: their queries are split by a hash of
    their text. docs/trainer.md says how labels come about.
    """
    from trainer.dataset.format import replaceable
    from trainer.dataset.from_judgments import JudgmentOptions, from_judgments
    from trainer.dataset.from_logs import LogOptions, from_logs
    from trainer.dataset.items import read_items
    from trainer.dataset.propensity import ESTIMATORS
    from trainer.dataset.splits import Shares

    if bool(logs) == bool(judgments):
        raise InvalidInput("Give --logs or --judgments, one of them.")
    if propensities not in ESTIMATORS:
        raise InvalidInput(
            f"--propensities got {propensities!r}; allowed are {', '.join(ESTIMATORS)}."
        )
    shares = Shares(dev, test)
    replaceable(out)
    with told() as show:
        if logs:
            from trainer.feedback import Logs

            found = Logs.open(*logs)
            items, headlines = read_items(catalogue)
            made = from_logs(
                found,
                items,
                finders(items, headlines, encoder, show),
                LogOptions(propensities, shares, train_until, dev_until, negatives, seed),
                f"logs: {', '.join(map(str, logs))}",
                show,
            )
        elif judgments:
            from neuralrank.judging import Judgments

            judged, lacking = Judgments.read_asked(judgments, queries)
            items, headlines = read_items(catalogue)
            made = from_judgments(
                judged,
                items,
                finders(items, headlines, encoder, show),
                JudgmentOptions(shares, negatives, highest, seed),
                f"judgments: {judgments}",
                show,
                lacking,
            )
        made.write(out)
    if not highest:
        _warn_of_scale(_grades(made))
    if as_json:
        print_json_line(made.description.model_dump(mode="json", by_alias=True))
    else:
        _show(made, out, highest)


def finders(
    items: "pa.Table", headlines: list[str], ref: str, show: "Callable[[str, int, int], None]"
) -> "Finders":
    from trainer.dataset.finding import Bm25, Neighbours, item_vectors
    from trainer.dataset.negatives import Finders

    neighbours = None
    if ref != _NONE:
        from neuralrank.bundles.registry import Registry
        from neuralrank.encoders.encoder import Encoder

        settings = load_settings()
        registry = Registry(settings.registry_path)
        otherwise = "Or name one with --encoder, or do without: --encoder none."
        model = Encoder.load(
            registry.get(ref) if ref else default_encoder(registry, headlines, otherwise)
        )
        cache = settings.item_vectors
        vectors = item_vectors(
            model, headlines, cache, lambda done, total: show("encoding items", done, total)
        )
        neighbours = Neighbours(model, vectors)
    titles = items["title"].to_pylist()
    return Finders(titles, Bm25(items["text"].to_pylist()), neighbours)


def _grades(made: "Dataset") -> dict[int, int]:
    """How many judgments have each grade, by grade; of logs, none."""
    counts = made.description.counts.get("grades", {})
    return {int(grade): count for grade, count in counts.items()}


def _warn_of_scale(grades: dict[int, int]) -> None:
    """One grade that is mistyped, 99 among 0 to 3, would make all others next to nothing."""
    top, *below = sorted(filter(None, grades), reverse=True) or [0]
    if below and top > 4 * below[0]:
        print(
            f"neuralrank: The highest grade, {top} ({grades[top]:,} of {sum(grades.values()):,} "
            f"judgments), is more than four times the next one, {below[0]}, and becomes 1: all "
            "others are small beside it. If it is a mistake, mend the file, or name the scale with "
            "--highest, which then refuses what is above it.",
            file=sys.stderr,
        )


def _show(made: "Dataset", out: Path, highest: int) -> None:
    description = made.description
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("from", description.source)
    for name in ("items", "queries", "examples", "sequences", "impressions"):
        table.add_row(name, f"{getattr(made, name).num_rows:,}")
    for part in ("train", "dev", "test"):
        rows = made.of("examples", part)
        queries = made.of("queries", part).num_rows
        table.add_row(part, f"{queries:,} queries, {rows.num_rows:,} examples")
    if grades := _grades(made):
        scale = f"0 to {highest} (--highest)" if highest else f"0 to {max(grades)} (in the file)"
        table.add_row("scale", scale)
        each = (f"{grade}: {count:,}" for grade, count in sorted(grades.items()))
        table.add_row("grades", ", ".join(each))
    if description.propensities.estimator:
        values = ", ".join(f"{value:.3f}" for value in description.propensities.values[:10])
        table.add_row("propensities", f"{description.propensities.estimator}: {values}")
    if recommended := description.counts.get("recommendations"):
        table.add_row("recommended", f"{sum(recommended.values()):,} pages")
    for name, count in description.counts.get("skipped", {}).items():
        table.add_row("left out", f"{count:,} {name}")
    if lacking := description.counts.get("queries_without_text"):
        table.add_row("left out", f"{lacking:,} judged queries without a text")
    if empty := description.counts.get("queries_without_items"):
        table.add_row("left out", f"{empty:,} judged queries without an item of the catalogue")
    if unknown := description.counts.get("unknown_items"):
        table.add_row("left out", f"{unknown:,} judged items that are not in the catalogue")
    table.add_row("folder", str(out))
    plain_console().print(table, highlight=False)
