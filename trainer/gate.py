"""What a candidate must show before it serves: better on judgments, not worse for anybody.

Judgments say what is relevant and nothing of what users do; clicks say what users do with what they
were shown. A model that gains on one may lose on the other, and a mean may hide a loss of a few. So
a candidate is compared with the bundle in service, on the test part of one dataset, in all three.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from neuralrank.bundles.candidates import Candidate, Check
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidBundle, InvalidInput, NotFound
from neuralrank.evaluation import Judged, compare
from trainer.evaluation.evaluation import CLICKS, Evaluation, HeldBack, evaluate
from trainer.evaluation.relevance import MAIN, METRICS
from trainer.evaluation.scoring import Track, load_scorer

__all__ = [
    "FORGOTTEN", "JUDGED", "TOO_SMALL", "Rules", "allowed", "checks", "forgotten", "gained", "kept",
    "loss", "measured", "opponent", "promoted", "require_passed", "too_small",
]  # fmt: skip

# The check of held-back judgments, and that of what earlier test parts held.
JUDGED: Final = f"{MAIN} on held-back judgments"
FORGOTTEN: Final = f"{MAIN} on old test parts"
# Says which segments were not looked at; it can't fail.
TOO_SMALL: Final = "segments too small to be looked at"
_LOADS: Final = "loads and computes what it was published with"
# Numbers that differ by less are the same: means of the same values in another order do.
_SAME: Final = 1e-9


@dataclass(frozen=True)
class Rules:
    """What is asked for.

    Raises:
        InvalidInput: a number is outside its range.
    """

    # nDCG@10 on held-back judgments must be more than this above that of the one in service.
    min_gain: float = 0.0
    # … and the paired randomisation test must give at most this p. 1: any. With few judged queries
    # only large differences reach 0.05.
    max_p: float = 1.0
    # … and there must be so many queries (of a personal ranker: lists). The mean of fewer rises or
    # falls by chance, whatever the candidate is.
    min_queries: int = 5
    # The share of the value in service that may be lost, of the estimated clicks a page and of each
    # segment.
    margin: float = 0.02
    # Segments with fewer queries (or pages) are named and not looked at: chance alone moves them by
    # more.
    min_size: int = 10

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("min-gain", self.min_gain, 0.0, 1.0),
            ("max-p", self.max_p, 0.0, 1.0),
            ("min-queries", self.min_queries, 1, 10**9),
            ("margin", self.margin, 0.0, 1.0),
            ("min-size", self.min_size, 1, 10**9),
        ):
            if not low <= value <= high:
                raise InvalidInput(f"--{name} got {value}; allowed is {low:g} to {high:g}.")


def promoted(
    registry: Registry, ref: str, candidate: Candidate, max_slowdown: float | None = None
) -> str:
    """Puts a candidate into service that has passed against what serves now.

    Raises:
        InvalidInput: as `require_passed`.
    """
    require_passed(registry, ref, candidate)
    return registry.promote(ref, max_slowdown=max_slowdown)


def require_passed(registry: Registry, ref: str, candidate: Candidate) -> None:
    """
    Raises:
        InvalidInput: a candidate has not passed, or something else serves by now.
    """
    if candidate.outcome not in ("passed", "forced"):
        compare = (
            "Train it on more, compare it with more"
            if candidate.outcome == "refused"
            else "Compare it with `--dataset DATASET`"
        )
        raise InvalidInput(
            f"{ref} stays a candidate. {candidate.reason} {compare}, or put it into service all "
            "the same with `--force --reason WHY`."
        )
    if candidate.outcome == "passed":
        serving = registry.answering(registry.manifest(ref))
        if candidate.against not in (serving, ""):
            raise InvalidInput(
                f"{ref} stays a candidate. It was compared with {candidate.against}, and "
                f"{serving or 'nothing'} serves by now. Compare it anew with `--dataset DATASET`."
            )


def measured(
    registry: Registry,
    ref: str,
    material: HeldBack,
    dataset: str,
    rules: Rules,
    track: Track,
    old: HeldBack | None = None,
) -> Candidate:
    """Compares a bundle with the one that serves in its place, and records what was found.

    Args:
        dataset: where the material comes from, for the record.
        old: kept back of earlier times; what is forgotten of it counts as a segment does.

    Raises:
        NotFound: there is no such bundle, or nothing to compare it with.
        InvalidInput: it serves itself.
        InvalidBundle: the one in service can't be loaded.
    """
    serving = opponent(registry, ref)
    before = load_scorer(registry.get(serving))
    theirs = evaluate(before, material, track, robust=False)
    try:
        after = load_scorer(registry.get(ref))
        mine = evaluate(after, material, track, robust=False)
        found = tuple(checks(mine, theirs, rules))
        if old is not None:
            mine = evaluate(after, old, track, robust=False)
            theirs = evaluate(before, old, track, robust=False)
            found += tuple(_old_queries(mine, theirs, rules))
    except InvalidBundle as error:
        found = (Check(name=_LOADS, passed=False, words=str(error)),)
    result = Candidate().compared_with(serving, found, dataset, datetime.now(UTC))
    registry.record(ref, result)
    return result


def opponent(registry: Registry, ref: str) -> str:
    """What a bundle is compared with, `name@hash`: the one in service under its name, else the one
    that answers where it would.

    Raises:
        NotFound: there is no such bundle, or nothing serves in its place.
        InvalidInput: it serves itself.
    """
    serving = registry.answering(registry.manifest(ref))
    if serving is None:
        raise NotFound(
            f"Nothing serves in the place of {ref}, so that there is nothing to compare it with. "
            "Put it into service without: `neuralrank models promote NAME@HASH --force --reason "
            "WHY`."
        )
    if serving == ref:
        raise InvalidInput(f"{ref} is in service already; there is nothing to compare it with.")
    return serving


def _old_queries(candidate: Evaluation, serving: Evaluation, rules: Rules) -> Iterator[Check]:
    mine, theirs = candidate.judgments, serving.judgments
    if mine is None or theirs is None:
        return
    value, before = mine.order.mean(METRICS[MAIN]), theirs.order.mean(METRICS[MAIN])
    yield forgotten(len(mine.order.queries), "queries", value, before, rules)


def checks(candidate: Evaluation, serving: Evaluation, rules: Rules) -> Iterator[Check]:
    """All that is compared, passed or not."""
    yield _judgments(candidate, serving, rules)
    yield _clicks(candidate, serving, rules)
    others, small = serving.segments, []
    for key, segment in candidate.segments.items():
        if segment.size < rules.min_size:
            small.append(segment)
        if segment.size < rules.min_size or key not in others:
            continue
        name = f"{segment.metric} of {segment.dimension} {segment.name}"
        yield kept(name, "", segment.value, others[key].value, rules)
    if small:
        small.sort(key=lambda segment: -segment.size)
        named = [f"{one.metric} of {one.dimension} {one.name} ({one.size:,})" for one in small]
        yield too_small(named, rules)


def _judgments(candidate: Evaluation, serving: Evaluation, rules: Rules) -> Check:
    if candidate.judgments is None or serving.judgments is None:
        words = (
            "The test part has no labelled pair, so that nothing shows that the candidate is "
            "better: add judgments, or clicks of a longer time, to the dataset."
        )
        return Check(name=JUDGED, passed=False, words=words)
    mine, theirs = candidate.judgments.order, serving.judgments.order
    left = candidate.judgments.trained
    of = f" ({candidate.judgments.source}s, {len(mine.queries):,} queries"
    of += f"; {left:,} more are trained on and left out)" if left else ")"
    check = gained(JUDGED, of, mine, theirs, METRICS[MAIN], rules)
    return check.model_copy(update={"on": f"{len(mine.queries):,} queries"})


def gained(name: str, of: str, mine: Judged, theirs: Judged, metric: str, rules: Rules) -> Check:
    """Whether the candidate is better by as much as is asked for.

    Args:
        of: what it was measured on, behind the name in words.
    """
    found = compare(mine, theirs, metric)
    asked = f"more than {rules.min_gain:+.4f}" if rules.min_gain else "more than nothing"
    if rules.max_p < 1:
        asked += f" with p of at most {rules.max_p:g}"
    enough = len(mine.queries) >= rules.min_queries
    if not enough:
        asked += f", on {rules.min_queries:,} or more"
    value, before = mine.mean(metric), theirs.mean(metric)
    return Check(
        name=name,
        passed=enough and found.difference > rules.min_gain + _SAME and found.p <= rules.max_p,
        words=f"{name}{of}: {value:.4f} against {before:.4f}, {found.difference:+.4f} "
        f"(p {found.p:.3f}); asked for is a gain of {asked}.",
        candidate=value,
        serving=before,
        on=of.strip(" ()"),
        p=found.p,
    )


def kept(name: str, of: str, value: float, before: float, rules: Rules) -> Check:
    """Whether no more is lost than may be. Arguments as `gained`."""
    return Check(
        name=name,
        passed=loss(value, before) <= rules.margin + _SAME,
        words=f"{name}{of}: {value:.4f} against {before:.4f}; {allowed(rules)}",
        candidate=value,
        serving=before,
    )


def forgotten(size: int, what: str, value: float, before: float, rules: Rules) -> Check:
    """What was lost on old test parts; of few, anything may be.

    Args:
        size: how many it was measured on, and `what` they are.
    """
    check = kept(FORGOTTEN, f" ({size:,} {what})", value, before, rules)
    if size >= rules.min_size:
        return check
    words = f"{check.words} Of fewer than {rules.min_size:,} anything may be."
    return check.model_copy(update={"passed": True, "words": words})


def too_small(named: Sequence[str], rules: Rules) -> Check:
    """Says which segments (of a personal ranker: heads) were not looked at."""
    words = f"Not looked at, with fewer than {rules.min_size:,} each: {', '.join(named)}."
    return Check(name=TOO_SMALL, passed=True, words=words)


def _clicks(candidate: Evaluation, serving: Evaluation, rules: Rules) -> Check:
    name = f"clicks a page ({CLICKS} estimate)"
    if candidate.clicks is None or serving.clicks is None:
        words = "The test part has no logged page: clicks were not compared."
        return Check(name=name, passed=True, words=words)
    mine, theirs = candidate.clicks.estimates[CLICKS], serving.clicks.estimates[CLICKS]
    low, high = mine.minus(theirs).interval()
    lost = loss(mine.value, theirs.value)
    words = (
        f"{name}, {candidate.clicks.pages:,} pages: {mine.value:.4f} against {theirs.value:.4f}, "
        f"difference in [{low:+.4f}, {high:+.4f}]; {allowed(rules)} Not all of the interval may "
        "be below 0."
    )
    return Check(
        name=name,
        passed=lost <= rules.margin + _SAME and high >= 0,
        words=words,
        candidate=mine.value,
        serving=theirs.value,
    )


def loss(value: float, before: float) -> float:
    """The share of `before` that is lost; below 0 for a gain."""
    if value >= before:
        return 0.0
    return (before - value) / abs(before) if before else 1.0


def allowed(rules: Rules) -> str:
    """How much may be lost, in words."""
    return f"{rules.margin:.1%} may be lost."
