"""A bundle measured on the test part of a small shop, and what can't be measured."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidBundle, InvalidInput, NeuralrankError
from tests.unit.conftest import tiny_bundle
from tests.unit.trainer.evaluation.shop import QUERY, ByWords, dataset, page, untracked
from trainer.evaluation.evaluation import Evaluation, combined, evaluate, held_back, versus
from trainer.evaluation.scoring import load_scorer


def measured(folder: Path, but: str = "", **tables: Any) -> Evaluation:
    return evaluate(ByWords(folder, but), held_back(dataset(**tables)), untracked)


def test_order_is_of_the_test_part_and_of_queries_with_an_answer(tmp_path: Path) -> None:
    numbers = measured(tmp_path).numbers()
    # e1: phone-2 (3), phone-1 (1), phone-3 in the order phone-2, then two of one score by id.
    # e2: phone-3 has both words. e3: pc-1 has the word, the others tie.
    assert numbers["MRR@10"] == 1.0
    assert numbers["HitRate@10"] == numbers["Recall@5"] == 1.0
    assert numbers["nDCG@10"] == pytest.approx(1.0, abs=0.05)
    held = held_back(dataset()).judged
    assert held is not None
    assert set(held.labels) == {"e1", "e2", "e3"}  # e4 has none
    assert held.without_relevant == 1
    # A ranker that hides what is best is worse by what the formula says: e1 with 1 and 0 first.
    worse = measured(tmp_path / "2", "phone-2").numbers()
    assert worse["nDCG@10"] < numbers["nDCG@10"]


def asked(name: str, **grades: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A query of the test part, and its pairs."""
    query = {
        "query_id": name,
        "text": f"phone {name}",
        "language": "en",
        "split": "test",
        "segment": "",
    }
    pair = {"query_id": name, "weight": 1.0, "source": "judgment", "negative": "", "split": "test"}
    return query, [
        pair | {"item_id": item.replace("_", "-"), "label": grade / 3}
        for item, grade in grades.items()
    ]


def test_a_query_whose_items_all_have_one_label_measures_nothing_and_is_counted(
    tmp_path: Path, registry: Registry
) -> None:
    """Every order of its items has the same nDCG: it only drew the mean towards 1."""
    shop, before = dataset(), measured(tmp_path / "1", "phone-2").numbers()
    more = [asked("e5", phone_1=2, phone_2=2), asked("e6", phone_2=3)]
    queries = shop.queries.to_pylist() + [query for query, _ in more]
    examples = shop.examples.to_pylist() + [row for _, rows in more for row in rows]
    found = evaluate(
        ByWords(tmp_path / "2", "phone-2"),
        held_back(data := dataset(queries=queries, examples=examples)),
        untracked,
    )
    after = found.numbers()
    assert before["nDCG@10"] < 1
    for name in ("nDCG@10", "MRR@10", "Recall@5", "HitRate@10", "AUC", "ci95", "segments"):
        assert after[name] == before[name]
    assert found.judgments is not None
    assert found.judgments.words.endswith(
        "1 more queries have no relevant item, in 2 all items have the same label; they are left "
        "out."
    )
    data.write(tmp_path / "data")
    ref = registry.publish(tiny_bundle(tmp_path / "3", "cross_encoder")).ref
    options = ("--bundle", ref, "--no-robustness")
    answer = json.loads(run(tmp_path / "data", *options, "--json").stdout)
    counts = ("queries", "queries_without_relevant", "queries_alike")
    assert [answer[name] for name in counts] == [3, 1, 2]
    words = "3 queries judged by judgment (left out: 1 without a relevant item, 2 whose items all "
    assert words in run(tmp_path / "data", *options).stdout


def test_where_all_items_of_each_query_have_one_label_nothing_measures() -> None:
    more = [asked("e5", phone_1=2, phone_2=2), asked("e6", phone_2=3), asked("e7", phone_1=0)]
    data = dataset(
        queries=[query for query, _ in more],
        examples=[row for _, rows in more for row in rows],
        impressions=[],
    )
    with pytest.raises(InvalidInput, match="nothing to put in order: in each of its 3 queries"):
        held_back(data)


def test_auc_is_over_all_pairs_and_over_queries(tmp_path: Path) -> None:
    found = measured(tmp_path)
    # Relevant: e1 phone-2 1.0 and phone-1 0.5, e2 phone-3 1.0, e3 pc-1 1.0 and pc-2 0.0.
    # Not: e1 phone-3 0.5, e2 phone-2 0.5, e3 pc-3 0.0. Wins and half wins of 5 * 3 pairs:
    # 1.0 (three items) wins all: 9. 0.5: 0.5 + 0.5 + 1 = 2. 0.0: 0 + 0 + 0.5.
    assert found.judgments is not None
    assert found.judgments.auc["AUC"] == pytest.approx(11.5 / 15)
    # By query: e1 (1 + 0.5) / 2, e2 1, e3 (1 + 0.5) / 2.
    assert found.judgments.auc["AUC a query"] == pytest.approx((0.75 + 1 + 0.75) / 3)


