"""Figures in the documentation are those of `bench/results/`, to the digits that are shown.

A benchmark that is run anew writes its file; what pages quote of it fails here until it is written
anew too. Dates and what was measured apart from the files, "in a slower hour", stand beside them.
"""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "bench/results"
BENCH = (CHECKOUT / "docs/bench.md").read_text(encoding="utf-8")
SCALING = (CHECKOUT / "docs/scaling.md").read_text(encoding="utf-8")
SERVICES = (CHECKOUT / "docs/services.md").read_text(encoding="utf-8")


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def figure(path: str) -> float:
    """`file:key.key.…`; in a list of rows a key is a place, from its end too, or a pattern of the
    column `what`. At last `+` is the sum of what is there."""
    name, _, keys = path.partition(":")
    found = result(name)
    for key in keys.split("."):
        if key == "+":
            found = sum(found.values())
        elif isinstance(found, list):
            found = next(
                row
                for place, row in enumerate(found)
                if key in (str(place), str(place - len(found)))
                or fnmatchcase(str(row.get("what")), key)
            )
        else:
            found = found[key]
    return float(found)


def shown(phrase: str, page: str) -> list[str]:
    """The numbers that stand in the place of the phrase's `{}`. It must be there, and once."""
    number = r"([0-9][0-9,]*(?:\.[0-9]+)?)"
    found = re.findall(re.escape(phrase).replace(r"\{\}", number), " ".join(page.split()))
    assert len(found) == 1, f"{len(found)} times on the page: {phrase}"
    return list(found[0]) if isinstance(found[0], tuple) else found


def agrees(written: str, value: float) -> bool:
    """To half of the last digit, whichever way a half is rounded."""
    digits = len(written.partition(".")[2])
    return abs(float(written.replace(",", "")) - value) <= 0.5 * 10**-digits + 1e-9


