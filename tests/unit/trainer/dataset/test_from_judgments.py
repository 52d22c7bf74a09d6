"""Judgment files become a dataset."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput, NotFound
from neuralrank.judging import query_id
from trainer.dataset import Dataset

QUERIES = [f"kettle {n}" for n in range(15)] + [f"洗碗机 {n}" for n in range(15)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    products = [
        {"id": f"k{n}", "title": f"electric kettle {n}", "brand": "Bodum"} for n in range(40)
    ]
    products += [{"id": f"z{n}", "title": f"全自动洗碗机 {n} 号", "price": 99} for n in range(40)]
    lines = [json.dumps(row, ensure_ascii=False) for row in [*products, {"id": "k1"}]]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "q.tsv").write_text("\n".join(f"{n}\t{text}" for n, text in enumerate(QUERIES)))
    rows = []
    for n, text in enumerate(QUERIES):
        letter = "k" if text[0] == "k" else "z"
        rows += [
            f"{n} 0 {letter}{n % 15} 3",
            f"{n} 0 {letter}{n % 15 + 1} 1",
            f"{n} 0 {letter}{n % 15 + 2} 0",
        ]
    (tmp_path / "j.qrels").write_text("\n".join([*rows, "0 0 gone 2"]))
    return tmp_path


def run(
    folder: Path,
    *more: str,
    judgments: str = "j.qrels",
    form: tuple[str, ...] = ("--json",),
    charset: str = "utf-8",
) -> Any:
    return CliRunner(charset).invoke(
        app,
        [
            "train", "dataset", "--judgments", str(folder / judgments), "--queries",
            str(folder / "q.tsv"), "--catalogue", str(folder / "c.jsonl.gz"), "--out",
            str(folder / "data"), "--encoder", "none", *form, *more,
        ],
        env={"NEURALRANK_HOME": str(folder / "home")},
    )  # fmt: skip


def test_judgments_of_both_languages(folder: Path) -> None:
    done = run(folder)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["counts"]["unknown_items"] == 1
    assert report["counts"]["grades"] == {"0": 30, "1": 30, "2": 1, "3": 30}
    made = Dataset.open(folder / "data")
    assert made.items.num_rows == 80
    assert made.items["language"].to_pylist()[-1] == "zh"
    assert "Bodum" in made.texts()["k1"]
    parts = made.queries["split"].to_pylist()
    assert {part: parts.count(part) > 0 for part in ("train", "dev", "test")} == {
        "train": True, "dev": True, "test": True,
    }  # fmt: skip
    assert set(made.of("queries", "train")["language"].to_pylist()) == {"en", "zh"}
    labels = made.examples["label"].to_pylist()
    assert {round(label, 3) for label in labels} == {0.0, 0.333, 1.0}
    # One of grade 0 each, which BM25 finds; three more are added where it is learned from.
    train = made.of("examples", "train")
    assert train.num_rows == parts.count("train") * 6
    dev = made.of("examples", "dev")
    assert dev.num_rows == parts.count("dev") * 3
    assert set(dev["negative"].to_pylist()) == {"", "bm25"}
    assert made.description.split.train_until == ""


def test_json_is_utf_8_on_every_terminal(folder: Path) -> None:
    (folder / "j.qrels").rename(folder / "判断.qrels")
    done = run(folder, judgments="判断.qrels", charset="gbk")
    assert json.loads(done.stdout_bytes)["source"] == f"judgments: {folder / '判断.qrels'}"


def test_a_scale_of_ones_own(folder: Path) -> None:
    assert run(folder, "--highest", "4").exit_code == 0
    assert Dataset.open(folder / "data").examples["label"].to_numpy().max() == 0.75
    done = run(folder, "--highest", "2")
    assert isinstance(done.exception, InvalidInput)
    assert "is 3, outside the scale; allowed is 0 to 2" in str(done.exception)


def test_the_scale_that_was_taken_is_said(folder: Path) -> None:
    done = run(folder, form=())
    assert done.exit_code == 0, done.output
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert lines >= {"scale 0 to 3 (in the file)", "grades 0: 30, 1: 30, 2: 1, 3: 30"}
    assert "highest grade" not in done.stderr
    assert "scale 0 to 4 (--highest)" in " ".join(
        run(folder, "--highest", "4", form=()).stdout.split()
    )


def test_a_grade_far_above_all_others_is_warned_of(folder: Path) -> None:
    """One that is mistyped made all others next to nothing, silently."""
    mistyped = (folder / "j.qrels").read_text() + "\n1 0 k30 99"
    (folder / "mistyped.qrels").write_text(mistyped)
    done = run(folder, judgments="mistyped.qrels")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["grades"]["99"] == 1
    warned = "The highest grade, 99 (1 of 92 judgments), is more than four times the next one, 3"
    assert warned in done.stderr
    assert "highest grade" not in run(folder, "--highest", "99", judgments="mistyped.qrels").stderr
    # Relevant or not is a scale.
    (folder / "two.qrels").write_text(
        mistyped.replace(" 99", " 1").replace(" 3", " 1").replace(" 2", " 1")
    )
    assert "highest grade" not in run(folder, judgments="two.qrels").stderr


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        ("0 0 k0 0", (), "One class only: every grade is 0"),
        ("0 0 k0 1\n1 0 k1 1", ("--negatives", "0"), "One class only: all judgments of the train"),
        ("0 0 k0 -1\n1 0 k1 1", (), "is -1, outside the scale"),
        ("0 0 x 1", (), "None of the 1 judged items is in the catalogue"),
    ],
)
def test_judgments_that_nothing_can_be_learned_from(
    folder: Path, rows: str, more: tuple[str, ...], says: str
) -> None:
    (folder / "bad.qrels").write_text(rows)
    done = run(folder, *more, judgments="bad.qrels")
    assert isinstance(done.exception, InvalidInput)
    assert says in str(done.exception)
    assert not (folder / "data").exists()


def test_wrong_use_says_what_to_do(folder: Path) -> None:
    def refused(*arguments: str) -> BaseException | None:
        common = ("--catalogue", str(folder / "c.jsonl.gz"), "--out", str(folder / "data"))
        environment = {"NEURALRANK_HOME": str(folder / "home")}
        command = ["train", "dataset", *common, *arguments]
        return CliRunner().invoke(app, command, env=environment).exception

    judged = ("--judgments", str(folder / "j.qrels"))
    assert "--logs or --judgments" in str(refused())
    assert "--logs or --judgments" in str(refused(*judged, "--logs", str(folder)))
    assert "allowed are auto, harvest" in str(refused(*judged, "--propensities", "x"))
    assert isinstance(refused(*judged), NotFound)  # no encoder
    assert "There are no logs in" in str(refused("--logs", str(folder), "--encoder", "none"))


def test_judged_queries_without_an_item_of_the_catalogue_are_counted(folder: Path) -> None:
    """Else who counts the queries of the parts finds that some are missing, and not why."""
    more = "\n0 0 gone 2\n1000 0 gone 1\n1000 0 gone-too 0"
    (folder / "j.qrels").write_text((folder / "j.qrels").read_text() + more)
    (folder / "q.tsv").write_text(f"{(folder / 'q.tsv').read_text()}\n1000\tteapot")
    counts = json.loads(run(folder).stdout)["counts"]
    assert (counts["queries_without_items"], counts["unknown_items"]) == (1, 3)
    assert sum(counts["queries"].values()) == len(QUERIES)
    shown = run(folder, form=()).stdout
    assert "1 judged queries without an item of the catalogue" in shown


def test_judged_queries_without_a_text_are_left_out_and_counted(folder: Path) -> None:
    """Their ids were taken for what users type."""
    texts = (folder / "q.tsv").read_text().splitlines()
    (folder / "q.tsv").write_text("\n".join(line.replace("\t", " \t") for line in texts[5:]))
    done = run(folder)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["queries_without_text"] == 5
    made = Dataset.open(folder / "data")
    assert set(made.queries["text"].to_pylist()) == set(QUERIES[5:])


def test_of_two_ids_of_one_query_both_count_and_unequal_grades_are_refused(folder: Path) -> None:
    texts, rows = (folder / "q.tsv").read_text(), (folder / "j.qrels").read_text()
    (folder / "q.tsv").write_text(f"{texts}\nagain\tKETTLE  0\n")
    (folder / "j.qrels").write_text(f"{rows}\nagain 0 k0 3\nagain 0 k9 1\n")
    done = run(folder)
    assert done.exit_code == 0, done.output
    made = Dataset.open(folder / "data")
    assert sorted(made.queries["text"].to_pylist()) == sorted(QUERIES)
    labels = {
        row["item_id"]: round(row["label"] * 3)
        for row in made.examples.to_pylist()
        if row["query_id"] == query_id("kettle 0")
    }
    assert labels.items() >= {"k0": 3, "k1": 1, "k2": 0, "k9": 1}.items()
    (folder / "j.qrels").write_text(f"{rows}\nagain 0 k0 1\n")
    done = run(folder)
    assert isinstance(done.exception, InvalidInput)
    assert "Item 'k0' has grade 1 for the query 'kettle 0', and 3" in str(done.exception)


def test_queries_that_lie_beside_the_judgments_are_found(folder: Path) -> None:
    (folder / "q.tsv").rename(folder / "j.queries.tsv")
    made = ["--judgments", str(folder / "j.qrels"), "--catalogue", str(folder / "c.jsonl.gz")]
    out = ["--out", str(folder / "data"), "--encoder", "none"]
    done = CliRunner().invoke(app, ["train", "dataset", *made, *out])
    assert done.exit_code == 0, done.output
    assert set(Dataset.open(folder / "data").queries["text"].to_pylist()) == set(QUERIES)


def test_texts_of_other_queries_are_refused(folder: Path) -> None:
    (folder / "q.tsv").write_text("other\tkettle 1\n")
    done = run(folder)
    assert isinstance(done.exception, InvalidInput)
    assert "'0' is judged, 'other' has a text" in str(done.exception)
