"""`neuralrank evaluate personal`, and that `neuralrank evaluate` is what it was."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

pytest.importorskip("implicit")

from neuralrank.cli import evaluate_personal
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidInput


@pytest.fixture
def files(tmp_path: Path) -> Path:
    products = [{"id": str(n), "title": f"游戏 game {n}"} for n in range(12)]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(map(orjson.dumps, products)))
    # Of each pair who has the one gets the other; popular is something else.
    rows = [f"u{n}\t{n % 5} {n % 5 + 5} 11" for n in range(40)]
    rows += [f"v{n}\t11 {n % 5}" for n in range(5)]
    (tmp_path / "h.tsv").write_text("\n".join(rows))
    (tmp_path / "t.tsv").write_text("\n".join(f"v{n}\t{n % 5 + 5}" for n in range(5)))
    return tmp_path


def arguments(files: Path) -> list[str]:
    return [
        "evaluate", "personal", "--catalogue", str(files / "c.jsonl"),
        "--histories", str(files / "h.tsv"), "--targets", str(files / "t.tsv"),
        "--cache", str(files / "cache"),
    ]  # fmt: skip


def test_json_is_all_that_is_printed(files: Path) -> None:
    command = [*arguments(files), "--systems", "popularity,item_knn", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    report = orjson.loads(done.stdout)
    assert set(report) == {"systems", "users"}
    assert report["users"] == 5
    assert list(report["systems"]) == ["popularity", "item_knn"]
    assert report["systems"]["item_knn"] == {"HitRate@10": 1.0, "nDCG@10": 1.0}
    assert report["systems"]["popularity"]["nDCG@10"] < 0.9
    assert "item_knn: HitRate@10 1.0000" in done.stderr


def test_one_stale_line_does_not_refuse_the_rest(files: Path) -> None:
    command = [*arguments(files), "--systems", "popularity,item_knn", "--json"]
    clean = CliRunner().invoke(app, command)
    with (files / "h.tsv").open("a") as stream:
        stream.write("\nw\tdelisted\nx\t\n")
    with (files / "t.tsv").open("a") as stream:
        stream.write("\nw\t11\nx\t11\nnobody\tdelisted\n")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    # Two more hits, of new users, and one more miss.
    report = orjson.loads(done.stdout)
    assert report["users"] == 8
    for name, numbers in orjson.loads(clean.stdout)["systems"].items():
        expected = (5 * numbers["HitRate@10"] + 2) / 8
        assert report["systems"][name]["HitRate@10"] == pytest.approx(expected, abs=1e-6)
    assert (
        "h.tsv: 1 of 131 items are not in the catalogue, and left out: line 46 has" in done.stderr
    )
    assert "h.tsv: 2 of 47 users have no item, and are left out" in done.stderr
    assert "t.tsv: 1 of 8 items are not in the catalogue, a miss for every system" in done.stderr
    assert "t.tsv: 3 of 8 users have no history" in done.stderr
    for text in ("are not in the catalogue", "have no item", "have no history"):
        assert text not in clean.stderr


def test_the_catalogue_of_something_else_is_refused(files: Path) -> None:
    (files / "c.jsonl").write_bytes(b'{"id": "11", "title": "game"}')
    done = CliRunner().invoke(app, [*arguments(files), "--systems", "popularity"])
    assert isinstance(done.exception, InvalidInput)
    assert "85 of 130 items are not in the catalogue" in str(done.exception)


def test_a_table_is_printed_without_it(files: Path) -> None:
    done = CliRunner().invoke(app, [*arguments(files), "--systems", "popularity"])
    assert done.exit_code == 0, done.output
    assert "HitRate@10" in done.stdout
    assert "5 users" in done.stdout


def test_content_is_told_apart_by_encoder_and_by_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(ref: str, *texts: str) -> str:
        encoder = SimpleNamespace(
            ref=ref, encode_passages=lambda texts: np.zeros((len(texts), 4), np.float32)
        )
        monkeypatch.setattr(evaluate_personal, "default_encoder", lambda *_: encoder)
        monkeypatch.setattr("neuralrank.encoders.encoder.Encoder.load", lambda _: encoder)
        content = evaluate_personal._content(list(texts), tmp_path, evaluate_personal._Terminal())
        assert content.vectors.shape == (len(texts), 4)
        return content.digest

    monkeypatch.setattr("neuralrank.stack.ranking.fill_registry", lambda *_: None)
    found = [digest("e@1", "a", "b"), digest("e@2", "a", "b"), digest("e@1", "a", "c"),
             digest("e@1", "b", "a")]  # fmt: skip
    assert len(set(found)) == 4
    assert digest("e@1", "a", "b") == found[0]


def test_evaluate_without_a_word_judges_rankings() -> None:
    for command in (["evaluate"], ["evaluate", "rankings"]):
        done = CliRunner().invoke(app, [*command, "--index", "products"])
        assert done.exit_code == 2
        assert "Missing option '--queries'" in done.output
    listed = CliRunner().invoke(app, ["evaluate", "--help"])
    assert "rankings" in listed.output
    assert "personal" in listed.output
