"""How every training ends: what is published, printed and said of it."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from neuralrank.bundles.registry import Registry
from neuralrank.cli.train.outcome import Made, show_outcome
from tests.unit.conftest import tiny_bundle
from trainer.loop import Outcome, TrainingOptions
from trainer.loop.trials import Found, Trial

TRIED = (("a1", 0.123456, 0.5), ("b2", 0.02, 0.4), ("c3", 0.2, None))


def outcome(*, early: bool) -> Outcome:
    before, best = {"nDCG@10": 0.25}, {"nDCG@10": 0.5}
    return Outcome(Path("run"), 1_200, 900, before, best, early, 61.0, ())


def test_what_became_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry(str(tmp_path / "registry"))
    first, second = (
        tiny_bundle(tmp_path / name, "cross_encoder", parent=name) for name in ("one", "two")
    )
    kept = Made.of(first, registry, publish=False)
    assert (kept.role, kept.bundle, kept.json()["published"]) == ("made", first, False)
    assert registry.refs() == []
    assert Made.of(first, registry, publish=True).role == "in service"  # the first of all
    capsys.readouterr()
    made = Made.of(second, registry, publish=True)
    assert (made.role, made.json()) == ("candidate", {"ref": second.ref, "published": True})
    for each in (kept, made):
        each.next_step()
    assert capsys.readouterr().err.splitlines() == [
        f"Into service, if it is better: neuralrank models promote {second.ref} --dataset DATASET"
    ]


@pytest.mark.parametrize(("early", "searched"), [(False, True), (True, True), (False, False)])
def test_what_it_came_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], early: bool, searched: bool
) -> None:
    made = Made(tiny_bundle(tmp_path / "one", "cross_encoder"), "candidate")
    tried = [Trial(tmp_path / name, {"warmup": w}, v) for name, w, v in TRIED]
    options = TrainingOptions(tried[0].folder)
    found = Found(options, "nDCG@10", tried[0], tuple(tried)) if searched else None
    show_outcome(outcome(early=early), found, made, first=[("train", "7")], then=[("x", "y")])
    trials = [
        "trial warmup dev nDCG@10",
        "a1 0.123 0.5000 best",
        "b2 0.02 0.4000",
        "c3 0.2 diverged",
    ]
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(" ".join(row).split()) for row in rows] == [
        *(trials if searched else ()),
        "train 7",
        f"steps 1,200 (best: 900{', stopped early' if early else ''})",
        "dev nDCG@10 0.2500 → 0.5000",
        *(["warmup 0.123"] if searched else ()),
        "x y",
        "time 61.0 s",
        f"candidate {made.bundle.ref}",
    ]