def test_calibration_by_hand(tmp_path: Path) -> None:
    found = measured(tmp_path).judgments
    assert found is not None
    # 1.0: 3 of 3 relevant; 0.5: 1 of 3; 0.0: 1 of 2.
    assert [(p, pytest.approx(r), n) for p, r, n in found.calibration.bins] == [
        (0.0, 0.5, 2),
        (0.5, 1 / 3, 3),
        (1.0, 1.0, 3),
    ]
    assert found.calibration.ece == pytest.approx((2 * 0.5 + 3 * (0.5 - 1 / 3)) / 8)
    assert found.calibration.brier == pytest.approx((0 + 3 * 0.25 + 1.0) / 8)


def test_grades_are_told_by_what_the_dev_part_teaches(tmp_path: Path) -> None:
    found = measured(tmp_path).judgments
    assert found is not None
    # Dev: score 1 has label 1; 0.5 has 1/3 and 0 (phone-2, phone-3), 1/6 in the mean, for which
    # both grades are as near; 0 is clipped to that.
    assert set(found.classification) >= {"0", "0.3333", "0.6667", "1", "macro avg", "weighted avg"}
    assert found.classification["1"]["precision"] == 1.0
    assert found.classification["1"]["recall"] == 1.0
    assert found.classification["1"]["support"] == 3


def test_segments_are_by_language_traffic_category_and_user(tmp_path: Path) -> None:
    found = measured(tmp_path).segments
    assert found["language", "zh"].size == 1
    assert found["language", "en"].size == 2
    assert found["traffic", "tail"].size == 2
    assert found["category", "Phones"].size == 1
    assert found["category", "Computers"].size == 1
    assert {key[1] for key in found if key[0] == "users"} == {"new", "returning", "anonymous"}
    assert found["users", "new"].metric == "clicks a page"
    assert found["users", "new"].value > found["users", "anonymous"].value


def test_pages_are_ordered_anew_and_weighed(tmp_path: Path) -> None:
    good, bad = (measured(tmp_path / but, but).clicks for but in ("phone-3", "phone-2"))
    assert good is not None
    assert bad is not None
    assert good.pages == 3
    assert good.logged == pytest.approx(2 / 3)
    # phone-2 stood at 3 once and at 2 twice: looked at by (0.25 + 0.5 + 0.5) / 3 = 1.25 / 3.
    assert good.estimates["IPS"].value == pytest.approx(2 * (3 / 1.25) / 3)
    assert bad.estimates["IPS"].value == pytest.approx(2 * (0.25 * 3 / 1.25) / 3)
    assert good.estimates["DR"].value > bad.estimates["DR"].value


def test_what_differs_is_said_with_its_significance(tmp_path: Path) -> None:
    good, bad = (measured(tmp_path / but, but) for but in ("phone-3", "phone-2"))
    found = versus(good, bad)
    assert found["clicks_a_page"]["value"] > 0
    assert found["nDCG@10"]["difference"] != 0
    assert 0 < found["nDCG@10"]["p"] <= 1
    assert {"dimension": "language", "name": "zh", "difference": 0.0} in found["segments"]
    assert versus(good, good)["clicks_a_page"]["value"] == 0.0


def test_robustness_is_measured_on_the_queries_that_change(tmp_path: Path) -> None:
    rows = {row.name: row for row in measured(tmp_path).judgments.robustness}  # type: ignore[union-attr]
    assert rows["word order"].queries == 2  # of one word: no other order
    assert rows["word order"].drift == 0.0  # words are counted, wherever they stand
    assert rows["word order"].tau == pytest.approx(1.0)
    assert rows["typo"].queries == 2  # 电脑 is too short for a slip
    assert rows["typo"].drift > 0.0
    assert rows["traditional/simplified"].queries == 1
    # Before: pc-1, then of two equal ones the last id first, as trec_eval has it.
    assert rows["traditional/simplified"].before == pytest.approx(
        (3 + 2 / 2) / (3 + 2 / np.log2(3))
    )
    assert rows["full/half width"].queries == 2


def test_width_changes_nothing_for_a_served_bundle(tmp_path: Path) -> None:
    """Texts are read in NFKC, as the service reads them."""
    bundle = tiny_bundle(tmp_path, "cross_encoder")
    found = evaluate(load_scorer(bundle), held_back(dataset()), untracked)
    rows = {row.name: row for row in found.judgments.robustness}  # type: ignore[union-attr]
    assert rows["full/half width"].drift == 0.0
    assert rows["typo"].drift > 0.0


