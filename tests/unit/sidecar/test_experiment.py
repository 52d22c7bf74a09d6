"""Experiments: who gets which way of ranking, and pages that two of them make together."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuralrank.errors import InvalidInput, NotFound
from neuralrank.experiments import query_attributes
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Arm, Experiment, Fusion, Mode, Ranking, Weights
from sidecar.ranking.experiment import coin, draft, join
from sidecar.rpc.reply import write_ranking
from sidecar.rpc.wire import read_rank
from tests.unit.sidecar.parts import WEIGHTS, Bench, WordTaste, ids, request

BY_WORDS = pb.Arm(weights=pb.Weights(relevance=1, affinity=0, retrieval=0))
AS_FOUND = pb.Arm(weights=pb.Weights(relevance=0, affinity=0, retrieval=1))
RANKING = st.permutations(list(range(12))).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda length: order[:length])
)


def experiment(name: str = "weights", a: pb.Arm = AS_FOUND, b: pb.Arm = BY_WORDS,
               **fields: object) -> pb.Experiment:  # fmt: skip
    return pb.Experiment(name=name, arms={"A": a, "B": b}, **fields)  # type: ignore[arg-type]


def asked(user: str = "u", given: pb.Experiment | None = None, **options: object) -> pb.RankRequest:
    made = pb.RankOptions(experiment=given or experiment(), **options)  # type: ignore[arg-type]
    return request(query="computer", user=user, options=made)


def interleaved(**fields: object) -> pb.Experiment:
    return experiment(mode=pb.EXPERIMENT_MODE_INTERLEAVE, **fields)


def teams(ranking: Ranking) -> str:
    return "".join(hit.team for hit in ranking.results)


# --- who takes part


def joined(user: str, share: float = 1.0, name: str = "weights", mode: Mode = Mode.AB) -> str:
    arm = Arm("", Weights(1, 1, 1), Fusion.WEIGHTS)
    given = Experiment(name, mode, {"A": arm, "B": arm}, share)
    made = join(given, user)
    return "" if made.left_out else made.arm or "both"


USERS = [f"user-{number}" for number in range(4_000)]


@pytest.mark.parametrize("share", [1.0, 0.2, 0.013])
def test_the_share_takes_part_half_of_it_in_each_arm(share: float) -> None:
    arms = [joined(user, share) for user in USERS]
    part = sum(arm != "" for arm in arms)
    assert stats.binomtest(part, len(USERS), share).pvalue > 1e-4
    assert stats.binomtest(arms.count("A"), part, 0.5).pvalue > 1e-4
    assert set(arms) <= {"A", "B", ""}


def test_a_user_keeps_the_arm_as_the_share_grows() -> None:
    few, more = ([joined(user, share) for user in USERS] for share in (0.1, 0.6))
    assert all(late == early for early, late in zip(few, more, strict=True) if early)


def test_another_experiment_deals_the_users_anew() -> None:
    arms = [(joined(user), joined(user, name="other")) for user in USERS]
    table = [[arms.count((a, b)) for b in "AB"] for a in "AB"]
    assert stats.chi2_contingency(table).pvalue > 1e-4


# --- drafting


@given(a=RANKING, b=RANKING, seed=st.integers())
def test_a_draft_holds_everything_once_and_each_teams_picks_in_its_order(
    a: list[int], b: list[int], seed: int
) -> None:
    page = draft(a, b, Random(seed))
    items = [item for item, _ in page]
    assert sorted(items) == sorted({*a, *b})
    for ranking, team in ((a, "A"), (b, "B")):
        picks = [item for item, by in page if by == team]
        assert picks == sorted(picks, key=ranking.index)
    assert page == draft(a, b, Random(seed))


@given(a=st.permutations(list(range(12))), order=st.randoms(use_true_random=False),
       seed=st.integers())  # fmt: skip
def test_teams_are_balanced_on_every_page(a: list[int], order: Random, seed: int) -> None:
    b = a[:]
    order.shuffle(b)
    page = draft(a, b, Random(seed))
    for end in range(len(page) + 1):
        by = [team for _, team in page[:end]]
        assert abs(by.count("A") - by.count("B")) <= 1
    # What a team takes is the best that is left of its ranking.
    for place, (item, team) in enumerate(page):
        taken = {other for other, _ in page[:place]}
        assert item == next(one for one in (a if team == "A" else b) if one not in taken)


def test_neither_team_is_first_more_often() -> None:
    first = [draft([1, 2], [2, 1], Random(seed))[0][1] for seed in range(2_000)]
    assert stats.binomtest(first.count("A"), len(first)).pvalue > 1e-4


def test_the_coin_falls_anew_for_each_experiment_user_and_query_and_alike_for_the_same() -> None:
    arm = Arm("", Weights(1, 1, 1), Fusion.WEIGHTS)
    experiments = [Experiment(name, Mode.INTERLEAVE, {"A": arm, "B": arm}, 1.0) for name in "xy"]

    def falls() -> list[float]:
        return [
            coin(experiment, user, query).random()
            for experiment in (None, *experiments)
            for user in ("u", "v")
            for query in ("phone", "computer")
        ]

    assert len(set(falls())) == 12
    assert falls() == falls()


# --- through Rank


async def test_each_user_gets_one_arm_and_is_told_which(bench: Bench) -> None:
    expected = {
        name: ids(await bench.rank(request(query="computer", user="u", options=pb.RankOptions(
            weights=arm.weights))))
        for name, arm in (("A", AS_FOUND), ("B", BY_WORDS))
    }  # fmt: skip
    assert expected["A"] != expected["B"]
    seen = set()
    for number in range(20):
        ranking = await bench.rank(asked(f"u{number}"))
        assert ranking.experiment is not None
        arm = ranking.experiment.arm
        assert ids(ranking) == expected[arm]
        assert teams(ranking) == ""
        seen.add(arm)
    assert seen == {"A", "B"}


async def test_who_has_no_id_is_ranked_as_without_the_experiment(bench: Bench) -> None:
    made = asked("")
    ranking = await bench.rank(made)
    made.options.ClearField("experiment")
    assert ids(ranking) == ids(await bench.rank(made))
    assert ranking.experiment is not None
    assert ranking.experiment.left_out == "the request has no user id"
    response = write_ranking(ranking, explain=False, request_id="", text_characters=0)
    assert (response.experiment.name, response.experiment.arm) == ("weights", "")
    assert query_attributes(response) == {}


async def test_who_is_beyond_the_share_takes_no_part(bench: Bench) -> None:
    ranking = await bench.rank(asked(given=experiment(share=1e-9)))
    assert ranking.experiment is not None
    assert "share of 1e-09" in ranking.experiment.left_out


async def test_an_interleaved_page_is_both_arms_and_says_whose_each_result_is(
    bench: Bench,
) -> None:
    made = asked(given=interleaved(), explain=True)
    ranking = await bench.rank(made)
    assert sorted(ids(ranking)) == list("ABCD")
    assert sorted(teams(ranking)) == list("AABB")
    scores = [hit.score for hit in ranking.results]
    assert scores == sorted(scores, reverse=True)
    for hit in ranking.results:
        assert hit.explanation is not None
        arm = AS_FOUND if hit.team == "A" else BY_WORDS
        assert hit.explanation.weights.relevance == pytest.approx(arm.weights.relevance)
    # The same again, and the first page is the beginning of the whole.
    made.options.top_k = 2
    assert ids(await bench.rank(made)) == ids(ranking)[:2]
    response = write_ranking(ranking, explain=True, request_id="", text_characters=0)
    assert query_attributes(response) == {"experiment": "weights", "teams": teams(ranking)}
    second = [hit.id for hit in ranking.results[2:]]
    assert query_attributes(response, second)["teams"] == teams(ranking)[2:]
    # As the plugin writes it: what the page has beside the results is nobody's.
    with_ad = ["sponsored", *second]
    assert query_attributes(response, with_ad)["teams"] == f"-{teams(ranking)[2:]}"


async def test_an_interleaved_page_drops_only_what_both_arms_find_too_low(bench: Bench) -> None:
    ranking = await bench.rank(asked(given=interleaved(), min_score=0.6))
    one = {
        name: await bench.rank(request(query="computer", user="u", options=pb.RankOptions(
            weights=arm.weights, min_score=0.6)))
        for name, arm in (("A", AS_FOUND), ("B", BY_WORDS))
    }  # fmt: skip
    assert set(ids(ranking)) == {*ids(one["A"]), *ids(one["B"])}
    assert {drop.id for drop in ranking.dropped} == set("ABCD") - set(ids(ranking))


async def test_both_arms_bundles_must_be_there_for_whoever_asks(bench: Bench) -> None:
    with pytest.raises(NotFound, match="No cross_encoder 'gone' is served"):
        await bench.rank(asked("", experiment(b=pb.Arm(bundle="gone"))))


async def test_arms_may_differ_in_the_bundle(bench: Bench) -> None:
    given = experiment(a=pb.Arm(bundle="none"), b=pb.Arm(bundle="judge"))
    for number in range(20):
        ranking = await bench.rank(asked(f"u{number}", given))
        assert ranking.experiment is not None
        read = "judge@000000000002" in ranking.bundles
        assert read == (ranking.experiment.arm == "B")


async def test_what_only_one_arm_needs_is_there_for_it() -> None:
    # Only the personal ranker of arm B reads the query.
    made = Bench(taste=WordTaste())
    given = interleaved(b=pb.Arm(weights=pb.Weights(relevance=0, affinity=1, retrieval=0)))
    await made.rank(asked(given=given))
    await made.close()
    assert made.encoder.calls == [["computer"]]


# --- what is refused


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (experiment(name=""), "name is ''; allowed are 1 to 64 letters"),
        (experiment(name="a b"), "name is 'a b'"),
        (experiment(mode=9), "mode is 9; allowed are EXPERIMENT_MODE_UNSPECIFIED, "),
        (experiment(share=0), "share is 0.0; allowed is above 0, up to 1"),
        (experiment(share=1.5), "share is 1.5"),
        (experiment(share=float("nan")), "share is nan"),
        (pb.Experiment(name="x"), "arms are none; needed are 'A'"),
        (pb.Experiment(name="x", arms={"A": BY_WORDS}), "arms are 'A'; needed are 'A'"),
        (pb.Experiment(name="x", arms={"A": BY_WORDS, "C": AS_FOUND}), "arms are 'A', 'C'"),
        (experiment(a=BY_WORDS), "arms are the same: bundle '', weights 1, 0, 0"),
        # The same once what they leave out is filled in.
        (experiment(a=pb.Arm(), b=pb.Arm(weights=pb.Weights(relevance=1.0))), "are the same"),
        (
            experiment(a=pb.Arm(weights=pb.Weights(affinity=-1))),
            r"arms\['A'\].weights.affinity is -1",
        ),
        (
            experiment(b=pb.Arm(weights=pb.Weights(relevance=0, affinity=0, retrieval=0))),
            r"arms\['B'\].weights are all 0",
        ),
        (experiment(b=pb.Arm(fusion=7)), r"arms\['B'\].fusion is 7"),
        (experiment(b=pb.Arm(bundle="x" * 2_000)), r"arms\['B'\].bundle has 2000 characters"),
    ],
)
def test_what_is_no_experiment_is_refused(given: pb.Experiment, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_rank(asked(given=given), WEIGHTS)
