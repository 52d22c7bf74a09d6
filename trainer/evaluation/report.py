"""An evaluation as one HTML page with plots, which needs no network."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from neuralrank.report import Cell, Column, Plot, Report, Section, Table, bars, lines
from trainer.evaluation.evaluation import CLICKS, Evaluation, Segment, versus
from trainer.evaluation.relevance import MAIN, METRICS

__all__ = ["report"]

_NUMBER: Final = ".4f"
_CHANGE: Final = "+.4f"
# The largest segments of a dimension in the table, and in a plot; `--json` has all.
_ROWS: Final = 20
_BARS: Final = 30


def report(systems: Sequence[Evaluation], facts: Mapping[str, str]) -> Report:
    """
    Args:
        systems: the bundle that was evaluated and, where there is one, the baseline.
        facts: shown at the top.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    sections: list[Section] = []
    difference = versus(systems[0], systems[1]) if len(systems) > 1 else None
    if systems[0].judgments is not None:
        sections += [_order(systems, difference), *_numbers(systems)]
    if systems[0].clicks is not None:
        sections.append(_clicks(systems, difference))
    sections.append(_segments(systems))
    if systems[0].judgments is not None:
        sections += [*_robustness(systems), _exposure(systems)]
    return Report(f"Evaluation of {systems[0].ref}", sections, facts)


def _order(systems: Sequence[Evaluation], difference: Mapping[str, Any] | None) -> Section:
    columns = [Column("metric"), *(Column(system.ref, _NUMBER) for system in systems)]
    if difference is not None:
        columns += [
            Column("difference", _CHANGE),
            Column("p", ".3f", "Two-sided paired randomisation test"),
            Column("wins", ","),
            Column("losses", ","),
        ]

    def row(name: str, values: Sequence[float | None]) -> list[Cell]:
        if difference is None:
            return [name, *values]
        found = difference.get(name, {})
        keys = ("difference", "p", "wins", "losses")
        return [name, *values, *(found.get(key) for key in keys)]

    judged = [system.judgments for system in systems if system.judgments is not None]
    rows = [row(n, [part.order.mean(key) for part in judged]) for n, key in METRICS.items()]
    rows += [row(name, [part.auc[name] for part in judged]) for name in judged[0].auc]
    names = [(system.ref, name, key) for name, key in METRICS.items() for system in systems]
    parts = {system.ref: part for system, part in zip(systems, judged, strict=True)}
    plot = bars(
        [f"{name} {ref}" if len(systems) > 1 else name for ref, name, _ in names],
        [parts[ref].order.mean(key) for ref, _, key in names],
        "Means with 95% intervals (bootstrap over queries, or lists).",
        intervals=[parts[ref].order.interval(key) for ref, _, key in names],
    )
    return Section("Order", [judged[0].words], [Table(columns, rows)], [plot])


def _numbers(systems: Sequence[Evaluation]) -> Iterator[Section]:
    """Calibration and classification."""
    judged = {s.ref: s.judgments for s in systems if s.judgments is not None}
    calibrated = {ref: c for ref, p in judged.items() if (c := p.calibration) is not None}
    if not calibrated:
        return
    yield Section(
        "Calibration",
        [
            "The model's relevance in [0, 1], as the ranking service blends it, against the share "
            "of pairs that are relevant. A model can order well and be calibrated badly."
        ],
        [
            Table(
                [Column("bundle"), Column("ECE", _NUMBER), Column("Brier", _NUMBER)],
                [[ref, found.ece, found.brier] for ref, found in calibrated.items()],
            )
        ],
        [
            lines(
                {
                    "as it should be": ([0.0, 1.0], [0.0, 1.0]),
                    **{
                        ref: (
                            [predicted for predicted, _, _ in found.bins],
                            [relevant for _, relevant, _ in found.bins],
                        )
                        for ref, found in calibrated.items()
                    },
                },
                "Reliability, by tenths of the model's relevance.",
                x_label="the model's relevance",
                y_label="share that is relevant",
                markers=True,
            )
        ],
    )
    keys = ("precision", "recall", "f1-score", "support")
    tables = []
    for ref, part in judged.items():
        rows: list[list[Cell]] = [
            [name, *(row[key] for key in keys)]
            for name, row in part.classification.items()
            if isinstance(row, dict)
        ]
        columns = [Column("label"), *(Column(k, "g" if k == "support" else _NUMBER) for k in keys)]
        tables.append(Table(columns, rows, ref))
    words = "The grade that is nearest to the label expected of a pair, against its own."
    yield Section("Grades", [words], tables)