@pytest.mark.parametrize("kind", ["cross_encoder", "encoder"])
def test_a_bundle_is_scored_as_it_is_served(tmp_path: Path, kind: str) -> None:
    scorer = load_scorer(tiny_bundle(tmp_path, kind))
    material = held_back(dataset())
    items = [material.items[i] for i in ("pc-1", "phone-1")]
    alone = [scorer.score("电脑", [item])[0] for item in items]
    assert scorer.score("电脑", items).tolist() == pytest.approx(alone, abs=1e-5)
    assert scorer.probability(scorer.score("电脑", items)).min() >= 0
    assert scorer.score(" ＰＣ ", items).tolist() == scorer.score("PC", items).tolist()
    assert scorer.score("电脑", []).tolist() == []
    # What the service has no model read.
    assert scorer.score("PC without stand", items).tolist() == scorer.score("PC", items).tolist()
    assert scorer.score("电脑 不带壳", items).tolist() == scorer.score("电脑", items).tolist()
    numbers = evaluate(scorer, material, untracked, robust=False).numbers()
    assert 0 < numbers["nDCG@10"] <= 1
    assert np.isfinite(numbers["counterfactual"]["clicks_a_page"]["DR"]["value"])


def test_one_class_only_is_refused() -> None:
    rows = dataset().examples.to_pylist()
    for row in rows:
        row["label"] = 1.0
    with pytest.raises(InvalidInput, match="one class only: the label of all 10 pairs is 1"):
        held_back(dataset(examples=rows))


def test_without_events_and_judgments_there_is_nothing_to_measure_with() -> None:
    rows = [row for row in dataset().examples.to_pylist() if row["split"] != "test"]
    with pytest.raises(InvalidInput, match=r"no labelled pairs and no pages.*train pull"):
        held_back(dataset(examples=rows, impressions=[]))


def test_clicks_stand_in_for_judgments(tmp_path: Path) -> None:
    rows = dataset().examples.to_pylist()
    for row in rows:
        row["source"] = "click"
    again = [row | {"label": 0.0, "weight": 3.0} for row in rows if row["label"] == 1.0]
    held = held_back(dataset(examples=rows + again)).judged
    assert held is not None
    assert held.source == "click"
    assert held.labels["e2"]["phone-3"] == pytest.approx(0.25)  # the weighted mean of both rows
    assert measured(tmp_path, examples=rows).judgments.source == "click"  # type: ignore[union-attr]


def test_pages_without_judgments_and_judgments_without_pages(tmp_path: Path) -> None:
    only_pages = measured(tmp_path / "1", examples=[])
    assert only_pages.judgments is None
    assert "counterfactual" in only_pages.numbers()
    only_judged = measured(tmp_path / "2", impressions=[])
    assert only_judged.clicks is None
    assert "counterfactual" not in only_judged.numbers()


def test_a_dataset_that_leaks_is_refused() -> None:
    rows = dataset().queries.to_pylist()
    rows[0]["text"] = QUERY["e1"][0].upper()
    with pytest.raises(InvalidInput, match=r"leaks: the query .* in train and in test"):
        dataset(queries=rows).check()


def test_a_kind_without_a_score_for_a_text_is_refused(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, "cross_encoder")
    other = Bundle(bundle.path, bundle.manifest.model_copy(update={"kind": "image_encoder"}))
    with pytest.raises(InvalidBundle, match="image_encoder"):
        load_scorer(other)


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["train", "evaluate", *map(str, arguments)])


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(str(tmp_path / "registry"))
    monkeypatch.setenv("NEURALRANK_REGISTRY", made.url)
    return made


def asked_of_the_network(page: str) -> list[str]:
    """Everything in a page that a browser would fetch from somewhere else."""
    own = re.sub(r"data:[\w/+.-]+;base64,[\w+/=\s]*", "data:", page)
    sources = re.findall(
        r"""\b(?:src|srcset|href|action|poster|data)\s*=\s*["']?([^"'\s>]*)""", own
    )
    found = [source for source in sources if not source.startswith(("data:", "#"))]
    found += re.findall(r"<(?:link|iframe|object|embed|base|script[^>]*\ssrc)\b", own, re.I)
    found += re.findall(r"@import|\burl\(", own)
    return found + [
        host
        for host in re.findall(r"(?:\bhttps?:)?//[\w.-]+", own)
        if host != "http://www.w3.org"  # the name of a format, which nobody fetches
    ]


