"""What came out, as an HTML report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from neuralrank.report import Column, Plot, Report, Section, Table, bars, lines, points
from opensearch_config.tuning.results import METRIC

__all__ = ["write_page"]

Rows = Sequence[Mapping[str, Any]]


def write_page(report: Mapping[str, Any], path: Path) -> None:
    """
    Args:
        report: what `tune` gives.

    Raises:
        Unsupported: the extra `evaluate` is not installed, or the file can't be written.
    """
    rows: Rows = report["variants"]
    judgments = report["judgments"]
    sections = [_overview(rows), _variants(rows), *_versus(rows)]
    if report["search"]:
        sections.append(_search(report["search"]))
    sections.append(_left_out(judgments))
    facts = {
        "Spec": report["spec"],
        "Index": f"{report['index']}, {report['documents']:,} documents",
        "Judgments": f"{judgments['judgments']:,} on {judgments['queries']:,} queries",
    }
    Report("neuralrank tune", sections, facts).write(path)


def _overview(rows: Rows) -> Section:
    columns = [
        Column("variant"),
        Column(METRIC, ".4f", "mean over the queries; a query without an answer counts 0"),
        Column("against the first", "+.4f"),
        Column("p", ".4f", "paired randomisation test, Holm's correction over all variants"),
        Column("won", ",", "queries that it answers better than the first variant"),
        Column("lost", ","),
        Column("RR@10", ".4f"),
        Column("R@100", ".4f"),
        Column("k-NN recall", ".4f", "share of the exact neighbours that the k-NN leg brings"),
        Column("p50 ms", ".1f", "of a page of 10, all caches warm"),
        Column("p95 ms", ".1f"),
        Column("index MB", ".1f"),
        Column("indexing s", ".1f", "writing and merging; encoding is not in it"),
        Column("degraded", ",", "queries that were not answered as well as they might have been"),
    ]
    cells = []
    for row in rows:
        against = row.get("versus_first") or {}
        cells.append(
            [
                row["name"],
                row[METRIC],
                against.get("difference"),
                against.get("p_holm"),
                against.get("wins"),
                against.get("losses"),
                row["RR@10"],
                row["R@100"],
                row["knn_recall"]["mean"] if row["knn_recall"] else None,
                row["ms_p50"],
                row["ms_p95"],
                row["index_bytes"] / 1e6,
                row["indexing_seconds"],
                max(row["degraded"].values(), default=0),
            ]
        )
    names = [row["name"] for row in rows]
    plots = [
        bars(
            names,
            [row[METRIC] for row in rows],
            f"{METRIC} with the 95% interval of its mean",
            label=METRIC,
            intervals=[tuple(row["ci95"][METRIC]) for row in rows],
        ),
        points(
            {row["name"]: (row["ms_p95"], row[METRIC]) for row in rows},
            "What quality costs: up and to the left is better",
            x_label="p95 in ms",
            y_label=METRIC,
        ),
        *_recall_plots(rows),
        bars(
            names,
            [row["index_bytes"] / 1e6 for row in rows],
            "Size of the index on disk",
            label="MB",
        ),
    ]
    return Section("Variants", (), [Table(columns, cells)], plots)


def _recall_plots(rows: Rows) -> Iterator[Plot]:
    with_vectors = [row for row in rows if row["knn_recall"]]
    if with_vectors:
        k = with_vectors[0]["knn_recall"]["k"]
        yield bars(
            [row["name"] for row in with_vectors],
            [row["knn_recall"]["mean"] for row in with_vectors],
            f"Recall@{k} of the k-NN leg against exact search by whole vectors",
            label=f"recall@{k}",
        )


def _variants(rows: Rows) -> Section:
    cells = [
        [
            row["name"],
            json.dumps(row["changes"], ensure_ascii=False),
            row["index"],
            ", ".join(f"{reason} {count}" for reason, count in row["degraded"].items()),
        ]
        for row in rows
    ]
    columns = [Column("variant"), Column("what it changes"), Column("index"), Column("degraded")]
    return Section("What was compared", (), [Table(columns, cells)])


def _versus(rows: Rows) -> Iterator[Section]:
    for row in rows[1:]:
        against = row["versus_first"]
        yield Section(
            f"{row['name']} against {rows[0]['name']}",
            [_in_words(against)],
            _won_and_lost(against),
            [_by_query(against)] if any(against["by_query"].values()) else (),
        )


def _in_words(against: Mapping[str, Any]) -> str:
    chance = against.get("p_holm", against["p"])
    verdict = "significant" if chance < 0.05 else "may be chance"
    return (
        f"{against['difference']:+.4f} {METRIC} (p = {chance:.4f}: {verdict}); "
        f"{against['wins']} queries won, {against['losses']} lost."
    )


def _won_and_lost(against: Mapping[str, Any]) -> list[Table]:
    columns = [Column("query"), Column("id"), Column(f"{METRIC}, difference", "+.4f")]
    return [
        Table(columns, [[q["text"], q["id"], q["difference"]] for q in against[key]], caption)
        for key, caption in (("won", "Most won"), ("lost", "Most lost"))
        if against[key]
    ]


def _by_query(against: Mapping[str, Any]) -> Plot:
    ordered = sorted(against["by_query"].values(), reverse=True)
    return lines(
        {"difference": (list(range(1, len(ordered) + 1)), ordered)},
        "The difference by query, from the most won to the most lost",
        x_label="queries",
        y_label=METRIC,
        markers=True,
    )


def _search(found: Mapping[str, Any]) -> Section:
    seen, unseen = found["tuned_on"], found["held_back"]
    history = found["history"]
    numbers = list(range(1, len(history) + 1))
    columns = [Column("queries"), Column("number", ","), Column("before", ".4f")]
    columns += [Column("found", ".4f"), Column("difference", "+.4f")]
    parts = [
        [name, part["queries"], part[f"{METRIC}_before"], part[METRIC],
         part[METRIC] - part[f"{METRIC}_before"]]
        for name, part in (("tuned on", seen), ("held back", unseen))
    ]  # fmt: skip
    best = Table(
        [Column("what"), Column("value", ".4g")],
        [[name, value] for name, value in found["best"].items()],
        "Found" if found["best"] else "Found: no trial was better than the variant as it is",
    )
    return Section(
        f"Search from {found['variant']}",
        [
            f"{found['trials']} trials. What counts is the part of the queries that was held back: "
            f"{_in_words(unseen['versus_before'])}"
        ],
        [Table(columns, parts), best, *_won_and_lost(unseen["versus_before"])],
        [
            lines(
                {
                    "a trial": (numbers, history),
                    "best so far": (numbers, list(accumulate(history, max))),
                },
                "The trials, on the queries that were tuned on",
                x_label="trial",
                y_label=METRIC,
            )
        ],
    )


def _left_out(judgments: Mapping[str, Any]) -> Section:
    words = []
    for key, what in (
        ("unknown_items", "judged items are not in the index, so that no ranking can find them"),
        ("queries_without_text", "judged queries have no text"),
        ("queries_without_judgment", "queries have no judgment"),
    ):
        if names := judgments[key]:
            words.append(f"{len(names):,} {what}: {', '.join(names)}.")
    return Section("What could not be used", words or ["Nothing: every judgment was."])
