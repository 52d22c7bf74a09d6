"""What a candidate must show, and what becomes of one that does not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from neuralrank.bundles.bundle import MODEL, TOKENIZER, Bundle, write_bundle
from neuralrank.bundles.candidates import Candidate, Check, parse_candidate
from neuralrank.bundles.registry import Registry
from neuralrank.cli.commands import app
from neuralrank.errors import InvalidBundle, InvalidInput, NotFound
from neuralrank.evaluation import Judged
from neuralrank.models.bert import write_bert
from tests.unit.conftest import CONFIG, tiny_tokenizer, tiny_weights
from tests.unit.trainer.evaluation.shop import ByWords, as_ranked_by, dataset, untracked
from trainer.dataset import Dataset
from trainer.evaluation.evaluation import CLICKS, Evaluation, evaluate, held_back
from trainer.evaluation.report import report
from trainer.gate import Rules, checks, gained, kept, measured, promoted

SMALL = Rules(min_size=1, min_queries=1)


def ranker(folder: Path, but: str, **tables: Any) -> Evaluation:
    """Of the shop without its page of nobody's, on which nothing was clicked: of one page, that a
    better ranker must lose on it."""
    shown = [row for row in dataset().impressions.to_pylist() if row["user_id"]]
    tables = {"impressions": shown, **tables}
    return evaluate(ByWords(folder / f"but-{but}", but), held_back(dataset(**tables)), untracked)


def failed(candidate: Evaluation, serving: Evaluation, rules: Rules = SMALL) -> set[str]:
    return {check.name for check in checks(candidate, serving, rules) if not check.passed}


def test_a_better_one_passes_and_the_other_way_round_fails(tmp_path: Path) -> None:
    good, bad = ranker(tmp_path, ""), ranker(tmp_path, "phone-2")
    assert failed(good, bad) == set()
    assert failed(bad, good) >= {
        "nDCG@10 on held-back judgments",
        "clicks a page (DR estimate)",
        "nDCG@10 of language en",
    }


def test_as_good_as_is_not_better(tmp_path: Path) -> None:
    good = ranker(tmp_path, "")
    assert failed(good, good) == {"nDCG@10 on held-back judgments"}


def test_what_rounding_says_is_no_gain_and_no_loss() -> None:
    """Gains and losses that cancel out leave 1e-17, and 2% of 0.5 are not quite 0.01."""
    queries = tuple("abcde")
    mine, theirs = (
        Judged(queries, {"nDCG@10": np.array(values)})
        for values in ([0.43, 1.0, 0.63, 0.5, 0.63], [0.63, 0.43, 0.63, 1.0, 0.5])
    )
    assert (mine.values["nDCG@10"] - theirs.values["nDCG@10"]).mean() > 0
    check = gained("nDCG@10", "", mine, theirs, "nDCG@10", Rules())
    assert "+0.0000" in check.words
    assert not check.passed
    for value, before in ((0.98, 1.0), (0.49, 0.5)):
        assert kept("nDCG@10", "", value, before, Rules(margin=0.02)).passed
        assert not kept("nDCG@10", "", value - 1e-6, before, Rules(margin=0.02)).passed


def test_a_gain_in_the_mean_does_not_pay_for_a_segment(tmp_path: Path) -> None:
    """Better for English, worse for Chinese: the mean rises, and it fails all the same."""
    english, chinese = ranker(tmp_path, "pc-1"), ranker(tmp_path, "phone-2")
    names = failed(english, chinese)
    assert "nDCG@10 on held-back judgments" not in names
    assert names == {
        "nDCG@10 of language zh",
        "nDCG@10 of category Computers",
        "nDCG@10 of traffic tail",
    }
    # Segments that are too small are not looked at, and a margin as wide as the loss lets it pass.
    assert failed(english, chinese, replace(SMALL, min_size=3)) == set()
    assert failed(english, chinese, replace(SMALL, margin=0.9)) == set()


def many_categories(folder: Path, but: str) -> Evaluation:
    """Of a shop of 22 categories, each with a query of which the item `a-cNN` is right."""
    names = [f"c{number:02}" for number in range(22)]
    like = dataset().items.to_pylist()[0]
    items = [
        like | {"item_id": f"{which}-{name}", "title": f"{name} {which}", "category": name}
        for name in names
        for which in "ab"
    ]
    queries = [
        {"query_id": name, "text": f"{name} a", "language": "", "split": "test", "segment": ""}
        for name in names
    ]
    pair = {"weight": 1.0, "source": "judgment", "negative": "", "split": "test"}
    examples = [
        pair | {"query_id": name, "item_id": f"{which}-{name}", "label": float(which == "a")}
        for name in names
        for which in "ab"
    ]
    data = dataset(items=items, queries=queries, examples=examples, impressions=[], sequences=[])
    return evaluate(ByWords(folder / f"but-{but}", but), held_back(data), untracked, robust=False)


def test_no_category_is_too_far_down_the_list_to_be_looked_at(tmp_path: Path) -> None:
    """Better in ten categories, worse in the last of 22."""
    candidate, serving = many_categories(tmp_path, "a-c21"), many_categories(tmp_path, "a-c0")
    assert failed(candidate, serving) == {"nDCG@10 of category c21"}
    # The page shows the largest ones, and says that there are more.
    (section,) = [
        one for one in report([candidate, serving], {}).sections if one.title == "Segments"
    ]
    assert len(section.tables[0].rows) == 20
    assert "--json has 2 more" in section.paragraphs[0]


def test_a_gain_in_judgments_does_not_pay_for_clicks(tmp_path: Path) -> None:
    good, bad = ranker(tmp_path, ""), ranker(tmp_path, "phone-2")
    assert bad.clicks is not None
    assert "clicks a page (DR estimate)" in failed(replace(good, clicks=bad.clicks), good)


def test_fewer_clicks_within_the_margin_fail_where_they_are_no_chance(tmp_path: Path) -> None:
    good, bad = ranker(tmp_path, ""), ranker(tmp_path, "phone-2")

    def clicked(evaluation: Evaluation, *pages: float) -> Evaluation:
        found = evaluation.clicks
        assert found is not None
        clicks = np.resize(pages, (200, 1))
        one = replace(found.estimates[CLICKS], clicks=clicks, weights=None, shown=None)
        return replace(
            evaluation, clicks=replace(found, estimates={**found.estimates, CLICKS: one})
        )

    fewer, before = clicked(good, 0.99), clicked(bad, 1.0)
    assert failed(fewer, before) == {"clicks a page (DR estimate)"}
    # As much fewer, and more on some pages than before.
    assert failed(clicked(good, 0.0, 1.98), before) == set()


def test_what_is_asked_for_can_be_more(tmp_path: Path) -> None:
    good, bad = ranker(tmp_path, ""), ranker(tmp_path, "phone-2")
    judgments = {"nDCG@10 on held-back judgments"}
    assert failed(good, bad, replace(SMALL, min_gain=0.9)) == judgments
    assert failed(good, bad, replace(SMALL, max_p=0.01)) == judgments  # three queries


def test_without_judgments_nothing_shows_that_it_is_better(tmp_path: Path) -> None:
    good, bad = (ranker(tmp_path, but, examples=[]) for but in ("", "phone-2"))
    (check,) = [check for check in checks(good, bad, SMALL) if not check.passed]
    assert "no labelled pair" in check.words


def test_without_pages_clicks_are_not_compared(tmp_path: Path) -> None:
    good, bad = (ranker(tmp_path, but, impressions=[]) for but in ("", "phone-2"))
    words = {check.name: check.words for check in checks(good, bad, SMALL)}
    assert "not compared" in words["clicks a page (DR estimate)"]
    assert failed(good, bad) == set()


@pytest.mark.parametrize(
    "wrong", [{"margin": -0.1}, {"max_p": 2.0}, {"min_size": 0}, {"min_queries": 0}]
)
def test_rules_have_their_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="allowed is"):
        Rules(**wrong)


# With real bundles, a registry, and the commands.


def seeded(folder: Path, seed: int, name: str = "ranker") -> Bundle:
    folder.mkdir(parents=True)
    onnx.save(write_bert(tiny_weights(seed), CONFIG, "score", "fp32"), str(folder / MODEL))
    tiny_tokenizer().save(str(folder / TOKENIZER))
    fields = {"name": name, "kind": "cross_encoder", "max_tokens": 64, "parent": f"{seed}"}
    return write_bundle(folder, fields)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(str(tmp_path / "registry"))
    monkeypatch.setenv("NEURALRANK_REGISTRY", made.url)
    return made


@pytest.fixture
def refs(tmp_path: Path, registry: Registry) -> tuple[str, str]:
    """What serves, and a candidate; the grades of `tmp_path/data` are the candidate's order, those
    of `tmp_path/other` that of the one in service."""
    first = registry.publish(seeded(tmp_path / "1", 1), candidate=True)
    second = registry.publish(seeded(tmp_path / "2", 2), candidate=True)
    as_ranked_by(second).write(tmp_path / "data")
    as_ranked_by(first).write(tmp_path / "other")
    return first.ref, second.ref


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def listed() -> dict[str, Any]:
    done = run("candidates", "--json")
    assert done.exit_code == 0, done.output
    return {row["ref"]: row for row in json.loads(done.stdout)}


def test_the_first_of_a_name_serves_and_is_no_candidate(refs: tuple[str, str]) -> None:
    assert set(listed()) == {refs[1]}
    assert listed()[refs[1]]["outcome"] == "waiting"


def test_a_candidate_that_is_better_serves(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, second = refs
    done = run("promote", second, "--dataset", tmp_path / "data", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"ref": second, "service": "serving"}
    assert registry.resolve("ranker") == second
    row = listed()[second]
    assert (row["outcome"], row["service"], row["against"]) == ("passed", "serving", first)
    assert row["checks"][0]["candidate"] == 1.0 > row["checks"][0]["serving"]
    assert json.loads(run("rollback", "ranker", "--json").stdout)["ref"] == first


def test_candidates_of_a_name_name_it(registry: Registry, refs: tuple[str, str]) -> None:
    """An unknown name was answered with "no bundle is or was a candidate", which one was."""
    error = run("candidates", "rankr").exception
    assert isinstance(error, NotFound)
    assert refs[0] in str(error)
    assert isinstance(run("candidates", refs[1]).exception, InvalidInput)
    assert run("remove", refs[1]).exit_code == 0
    done = run("candidates", "ranker")
    assert done.exit_code == 0
    assert f"No bundle of ranker in {registry.url} is or was a candidate." in done.stdout


def test_what_serves_already_is_said_to_and_its_record_stays(
    tmp_path: Path, refs: tuple[str, str]
) -> None:
    """It was said to stay a candidate, compared with another than what serves: itself."""
    data = ("--dataset", tmp_path / "data")
    assert run("promote", refs[1], *data).exit_code == 0
    before = listed()[refs[1]]
    for more in ((), data, ("--force", "--reason", "so")):
        done = run("promote", refs[1], *more)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{refs[1]} is in service already\n"
        assert listed()[refs[1]] == before
    # Sidecars may have refused it for its speed.
    done = run("promote", refs[1], "--max-slowdown", "20")
    assert "already, now up to 20 times slower than what it takes the place of" in done.stdout
    assert json.loads(run("rollback", "ranker", "--json").stdout)["ref"] == refs[0]
    assert "already" not in run("promote", refs[1]).stdout


def test_on_how_little_it_passed_and_what_was_not_looked_at_is_said(
    tmp_path: Path, refs: tuple[str, str]
) -> None:
    """It said that it is better, of four queries, and nothing of the segments."""
    done = run("promote", refs[1], "--dataset", tmp_path / "other")
    assert done.exit_code == 3
    assert "Not looked at, with fewer than 10 each: " in done.stderr
    done = run("promote", refs[1], "--dataset", tmp_path / "data")
    assert done.exit_code == 0, done.output
    row = listed()[refs[1]]
    by_name = {check["name"]: check for check in row["checks"]}
    judged = by_name["nDCG@10 on held-back judgments"]
    assert judged["on"] == "5 queries"
    assert row["reason"] == f"It is better: passed on 5 queries, p {judged['p']:.2g}."
    words = by_name["segments too small to be looked at"]["words"]
    assert "nDCG@10 of language zh (1)" in words
    assert done.stdout.splitlines()[1:] == [row["reason"], words]
    # Nothing of that where all of them were.
    found = checks(ranker(tmp_path, ""), ranker(tmp_path, "phone-2"), SMALL)
    assert "segments too small to be looked at" not in {check.name for check in found}


def test_a_gain_on_too_few_queries_is_none(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    """It was promoted on a single query, of which many a worse candidate is better by chance."""
    data = ("--dataset", tmp_path / "data")
    done = run("promote", refs[1], *data, "--min-queries", "6")
    assert done.exit_code == 3
    assert "(judgments, 5 queries): " in done.stderr
    assert "asked for is a gain of more than nothing, on 6 or more." in done.stderr
    assert registry.resolve("ranker") == refs[0]
    # Five are asked for where nothing is said.
    shop = Dataset.open(tmp_path / "data")
    four = replace(
        shop,
        queries=shop.queries.filter(pc.not_equal(shop.queries["query_id"], "e5")),
        examples=shop.examples.filter(pc.not_equal(shop.examples["query_id"], "e5")),
    )
    four.write(tmp_path / "four")
    assert run("promote", refs[1], "--dataset", tmp_path / "four").exit_code == 3
    assert "on 5 or more" in listed()[refs[1]]["reason"]
    few = ("--dataset", tmp_path / "four", "--min-queries", "4")
    assert run("promote", refs[1], *few).exit_code == 0


def test_a_candidate_that_is_worse_stays_one_with_the_reason(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, second = refs
    done = run("promote", second, "--dataset", tmp_path / "other", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["outcome"] == "refused"
    assert "stays a candidate" in done.stderr
    # That it be compared is no advice to who has just done so.
    assert "Train it on more, compare it with more, or put it into service" in done.stderr
    assert registry.resolve("ranker") == first
    row = listed()[second]
    assert row["outcome"] == "refused"
    assert "nDCG@10 on held-back judgments" in row["reason"]
    assert "refused" in run("candidates", "ranker").stdout
    # Nor does it get in by another door.
    assert run("promote", second).exit_code == 3
    assert isinstance(run("promote", "ranker").exception, InvalidInput)
    assert registry.resolve("ranker") == first


def test_judgments_say_what_is_relevant_and_logged_pages_what_is_clicked(
    tmp_path: Path, refs: tuple[str, str]
) -> None:
    """One dataset has judgments or logs; the gate asks both at once."""
    dataset(examples=[]).write(tmp_path / "logs")
    _, second = refs
    assert run("promote", second, "--dataset", tmp_path / "logs").exit_code == 3
    assert "no labelled pair" in listed()[second]["reason"]
    options = ("--dataset", tmp_path / "logs", "--judgments", tmp_path / "data", "--margin", "1")
    done = run("promote", second, *options)
    assert done.exit_code == 0, done.output
    row = listed()[second]
    by_name = {check["name"]: check for check in row["checks"]}
    assert by_name["nDCG@10 on held-back judgments"]["candidate"] == 1.0
    assert "3 pages" in by_name["clicks a page (DR estimate)"]["words"]
    assert row["dataset"] == f"{tmp_path / 'logs'}, {tmp_path / 'data'}"


def test_judgments_without_a_labelled_pair_or_a_dataset_are_refused(
    tmp_path: Path, refs: tuple[str, str]
) -> None:
    dataset(examples=[]).write(tmp_path / "empty")
    options = ("--dataset", tmp_path / "data", "--judgments", tmp_path / "empty")
    error = run("promote", refs[1], *options).exception
    assert isinstance(error, InvalidInput)
    assert "test part has no labelled pairs" in str(error)
    error = run("promote", refs[1], "--judgments", tmp_path / "data").exception
    assert isinstance(error, InvalidInput)


@pytest.mark.parametrize(
    ("by_hash", "flags", "words"),
    [
        # It promoted without comparing.
        (False, ["--dataset", "data"], "name it by its hash"),
        (False, ["--force", "--reason", "so"], "name it by its hash"),
        # It promoted without comparing, or compared without …
        (True, ["--dataset", "data", "--force", "--reason", "so"], "--dataset, --force: give one"),
        (True, ["--dataset", "data", "--canary", "5"], "--canary, --dataset: give one"),
        (True, ["--canary", "5", "--shadow", "5"], "--canary, --shadow: give one"),
        (True, ["--canary", "5", "--max-slowdown", "2"], "--max-slowdown"),
        # They did nothing.
        (True, ["--min-gain", "0.01", "--max-p", "0.05"], "--min-gain, --max-p: without --dataset"),
        (False, ["--min-gain", "0"], "--min-gain: without --dataset"),
        (True, ["--min-queries", "1"], "--min-queries: without --dataset"),
        (True, ["--min-size", "3", "--margin", "0"], "--margin, --min-size: without --dataset"),
    ],
)
def test_flags_that_can_not_be_meant_together_are_refused_and_nothing_serves(
    tmp_path: Path,
    registry: Registry,
    refs: tuple[str, str],
    by_hash: bool,
    flags: list[str],
    words: str,
) -> None:
    first, second = refs
    # A person's bundle: it needs no proof, so that nothing else would refuse it.
    third = registry.publish(seeded(tmp_path / "3", 3)).ref
    registry.promote(first)
    flags = [str(tmp_path / flag) if flag == "data" else flag for flag in flags]
    error = run("promote", third if by_hash else "ranker", *flags).exception
    # Exit code 3: 2 is for a flag that does not exist.
    assert isinstance(error, InvalidInput)
    assert words in str(error)
    assert registry.resolve("ranker") == first
    assert listed()[second]["outcome"] == "waiting"


def test_a_comparison_may_say_how_slow_it_may_be(tmp_path: Path, refs: tuple[str, str]) -> None:
    options = ("--dataset", tmp_path / "data", "--max-slowdown", "3", "--min-size", "10")
    assert run("promote", refs[1], *options).exit_code == 0


def test_a_person_may_force_it_with_a_reason(registry: Registry, refs: tuple[str, str]) -> None:
    _, second = refs
    assert run("promote", second).exit_code == 3  # it was not compared
    for half in (("--force",), ("--reason", "so"), ("--force", "--reason", " ")):
        error = run("promote", second, *half).exception
        assert isinstance(error, InvalidInput)  # exit code 3: 2 is for a flag that does not exist
        assert "--force needs --reason" in str(error)
    done = run("promote", second, "--force", "--reason", "the judgments are of last year")
    assert done.exit_code == 0, done.output
    assert registry.resolve("ranker") == second
    row = listed()[second]
    assert (row["outcome"], row["reason"]) == ("forced", "the judgments are of last year")


def test_what_was_compared_with_another_is_compared_anew(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, second = refs
    data = held_back(Dataset.open(tmp_path / "data"))
    found = measured(registry, second, data, "data", SMALL, untracked)
    assert found.outcome == "passed"
    third = registry.publish(seeded(tmp_path / "3", 3)).ref
    registry.promote(third)
    with pytest.raises(InvalidInput, match=rf"compared with {first}, and {third} serves by now"):
        promoted(registry, second, found)
    assert registry.resolve("ranker") == third
    registry.promote(first)
    assert run("promote", second).exit_code == 0  # what was found still holds


def test_following_the_newest_is_no_way_round_the_gate(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, second = refs
    error = run("promote", "ranker").exception
    assert isinstance(error, InvalidInput)
    assert f"can't follow its newest bundle. {second} stays a candidate" in str(error)
    data = held_back(Dataset.open(tmp_path / "data"))
    assert measured(registry, second, data, "data", SMALL, untracked).outcome == "passed"
    other = registry.publish(seeded(tmp_path / "3", 3, name="another")).ref
    registry.record(second, registry.candidates()[second].model_copy(update={"against": other}))
    error = run("promote", "ranker").exception
    assert isinstance(error, InvalidInput)
    assert f"compared with {other}, and {first} serves by now" in str(error)
    assert registry.resolve("ranker") == first
    registry.promote(second)
    assert run("promote", "ranker").exit_code == 0  # it serves already


def test_who_rolls_back_gets_no_candidate_that_was_refused(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, second = refs
    assert run("promote", second, "--dataset", tmp_path / "other").exit_code == 3
    third = registry.publish(seeded(tmp_path / "3", 3)).ref
    assert run("promote", "ranker").exit_code == 0
    assert registry.resolve("ranker") == third
    assert json.loads(run("rollback", "ranker", "--json").stdout)["ref"] == first


def test_what_is_forgotten_of_earlier_times_counts(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    """Better on the new test part and worse on the old one."""
    data, old = (held_back(Dataset.open(tmp_path / name)) for name in ("data", "other"))
    found = measured(registry, refs[1], data, "data", SMALL, untracked, old)
    assert found.outcome == "refused"
    (check,) = [check for check in found.checks if not check.passed]
    assert check.name == "nDCG@10 on old test parts"
    assert check.serving == 1.0 > check.candidate  # type: ignore[operator]
    assert measured(registry, refs[1], data, "data", SMALL, untracked, data).outcome == "passed"


def test_a_candidate_that_does_not_load_stays_one(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, second = refs
    registry.get(second).model.write_bytes(b"half")
    data = held_back(Dataset.open(tmp_path / "data"))
    found = measured(registry, second, data, "data", SMALL, untracked)
    assert found.outcome == "refused"
    assert "damaged" in found.reason
    assert registry.candidate(second) == found
    third = registry.publish(seeded(tmp_path / "3", 3)).ref
    registry.get(first).model.write_bytes(b"half")
    with pytest.raises(InvalidBundle, match="damaged"):  # the one in service
        measured(registry, third, data, "data", SMALL, untracked)


def test_a_new_name_is_compared_with_what_answers_today(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    first, _ = refs
    new = registry.publish(seeded(tmp_path / "2b", 2, name="a-shop"), candidate=True).ref
    assert listed()[new]["outcome"] == "waiting"
    assert run("promote", new).exit_code == 3  # it was not compared
    assert run("promote", new, "--dataset", tmp_path / "other").exit_code == 3
    assert listed()[new]["outcome"] == "refused"
    done = run("promote", new, "--dataset", tmp_path / "data", "--json")
    assert done.exit_code == 0, done.output
    row = listed()[new]
    assert (row["outcome"], row["service"], row["against"]) == ("passed", "serving", first)
    assert (registry.resolve("a-shop"), registry.resolve("ranker")) == (new, first)
    assert "another name answers" in run("rollback", "a-shop").stdout
    assert not registry.serves(new)


def test_a_new_name_may_be_forced_by_a_person(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    new = registry.publish(seeded(tmp_path / "2b", 2, name="a-shop"), candidate=True).ref
    done = run("promote", new, "--force", "--reason", "another shop")
    assert done.exit_code == 0, done.output
    assert registry.resolve("a-shop") == new
    assert registry.resolve("ranker") == refs[0]


def test_a_candidate_may_be_forced_where_nothing_says_what_serves(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    (tmp_path / "registry/ranker/serving.json").write_text("{")
    done = run("promote", refs[1], "--force", "--reason", "serving.json was damaged")
    assert done.exit_code == 0, done.output
    assert registry.resolve("ranker") == refs[1]


@pytest.mark.usefixtures("refs")
def test_without_anything_in_service_there_is_nothing_to_compare_with(
    tmp_path: Path, registry: Registry
) -> None:
    new = registry.publish(seeded(tmp_path / "2b", 2, name="a-shop"), candidate=True).ref
    shutil.rmtree(tmp_path / "registry/ranker")
    error = run("promote", new, "--dataset", tmp_path / "data").exception
    assert isinstance(error, NotFound)
    assert "--force" in str(error)


def test_what_serves_is_not_compared_with_itself(
    tmp_path: Path, registry: Registry, refs: tuple[str, str]
) -> None:
    data = held_back(Dataset.open(tmp_path / "data"))
    with pytest.raises(InvalidInput, match="in service already"):
        measured(registry, refs[0], data, "data", SMALL, untracked)


def test_one_class_only_compares_nothing(tmp_path: Path, refs: tuple[str, str]) -> None:
    rows = dataset().examples.to_pylist()
    dataset(examples=[row | {"label": 0.0} for row in rows], impressions=[]).write(
        tmp_path / "same"
    )
    done = run("promote", refs[1], "--dataset", tmp_path / "same")
    assert isinstance(done.exception, InvalidInput)
    assert "one class only" in str(done.exception)
    assert listed()[refs[1]]["outcome"] == "waiting"


def test_a_removed_candidate_leaves_no_record(registry: Registry, refs: tuple[str, str]) -> None:
    assert run("remove", refs[1]).exit_code == 0
    assert listed() == {}
    assert registry.refs() == [refs[0]]


def test_a_record_comes_back_as_it_was_and_a_damaged_one_says_where(
    registry: Registry, refs: tuple[str, str]
) -> None:
    check = Check(name="nDCG@10", passed=True, words="better", candidate=0.5, serving=0.4)
    candidate = Candidate(outcome="passed", against=refs[0], checks=(check,))
    registry.record(refs[1], candidate)
    assert Registry(registry.url).candidate(refs[1]) == candidate
    with pytest.raises(InvalidInput, match=r"x\.candidate\.json: outcome: got 'maybe'"):
        parse_candidate(b'{"outcome": "maybe"}', "x.candidate.json")