@pytest.mark.parametrize(
    "part",
    [
        '<script src="plot.js"></script>',
        "<link rel=stylesheet href=style.css>",
        '<img src="https://example.org/a.png">',
        "<img src='//example.org/a.png'>",
        "<style>@import 'a.css';</style>",
        "<style>body { background: url(a.png) }</style>",
        "fetch('https://example.org')",
    ],
)
def test_what_a_page_asks_of_the_network_is_found(part: str) -> None:
    assert asked_of_the_network(f"<html><body>{part}</body></html>")


def test_the_command_prints_everything_and_writes_a_page_without_network(
    tmp_path: Path, registry: Registry
) -> None:
    dataset().write(tmp_path / "data")
    first = registry.publish(tiny_bundle(tmp_path / "1", "cross_encoder")).ref
    second = registry.publish(tiny_bundle(tmp_path / "2", "cross_encoder", max_tokens=8)).ref
    out = tmp_path / "report.html"
    options = ("--bundle", second, "--baseline", first, "--out", out)
    done = run(tmp_path / "data", *options, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert set(answer["systems"]) == {first, second}
    assert answer["queries"] == 3
    assert answer["pages"] == 3
    for numbers in answer["systems"].values():
        assert set(numbers) >= {
            *("nDCG@10", "MRR@10", "Recall@10", "HitRate@10", "AUC", "classification"),
            *("calibration", "segments", "robustness", "exposure", "counterfactual"),
        }
    assert answer["versus"]["nDCG@10"]["p"] <= 1
    page = out.read_text(encoding="utf-8")
    assert page.count("<img") >= 4
    assert asked_of_the_network(page) == []
    for words in ("Calibration", "Segments", "Robustness", "Exposure", "Clicks, had it ranked"):
        assert words in page
    shown = run(tmp_path / "data", *options)
    assert "clicks a page, DR" in shown.stdout
    left = "(left out: 1 without a relevant item)"
    assert f"3 queries judged by judgment {left}, 3 logged pages" in shown.stdout


def test_judged_queries_that_are_trained_on_measure_nothing(tmp_path: Path) -> None:
    judged = dataset(impressions=[], sequences=[])
    held = judged.queries.to_pylist()
    logs = dataset(
        queries=[row | {"split": "train"} for row in held if row["query_id"] in ("d1", "e1")]
        + [row for row in held if row["query_id"] in ("t1", "e2")],
        examples=[], impressions=[],
    )  # fmt: skip
    material = combined(logs, judged)
    assert material.judged is not None
    assert set(material.judged.labels) == {"e2", "e3"}
    assert (material.judged.trained, material.judged.without_relevant) == (1, 1)
    assert material.dev is None
    found = evaluate(ByWords(tmp_path), material, untracked).judgments
    assert found is not None
    assert found.words.endswith("; 1 are trained on, and are left out.")
    everything = dataset(
        queries=[row | {"split": "train"} for row in held], examples=[], impressions=[]
    )
    with pytest.raises(InvalidInput, match="all 4 queries of their test part are trained on"):
        combined(everything, judged)


def test_judgments_of_one_dataset_and_pages_of_another(tmp_path: Path, registry: Registry) -> None:
    dataset(examples=[]).write(tmp_path / "logs")
    dataset(impressions=[]).write(tmp_path / "judged")
    ref = registry.publish(tiny_bundle(tmp_path / "1", "cross_encoder")).ref
    options = ("--bundle", ref, "--no-robustness", "--json")
    done = run(tmp_path / "logs", "--judgments", tmp_path / "judged", *options)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["judged_by"], answer["queries"], answer["pages"]) == ("judgment", 3, 3)
    assert set(answer["systems"][ref]) >= {"nDCG@10", "counterfactual"}
    assert answer["judgments"] == str(tmp_path / "judged")


def test_a_bundle_that_does_not_load_is_named(tmp_path: Path, registry: Registry) -> None:
    dataset().write(tmp_path / "data")
    bundle = registry.publish(tiny_bundle(tmp_path / "1", "cross_encoder"))
    bundle.model.write_bytes(b"half")
    done = run(tmp_path / "data", "--bundle", bundle.ref)
    assert isinstance(done.exception, InvalidBundle)
    done = run(tmp_path / "data", "--bundle", "nobody")
    assert isinstance(done.exception, NeuralrankError)


def test_a_later_page_is_not_a_new_user_twice() -> None:
    rows = [
        *page("t1", "train", "p0", "old", "phone-1", ""),
        *page("e1", "test", "p1", "young", "phone-1", ""),
        *page("e2", "test", "p2", "young", "phone-1", ""),
    ]
    pages = held_back(dataset(impressions=rows, sequences=[])).pages
    assert pages is not None
    assert list(pages.users) == ["new", "new"]