SETS = ("esci_en x", "icecat_en x", "taobao_zh x")
# Of "Last measured": a phrase, where its figures are, and which of them they are.
LAST_MEASURED: list[tuple[str, str, tuple[str, ...]]] = [
    ("fastembed {}, {}, {} times;", "sidecar:pairs.rows.fastembed*.", SETS),
    ("flashrank {}, {}, {};", "sidecar:pairs.rows.flashrank*.", SETS),
    ("one padded batch {}, {}, {},", "sidecar:pairs.rows.*padded batch, int8.", SETS),
    ("in float32 {}, {}, {};", "sidecar:pairs.rows.*padded batch, fp32.", SETS),
    ("torch {} to {} |", "sidecar:pairs.rows.",
     ("sentence-transformers*.taobao_zh x", "infinity*.icecat_en x")),
    ("{} % in int8 (", "sidecar:pairs.rows.neuralrank int8.", ("% of peak",)),
    ("its peak was {} · 10⁹", "sidecar:pairs.peak_gops.", ("int8",)),
    ("{} % in float32 |", "sidecar:pairs.rows.neuralrank fp32.", ("% of peak",)),
    ("`Rank` of 100 at {} ms, alone", "sidecar:load.", ("deadline_ms",)),
    ("p50 {} ms, p99 {} ms, none partial", "sidecar:load.rows.1 callers.", ("p50 ms", "p99 ms")),
    ("{}, {} and {} answered a second; {} %, {} % and {} % refused;", "sidecar:load.rows.",
     ("4 *.answered/s", "16 *.answered/s", "64 *.answered/s",
      "4 *.refused %", "16 *.refused %", "64 *.refused %")),
    ("the accepted {}, {} and {} ms, of which {} %, {} % and {} % were", "sidecar:load.rows.",
     ("4 *.p99 ms", "16 *.p99 ms", "64 *.p99 ms",
      "4 *.partial %", "16 *.partial %", "64 *.partial %")),
    ("held with p99 under {} ms | {} requests a second", "sidecar:load.",
     ("limit_ms", "capacity_per_s")),
    ("where the scaling part has {}; with one thread {}; two workers {}; two replicas {};",
     "sidecar:scaling.rows.", ("0.held/s", "1.held/s", "2.held/s", "3.held/s")),
    ("| {} % and {} % refused; p99 of the accepted {} ms and {} ms,", "sidecar:load.rows.",
     ("2x*.refused %", "10x*.refused %", "2x*.p99 ms", "10x*.p99 ms")),
    ("523 a second, {} and {} of it the load generator's", "sidecar:load.rows.",
     ("2x*.generator late ms", "10x*.generator late ms")),
    ("half of the cores each, of {} a second held |", "sidecar:load.", ("capacity_per_s_apart",)),
    ("| {} % and {} % refused; p99 {} ms and {} ms, of", "sidecar:load.rows.",
     ("2x*apart.refused %", "10x*apart.refused %", "2x*apart.p99 ms", "10x*apart.p99 ms")),
    ("again, {} % refused and p99 {} ms:", "sidecar:load.rows.1x*apart.", ("refused %", "p99 ms")),
    ("| {} ms beside an empty call of {}; explained {} (on", "sidecar:overhead.rows.",
     ("0.over ms", "0.floor p50 ms", "1.over ms")),
    ("| {} ms beside {}; explained {} beside {} (on", "sidecar:overhead.rows.",
     ("2.over ms", "2.floor p50 ms", "3.over ms", "3.floor p50 ms")),
    ("| ready, memory | {} s, {} MB |", "sidecar:load.", ("ready_s", "rss_mb_ready")),
    ("none of {} requests failed, none by two bundles; p99 {} ms without, {} ms with; memory {} MB "
     "after a tenth, {} MB at the end", "swaps:rows.0.",
     ("requests", "p99 ms", "p99 ms swapping", "RSS MB early", "RSS MB end")),
    ("| p99 {} ms without, {} ms with |", "swaps:rows.1.", ("p99 ms", "p99 ms swapping")),
    ("| {} → {} with position bias taken out, {} without;", "feedback_loop:rows.",
     ("0.nDCG@10 all", "6.nDCG@10 all", "7.nDCG@10 all")),
    ("fuzzing, {} s a target, nine of them | {} inputs, from {} (tokenizer.json", "fuzz:rows.",
     ("0.seconds", "all of them.inputs", "bundle-tokenizer.inputs")),
    ("each time) to {} (`Encode`", "fuzz:rows.", ("grpc-encode.inputs",)),
    ("{} faults of {} kinds | of {} requests {} answered and {} refused for too much load, {}",
     "faults:totals.", ("faults", "kinds", "requests", "answered", "refused", "lost")),
    ("the slowest {} s, of {} s deadline and {} s tolerance |", "faults:totals.",
     ("slowest s", "deadline s", "tolerance s")),
    ("A soak of {} minutes at {} a second (70 % of the {} that", "soak:",
     ("minutes", "rate_per_s", "capacity_per_s")),
    ("{} swaps, {} profile changes, {} faults, {} cancelled calls:", "soak:",
     ("swaps", "events", "faults.+", "cancelled")),
    ("none of {} requests lost, {} refused, p99 {} ms, and memory", "soak:",
     ("requests", "statuses.RESOURCE_EXHAUSTED", "p99_ms")),
    ("memory +{} MB of {} allowed; p99 did not rise", "soak:rises.",
     ("rss_mb.rise", "rss_mb.allowed")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("phrase", "where", "which"), LAST_MEASURED, ids=[row[0] for row in LAST_MEASURED]
)
def test_a_figure_last_measured_is_the_one_in_its_file(
    phrase: str, where: str, which: tuple[str, ...]
) -> None:
    numbers = shown(phrase, BENCH.partition("## Last measured")[2])
    for written, path in zip(numbers, which, strict=True):
        value = figure(where + path)
        assert agrees(written, value), f"{where}{path} is {value}, the page says {written}"


def test_what_words_say_of_these_files_holds() -> None:
    soak = result("soak")
    assert (soak["verdict"], soak["lost"], soak["wrong"]) == ("flat", 0, 0)
    assert soak["rises"]["p99_ms"]["rise"] <= 0
    assert all(row["failed"] == row["by two bundles"] == 0 for row in result("swaps")["rows"])
    assert sum(row["findings"] for row in result("fuzz")["rows"]) == 0
    assert result("faults")["totals"]["lost"] == 0
    # "never below the order that came in; all of the gain from 20 ms on", with five reads.
    rows = result("deadline")["rows"]
    assert min(row["gain"] for row in rows) >= 0
    for name in {row["what"] for row in rows}:
        long = {r["deadline ms"]: r["gain"] for r in rows
                if (r["what"], r["reads"]) == (name, "default")
                and r["deadline ms"] >= 20}  # fmt: skip
        assert min(long.values()) == long[max(long)]


def test_quality_against_the_deadline_is_that_of_its_file() -> None:
    table = SERVICES.partition("### Quality against the deadline")[2].partition("## ")[0]
    head, *lines = re.findall(r"^\| (?!-)(.+) \|$", table, re.M)
    rows = result("deadline")["rows"]
    deadlines = sorted({row["deadline ms"] for row in rows})
    assert head.split(" | ")[2:] == [*map(str, deadlines[:-1]), "none"]
    for line in lines:
        name, before, *cells = line.split(" | ")
        mine = {row["deadline ms"]: row for row in rows
                if (row["what"], row["reads"]) == (name, "default")}  # fmt: skip
        assert agrees(before, mine[5]["nDCG@10"] - mine[5]["gain"])
        for written, deadline in zip(cells, deadlines, strict=True):
            assert agrees(written, mine[deadline]["nDCG@10"]), (name, deadline)
    fifty = {(row["what"], row["deadline ms"]): row for row in rows if row["reads"] == "50"}
    said = shown("ESCI falls from {} at 20 ms to {} from 50 ms on", table) + shown(
        "Icecat goes from {} at 10 ms, where nothing is read, to {} at 20, where {} of the 50 are, "
        "and is at {} from 50 ms on", table
    )  # fmt: skip
    esci, icecat = "esci_en", "icecat_en"
    values = [fifty[esci, 20]["nDCG@10"], fifty[esci, 50]["nDCG@10"], fifty[icecat, 10]["nDCG@10"],
              fifty[icecat, 20]["nDCG@10"], fifty[icecat, 20]["read"],
              fifty[icecat, 50]["nDCG@10"]]  # fmt: skip
    for written, value in zip(said, values, strict=True):
        assert agrees(written, value)


PAIR = figure("cross_encoder:rows.neuralrank int8*.pairs/s")
PASSAGES = figure("encoder:rows.int8 (a scale a token), 100*.p50 ms")
QUERY = figure("encoder:rows.int8 (a scale a token), 1 query*.p50 ms")
RECALL = figure("latency:rows.  of it: recall*.p50 ms")
# What the sizing says, by file: a number, and what follows it there. An item is one of 100, a pair
# one of 100 or of a second, and a core is one of two.
SIZING = {
    "sidecar": [
        (figure("sidecar:overhead.rows.0.p50 ms"), "ms at the caller"),
        (figure("sidecar:overhead.rows.0.floor p50 ms"), "ms gRPC itself"),
    ],
    "soak": [(round(figure("soak:samples.-1.rss_mb")), "MB | **[m]** below, and the soak")],
    "cross_encoder": [
        (1_000 / PAIR, "ms on two cores"),
        (2_000 / PAIR, "ms of a core"),
        (round(PAIR), "pairs/s"),
    ],
    "encoder": [
        (QUERY, "ms on two cores"),
        (2 * QUERY, "ms of a core"),
        (PASSAGES / 100, "ms on two cores"),
        (PASSAGES / 50, "ms of a core"),
        (round(1e5 / PASSAGES), "a second **[m]**"),
    ],
    "rerankers_time": [
        (figure("rerankers_time:rows.neuralrank-small*.ms") / 100, "ms for a pair"),
        (figure("rerankers_time:rows.ms-marco-minilm-l12*.ms") / 100, "**[m]**"),
    ],
    "memory": [
        (round(figure("memory:rows.all of them.RSS MiB")), "MiB"),
        (round(figure("memory:rows.all of them.bound MiB")), "MiB together"),
        (round(figure("memory:rows.all of them.more MiB")), "MiB where their bounds"),
    ],
    "latency": [(RECALL, "ms for the recall"), (RECALL, "ms on two cores next to")],
}


def test_the_sizing_names_no_other_file_than_those_whose_figures_are_checked() -> None:
    assert set(re.findall(r"`bench/results/(\w+)\.json`", SCALING)) == set(SIZING)


@pytest.mark.parametrize(
    ("name", "value", "says"), [(name, *row) for name, rows in SIZING.items() for row in rows]
)
def test_a_figure_of_the_sizing_is_the_one_in_its_file(name: str, value: float, says: str) -> None:
    written = f"{value:,}" if isinstance(value, int) else f"{value:.1f}"
    assert f"{written} {says}" in SCALING, name


def test_a_figure_of_the_sizing_from_the_readme_is_there() -> None:
    products, seconds, rate = re.findall(
        r"indexed ([\d,]+) products in ([\d.]+) s, (\d+) a second", SCALING
    )[0]
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert f"written   {products}" in readme
    assert f"time      {seconds} s, {rate} documents/s" in readme