def _clicks(systems: Sequence[Evaluation], difference: Mapping[str, Any] | None) -> Section:
    clicks = {s.ref: s.clicks for s in systems if s.clicks is not None}
    names = ("value", "low", "high", "support", "clipped")
    numbers = {
        (ref, name): estimate.numbers()
        for ref, part in clicks.items()
        for name, estimate in part.estimates.items()
    }
    rows: list[list[Cell]] = [
        [ref, name, *(found[key] for key in names)] for (ref, name), found in numbers.items()
    ]
    first = next(iter(clicks.values()))
    words = [
        f"Clicks a page, had {first.pages:,} logged pages been ordered by the model alone; with "
        f"95% intervals (bootstrap over pages). As they were shown, they got {first.logged:.4f}. "
        "`support`: the share of shown items that count; `clipped`: whose weight was cut."
    ]
    if difference is not None:
        found = difference["clicks_a_page"]
        words.append(
            f"{systems[0].ref} against {systems[1].ref}, by {CLICKS} on the same pages: "
            f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]."
        )
    columns = [Column("bundle"), Column("estimator"), *(Column(name, _NUMBER) for name in names)]
    plot = bars(
        [f"{name} {ref}" if len(systems) > 1 else name for ref, name in numbers],
        [found["value"] for found in numbers.values()],
        "Clicks a page by estimator, with 95% intervals.",
        label="clicks a page",
        intervals=[(found["low"], found["high"]) for found in numbers.values()],
    )
    return Section("Clicks, had it ranked the logged pages", words, [Table(columns, rows)], [plot])


def _segments(systems: Sequence[Evaluation]) -> Section:
    first, others = systems[0].segments, [system.segments for system in systems[1:]]
    so_far: Counter[str] = Counter()
    kept = {}
    for key, segment in first.items():
        so_far[segment.dimension] += 1
        if so_far[segment.dimension] <= _ROWS:
            kept[key] = segment
    left = len(first) - len(kept)
    words = [f"The {_ROWS} largest of each dimension; --json has {left:,} more."] if left else []
    columns = [
        Column("dimension"),
        Column("segment"),
        Column("size", ",", "Queries, or pages"),
        Column("metric"),
        *(Column(system.ref, _NUMBER) for system in systems),
    ]

    def value(found: Mapping[tuple[str, str], Segment], key: tuple[str, str]) -> float | None:
        return found[key].value if key in found else None

    rows: list[list[Cell]] = [
        [s.dimension, s.name, s.size, s.metric, s.value, *(value(o, key) for o in others)]
        for key, s in kept.items()
    ]
    shown = [s for s in kept.values() if s.metric == MAIN][:_BARS]
    plots: list[Plot] = []
    if shown:
        plots.append(
            bars(
                [f"{s.dimension}: {s.name} ({s.size:,})" for s in shown],
                [s.value for s in shown],
                f"nDCG@10 of {systems[0].ref} by segment.",
                label="nDCG@10",
            )
        )
    return Section("Segments", words, [Table(columns, rows)], plots)


def _robustness(systems: Sequence[Evaluation]) -> Iterator[Section]:
    found = {
        (system.ref, row.name): row
        for system in systems
        if system.judgments is not None
        for row in system.judgments.robustness
    }
    if not found:
        return
    columns = [
        Column("bundle"),
        Column("queries with"),
        Column("queries", ","),
        Column("score drift", _NUMBER, "Mean change of the relevance in [0, 1] of a pair"),
        Column("Kendall's tau", _NUMBER, "Of the order before and after"),
        Column("nDCG@10 before", _NUMBER),
        Column("nDCG@10 after", _NUMBER),
    ]
    rows: list[list[Cell]] = [
        [ref, name, row.queries, row.drift, row.tau, row.before, row.after]
        for (ref, name), row in found.items()
    ]
    plot = bars(
        [f"{name} {ref}" if len(systems) > 1 else name for ref, name in found],
        [row.after - row.before for row in found.values()],
        "Change of nDCG@10 on the queries that were written in another way.",
        label="change of nDCG@10",
    )
    yield Section("Robustness", [], [Table(columns, rows)], [plot])


def _exposure(systems: Sequence[Evaluation]) -> Section:
    parts = {s.ref: s.judgments.exposure for s in systems if s.judgments is not None}
    named: list[tuple[str, Callable[[Any], float | None]]] = [
        ("catalogue shown on some page", lambda e: e.coverage),
        ("labelled items shown on some page", lambda e: e.shown_coverage),
        ("pairs of a page that differ in category", lambda e: e.category_diversity),
        ("pairs of a page that differ in brand", lambda e: e.brand_diversity),
        ("exposure of popular items", lambda e: e.popular_exposure),
        ("… as their relevance merits", lambda e: e.popular_merit),
        ("brands' exposure away from merit", lambda e: e.brand_gap),
        ("Gini of exposure over items", lambda e: e.gini),
    ]
    table = Table(
        [Column("first ten places"), *(Column(ref, _NUMBER) for ref in parts)],
        [[words, *(of(part) for part in parts.values())] for words, of in named],
    )
    first = next(iter(parts.values()))
    brands = Table(
        [Column("brand"), Column("exposure", _NUMBER), Column("merit", _NUMBER)],
        first.brands,
        f"Brands, by their share of exposure with {next(iter(parts))}, and of relevance (merit)",
    )
    return Section("Exposure, coverage and diversity", [], [table, brands])
