"""`neuralrank train evaluate`: a bundle measured on what a dataset keeps back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuralrank.bundles.registry import Registry
from neuralrank.cli.gate_options import JudgedBy
from neuralrank.cli.json_output import Json, print_json
from neuralrank.cli.registry_options import RegistryUrl, open_registry
from neuralrank.cli.train import train
from neuralrank.console import table_console
from neuralrank.errors import InvalidInput
from neuralrank.progress import tracked
from neuralrank.report import writable
from neuralrank.settings import load_settings

if TYPE_CHECKING:
    from neuralrank.bundles.bundle import Bundle
    from trainer.dataset import Dataset
    from trainer.evaluation.evaluation import Evaluation, HeldBack

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

    Of rankers of texts: order (nDCG@10, MRR@10, Recall@k, HitRate@10, AUC), grades, calibration,
    segments, robustness, exposure, coverage and diversity of judged queries; and of logged pages,
    the clicks that they would have got in the model's order (IPS, self-normalised IPS, doubly
    robust). The dev part teaches which relevance is which grade, and nothing else. Of personal
    rankers: order of pages by what was clicked on them and of next items among many, AUC, new and
    returning users, exposure and coverage.
    """
    from trainer.dataset import Dataset
    from trainer.evaluation.evaluation import versus
    from trainer.evaluation.scoring import find_bundle

    if out is not None:
        writable(out)
    known = open_registry(registry)
    bundles = [find_bundle(ref, known) for ref in (bundle, baseline) if ref]
    personal = [one.manifest.kind == "personal_ranker" for one in bundles]
    if any(personal) and not all(personal):
        kinds = " and ".join(f"{one.ref} of kind {one.manifest.kind}" for one in bundles)
        raise InvalidInput(f"Got {kinds}; a personal ranker is compared with personal rankers.")
    if all(personal) and judgments:
        raise InvalidInput(
            f"--judgments got {judgments}; a personal ranker is measured by what users did. Leave "
            "it out."
        )
    data = Dataset.open(dataset)
    judged = Dataset.open(judgments) if judgments else None
    if all(personal):
        systems, counts = _of_users(bundles, data, known)
    else:
        systems, counts = _of_texts(bundles, data, judged, robustness)
    answer: dict[str, Any] = {
        "dataset": str(dataset),
        "judgments": str(judgments) if judgments else None,
        "bundle": systems[0].ref,
        "baseline": systems[1].ref if baseline else None,
        **counts,
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
        print_json(answer)
    else:
        _show(answer)


def _of_texts(
    bundles: "list[Bundle]", data: "Dataset", judgments: "Dataset | None", robust: bool
) -> "tuple[list[Evaluation], dict[str, Any]]":
    from trainer.evaluation.evaluation import combined, evaluate, held_back
    from trainer.evaluation.scoring import load_scorer

    material = combined(data, judgments) if judgments else held_back(data)
    systems = [evaluate(load_scorer(one), material, tracked, robust=robust) for one in bundles]
    return systems, _counts(material)


def _of_users(
    bundles: "list[Bundle]", data: "Dataset", registry: Registry
) -> "tuple[list[Evaluation], dict[str, Any]]":
    from trainer.personal.evaluation import evaluate, of_lists

    cache = load_settings().item_vectors
    systems = [evaluate(one, data, registry, cache) for one in bundles]
    return systems, {"lists": of_lists(systems[0])}


def _counts(material: "HeldBack") -> dict[str, Any]:
    judged, pages = material.judged, material.pages
    return {
        "judged_by": judged.source if judged else None,
        "queries": len(judged.labels) if judged else 0,
        "pairs": judged.pairs if judged else 0,
        "queries_without_relevant": judged.without_relevant if judged else 0,
        "queries_alike": judged.alike if judged else 0,
        "queries_trained_on": judged.trained if judged else 0,
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
    if "lists" in answer:
        for at, row in enumerate(first["segments"]):
            values = [numbers["segments"][at]["value"] for numbers in systems.values()]
            add(f"{row['metric']} of {row['dimension']}, {row['name']} ({row['size']:,})", values)
        for name in ("popular_exposure", "popular_merit", "catalogue_coverage"):
            add(name, [numbers["exposure"][name] for numbers in systems.values()])
    out = table_console()
    out.print(table)
    out.print(_measured_on(answer), style="dim", highlight=False)
    if "report" in answer:
        out.print(f"report: {answer['report']}", highlight=False, soft_wrap=True)


def _measured_on(answer: dict[str, Any]) -> str:
    if "lists" in answer:
        return ", ".join(f"{count:,} by {what}" for what, count in answer["lists"].items())
    judged = f"{answer['queries']:,} queries judged by {answer['judged_by'] or 'nobody'}"
    left = [
        f"{answer[key]:,} {why}"
        for key, why in (
            ("queries_without_relevant", "without a relevant item"),
            ("queries_alike", "whose items all have one label"),
            ("queries_trained_on", "that are trained on"),
        )
        if answer[key]
    ]
    if left:
        judged += f" (left out: {', '.join(left)})"
    return f"{judged}, {answer['pages']:,} logged pages"
