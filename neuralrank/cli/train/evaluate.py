"""`neuralrank train evaluate`: a bundle measured on what a dataset keeps back."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from neuralrank.cli.gate_options import JudgedBy
from neuralrank.cli.registry_options import Json, RegistryUrl, open_registry
from neuralrank.cli.train import train
from neuralrank.progress import tracked

if TYPE_CHECKING:
    from trainer.evaluation.evaluation import HeldBack

__all__ = ["evaluate"]


@train.command()
def evaluate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A folder of `neuralrank train dataset`.")
    ],
    bundle: Annotated[
        str,
        typer.Option(metavar="REF", help="NAME, NAME@HASH of the registry, or a bundle's folder."),
    ],
    baseline: Annotated[
        str, typer.Option(metavar="REF", help="A bundle to compare with, on the same pairs.")
    ] = "",
    judgments: JudgedBy = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="Where the report goes: one page, without network."),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            help="Whether queries are scored again with typos, other word order, script and width."
        ),
    ] = True,
    registry: RegistryUrl = None,
    as_json: Json = False,
) -> None:
    """Measures a bundle on the test part of a dataset, with the code that serves it.

    Example: neuralrank train evaluate data --bundle my-ranker@0f1e --baseline my-ranker --out
    report.html

    Order (nDCG@10, MRR@10, Recall@k, HitRate@10, AUC), grades, calibration, segments, robustness,
    exposure, coverage and diversity of judged queries; and of logged pages, the clicks that they
    would have got in the model's order (IPS, self-normalised IPS, doubly robust). The dev part
    teaches which relevance is which grade, and nothing else.
    """
    from trainer.dataset import Dataset
    from trainer.evaluation.evaluation import combined, held_back, versus
    from trainer.evaluation.evaluation import evaluate as measure
    from trainer.evaluation.scoring import find_bundle, load_scorer

    known = open_registry(registry)
    data = Dataset.open(dataset)
    material = combined(data, Dataset.open(judgments)) if judgments else held_back(data)
    systems = [
        measure(load_scorer(find_bundle(ref, known)), material, tracked, robust=robustness)
        for ref in (bundle, baseline)
        if ref
    ]
    answer: dict[str, Any] = {
        "dataset": str(dataset),
        "judgments": str(judgments) if judgments else None,
        "bundle": systems[0].ref,
        "baseline": systems[1].ref if baseline else None,
        **_counts(material),
        "systems": {system.ref: system.numbers() for system in systems},
    }
    if baseline:
        answer["versus"] = versus(*systems)
    if out is not None:
        from trainer.evaluation.report import report

        facts = {
            "dataset": str(dataset),
            **({"judgments": str(judgments)} if judgments else {}),
            "baseline": answer["baseline"] or "none",
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        report(systems, facts).write(out)
        answer["report"] = str(out)
    if as_json:
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(answer)


def _counts(material: "HeldBack") -> dict[str, Any]:
    judged, pages = material.judged, material.pages
    return {
        "judged_by": judged.source if judged else None,
        "queries": len(judged.labels) if judged else 0,
        "pairs": judged.pairs if judged else 0,
        "queries_without_relevant": judged.without_relevant if judged else 0,
        "pages": pages.logged.pages if pages else 0,
    }


def _show(answer: dict[str, Any]) -> None:
    systems = answer["systems"]
    table = Table("", *systems, box=None, pad_edge=False, header_style="bold")
    versus = answer.get("versus")
    if versus is not None:
        table.add_column("difference", justify="right")
        table.add_column("p", justify="right")

    def add(name: str, values: list[Any], *more: str) -> None:
        shown = ["" if value is None else f"{value:.4f}" for value in values]
        table.add_row(name, *shown, *(more or ("", "") if versus is not None else ()))

    first = next(iter(systems.values()))
    for name in (name for name, value in first.items() if isinstance(value, float)):
        found = (versus or {}).get(name)
        more = (f"{found['difference']:+.4f}", f"{found['p']:.3f}") if found else ()
        add(name, [numbers[name] for numbers in systems.values()], *more)
    if "calibration" in first:
        for name in ("ECE", "Brier"):
            add(name, [numbers["calibration"][name] for numbers in systems.values()])
    if "counterfactual" in first:
        for name in first["counterfactual"]["clicks_a_page"]:
            every = [n["counterfactual"]["clicks_a_page"][name] for n in systems.values()]
            add(f"clicks a page, {name}", [numbers["value"] for numbers in every])
    out = Console() if sys.stdout.isatty() else Console(width=160)
    out.print(table)
    judged = f"{answer['queries']:,} queries judged by {answer['judged_by'] or 'nobody'}"
    out.print(f"{judged}, {answer['pages']:,} logged pages", style="dim", highlight=False)
    if "report" in answer:
        out.print(f"report: {answer['report']}", highlight=False, soft_wrap=True)
