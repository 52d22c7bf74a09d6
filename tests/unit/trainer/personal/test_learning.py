"""`train_personal`: what users like is learned, kept over interruptions, and served as trained."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.bundles.bundle import Bundle, write_bundle  # noqa: E402
from neuralrank.errors import Diverged, InvalidBundle, InvalidInput, InvalidSettings  # noqa: E402
from neuralrank.evaluation import ndcg  # noqa: E402
from neuralrank.personal.inputs import ACTIONS, Event, steps  # noqa: E402
from neuralrank.personal.item_knn import ItemKnn  # noqa: E402
from neuralrank.personal.ranker import PersonalRanker  # noqa: E402
from tests.unit.conftest import tiny_bundle, tiny_ranker  # noqa: E402
from tests.unit.trainer.personal.shop import ITEMS, KINDS, behaviour  # noqa: E402
from trainer.loop import TrainingOptions  # noqa: E402
from trainer.personal.affinity import affinity_of  # noqa: E402
from trainer.personal.behaviour import Behaviour, History, Part, Visit  # noqa: E402
from trainer.personal.learning import (  # noqa: E402
    Personalised,
    PersonalOptions,
    train_personal,
)
from trainer.personal.lists import Lists  # noqa: E402
from trainer.personal.ranker import RankerModel  # noqa: E402
from trainer.personal.source import beginning, known_items, read_source  # noqa: E402
from trainer.personal.weighing import weighed  # noqa: E402

OPTIONS = PersonalOptions(events=6, list_size=12, width=16, id_events=4, dev_items=ITEMS)


def training(out: Path, **given: object) -> TrainingOptions:
    made = {"epochs": 8.0, "batch_size": 20, "learning_rate": 1e-2, "track": "none", **given}
    return TrainingOptions(out, **made)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data() -> Behaviour:
    return behaviour()


@pytest.fixture(scope="module")
def trained(data: Behaviour, tmp_path_factory: pytest.TempPathFactory) -> Personalised:
    done = train_personal(data, OPTIONS, training(tmp_path_factory.mktemp("run")))
    assert done.outcome.best["nDCG@10 search"] > 0.85
    assert done.outcome.best["nDCG@10 recommendation"] > 0.5
    before, best = done.outcome.before, done.outcome.best
    assert best["nDCG@10 recommendation"] > before["nDCG@10 recommendation"] + 0.15
    assert done.agreement is not None
    assert done.agreement.difference < 1e-4
    assert done.agreement.order == 1.0
    return done


@pytest.mark.parametrize("name", ["dev_items", "dev_lists"])
def test_a_run_goes_on_only_for_the_same_measurement(
    data: Behaviour, trained: Personalised, name: str
) -> None:
    with pytest.raises(InvalidInput, match=f"holds a run with {name} .* this one has 7"):
        train_personal(data, replace(OPTIONS, **{name: 7}), training(trained.outcome.out))


@pytest.fixture(scope="module")
def bundle(trained: Personalised) -> Bundle:
    assert trained.bundle is not None
    return trained.bundle


def score(
    model: PersonalRanker, data: Behaviour, liked: list[int], *, searched: bool = False,
    names: tuple[str, ...] | None = None,
) -> np.ndarray:  # fmt: skip
    """Of all items, for somebody who viewed some."""
    shop = data.shop
    ids = names or shop.ids
    return model.score(
        [Event(ids[item], "view") for item in liked], shop.vectors[liked], shop.columns[liked],
        ids, shop.vectors, shop.columns, data.queries[0] if searched else None,
        np.full(ITEMS, 0.5, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("kind", range(KINDS))
def test_what_is_served_prefers_the_kind_that_a_user_likes(
    bundle: Bundle, data: Behaviour, kind: int, searched: bool
) -> None:
    model = PersonalRanker.load(bundle)
    found = score(model, data, [kind, kind + KINDS], searched=searched)
    of_kind = np.arange(ITEMS) % KINDS == kind
    assert found[of_kind].mean() > found[~of_kind].mean() + 0.2
    fit = model.fit(found)
    assert fit.min() >= 0.0
    assert fit.max() <= 1.0
    assert fit[of_kind].mean() > 0.5 > fit[~of_kind].mean()


def test_new_users_and_new_items_need_no_id(bundle: Bundle, data: Behaviour) -> None:
    model = PersonalRanker.load(bundle)
    names = tuple(f"new {n}" for n in range(ITEMS))
    of_kind = np.arange(ITEMS) % KINDS == 1
    found = score(model, data, [1], names=names)  # one event is enough
    assert found[of_kind].min() > np.median(found[~of_kind])
    # Those that are known have something of their own.
    assert not np.allclose(found, score(model, data, [1]))


def test_a_user_without_events_gets_what_anybody_gets(bundle: Bundle, data: Behaviour) -> None:
    found = score(PersonalRanker.load(bundle), data, [], searched=True)
    assert np.isfinite(found).all()


def test_a_score_does_not_hang_on_the_other_candidates(bundle: Bundle, data: Behaviour) -> None:
    model, shop = PersonalRanker.load(bundle), data.shop
    whole = score(model, data, [2, 6])
    rows = [4, 9, 30]
    some = model.score(
        [Event(shop.ids[n], "view") for n in (2, 6)], shop.vectors[[2, 6]], shop.columns[[2, 6]],
        [shop.ids[n] for n in rows], shop.vectors[rows], shop.columns[rows], None,
        np.zeros(3, np.float32),
    )  # fmt: skip
    assert some == pytest.approx(whole[rows], abs=1e-5)


def test_without_pages_it_recommends_and_a_search_takes_that_head(
    data: Behaviour, tmp_path: Path
) -> None:
    # In the dev part there may be some all the same, in a window of a few days.
    only = replace(data, train=Part((), data.train.histories))
    assert only.dev.visits
    done = train_personal(only, replace(OPTIONS, id_events=0), training(tmp_path / "run", epochs=2))
    assert done.outcome.best.keys() == {"nDCG@10", "nDCG@10 recommendation"}
    assert done.bundle is not None
    assert done.bundle.manifest.personal is not None
    assert done.bundle.manifest.personal.heads == ("recommendation",)
    assert "items.json" not in done.bundle.manifest.files
    model = PersonalRanker.load(done.bundle)
    assert score(model, data, [0]) == pytest.approx(score(model, data, [0], searched=True))
    # Trained further where pages are clicked, searches begin with what they had until now.
    last = read_source(done.bundle).weights["score.5.weight"]
    assert last.shape == (2, OPTIONS.width // 2)
    assert (last[0] == last[1]).all()


def test_a_score_does_not_hang_on_who_shares_its_batch(
    data: Behaviour, trained: Personalised
) -> None:
    lists = Lists.of(data, OPTIONS.events, OPTIONS.list_size, known_items(data, OPTIONS.id_events))
    long = max(data.train.histories, key=len)
    others = np.arange(ITEMS)
    some = [lists.guess_of(long, place, others) for place in range(1, len(long))]
    with torch.no_grad():
        together = trained.model.eval()(lists.batch(some).inputs)
        for number, one in enumerate(some):
            alone = trained.model(lists.batch([one]).inputs)[0]
            torch.testing.assert_close(
                together[number, : len(one.items)], alone, rtol=1e-5, atol=1e-5
            )


def test_actions_that_nobody_has_done_are_read_as_the_others(
    data: Behaviour, trained: Personalised
) -> None:
    acts = data.acts()
    rows = trained.model.action.weight.detach().numpy()
    done = [name for name, count in zip(ACTIONS, acts, strict=True) if count]
    assert done == ["view", "click", "purchase"]
    for row in rows[acts == 0]:
        assert row == pytest.approx(acts @ rows / acts.sum(), abs=1e-5)


def test_what_was_recommended_and_not_clicked_teaches_the_second_head(
    data: Behaviour, tmp_path: Path
) -> None:
    """Whatever users did, they pass over one kind when it is recommended."""
    random = np.random.default_rng(1)
    passed_over, liked = 0, 1

    def recommended(history: History) -> Visit:
        two = np.array([kind + KINDS * random.integers(ITEMS // KINDS) for kind in (0, 1)])
        gains = np.where(two % KINDS == liked, 3.0, 0.0).astype(np.float32)
        return Visit(history, -1, two, gains, np.full(2, np.nan, np.float32))

    histories = data.train.histories
    shown = tuple(recommended(one) for one in histories)
    means = {}
    for name, visits in (("without", ()), ("with", shown)):
        given = replace(data, train=Part(visits, histories), dev=Part((), data.dev.histories))
        assert not given.searched
        done = train_personal(given, replace(OPTIONS, id_events=0), training(tmp_path / name))
        assert done.bundle is not None
        assert done.bundle.manifest.personal is not None
        assert done.bundle.manifest.personal.heads == ("recommendation",)
        # Of somebody who likes other things.
        scores = score(PersonalRanker.load(done.bundle), given, [2, 6, 3, 7])
        kinds = np.arange(ITEMS) % KINDS
        means[name] = scores[kinds == liked].mean() - scores[kinds == passed_over].mean()
    assert means["with"] > means["without"] + 0.1


def test_an_interrupted_run_goes_on_to_the_same_weights(
    data: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = training(tmp_path / "one", epochs=1, every_steps=2)
    whole = train_personal(data, OPTIONS, options)
    calls = 0
    plain = Lists.batch

    def dies(self: Lists, *given: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise KeyboardInterrupt
        return plain(self, *given)  # type: ignore[arg-type]

    parts = training(tmp_path / "two", epochs=1, every_steps=2)
    monkeypatch.setattr(Lists, "batch", dies)
    with pytest.raises(KeyboardInterrupt):
        train_personal(data, OPTIONS, parts)
    monkeypatch.undo()
    again = train_personal(data, OPTIONS, parts)
    assert whole.bundle is not None
    assert again.bundle is not None
    assert again.bundle.hash == whole.bundle.hash


def test_what_a_bundle_holds_is_trained_further(
    data: Behaviour, trained: Personalised, bundle: Bundle, tmp_path: Path
) -> None:
    source = read_source(bundle)
    assert (source.width, source.events) == (OPTIONS.width, OPTIONS.events)
    lists = Lists.of(data, source.events, OPTIONS.list_size, known_items(data, OPTIONS.id_events))
    for name, value in beginning(lists, 4, 1, source).state_dict().items():
        torch.testing.assert_close(value, trained.model.state_dict()[name])
    done = train_personal(data, OPTIONS, training(tmp_path / "run", steps=1), source=source)
    assert done.outcome.before == pytest.approx(trained.outcome.best, abs=1e-3)
    assert done.bundle is not None
    assert done.bundle.manifest.parent == bundle.ref
    # What users had together is served, and carried on by those who had none of it.
    newest = data.train.histories[0].items[-1]
    others = [one for one in data.train.histories if newest not in one.items][:9]
    window = replace(data, train=Part(data.train.visits, tuple(others)))
    later = train_personal(window, OPTIONS, training(tmp_path / "later", steps=1), source=source)
    assert later.bundle is not None
    before, after = (
        PersonalRanker.load(each).likely([Event(data.shop.ids[newest], "click")], 5)
        for each in (bundle, later.bundle)
    )
    assert len(before) == 5
    assert before == after
    # Items keep their embeddings however few events they have by now, wherever they stand.
    fewer = replace(source, items={name: n for name, n in source.items.items() if n > 1})
    lists = replace(lists, known=known_items(data, 10**6, fewer.items))
    moved = beginning(lists, 4, 1, fewer)
    assert moved.shape.items == trained.model.shape.items - 1
    torch.testing.assert_close(moved.identity.weight[1:], trained.model.identity.weight[2:])


def test_what_users_had_together_weighs_as_much_as_it_helps(
    data: Behaviour, bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    shutil.copytree(bundle.path, folder)
    fields = bundle.manifest.model_dump(exclude={"files", "item_knn"})
    network = PersonalRanker.load(write_bundle(folder, fields))
    lists = Lists.of(data, OPTIONS.events, OPTIONS.list_size, known_items(data, OPTIONS.id_events))
    dev = lists.held(OPTIONS.dev_lists, OPTIONS.dev_items)
    ids = data.shop.ids
    items = np.full((len(ids), 1), -1)
    nobody = ItemKnn(ids, items, np.zeros(items.shape))
    shares, metrics = weighed(network, nobody, lists, dev)
    assert [(share.weight, share.low, share.high) for share in shares] == [(0, 0, 1)] * 2
    assert metrics == {}
    # A table that knows what comes next.
    for history in data.dev.histories:
        items[history.items[-2]] = history.items[-1]
    shares, metrics = weighed(network, ItemKnn(ids, items, np.full(items.shape, 0.5)), lists, dev)
    assert shares[1].weight > 0
    alone, both = (
        metrics[f"dev nDCG@10 recommendation, {what}"]
        for what in ("network alone", "with item-kNN")
    )
    assert both > alone + 0.02


def test_the_floor_is_what_serves_without_a_ranker(data: Behaviour, trained: Personalised) -> None:
    lists = Lists.of(data, OPTIONS.events, OPTIONS.list_size, known_items(data, OPTIONS.id_events))
    dev = [one for one in lists.held(OPTIONS.dev_lists, OPTIONS.dev_items) if len(one.history)]
    expected = [ndcg(one.gains, affinity_of(data.shop, one.history, one.items)) for one in dev]
    assert trained.floor is not None
    assert trained.floor.lists == len(dev)
    assert trained.floor.nearness == pytest.approx(np.mean(expected))


def test_what_serves_is_compared_with_nearness(data: Behaviour, tmp_path: Path) -> None:
    """Who has one of a pair has the other. No text says so, and a network that has learned nothing
    neither."""
    pairs = np.random.default_rng(2).permutation(ITEMS).reshape(-1, 2)
    users = tuple(History(pair, np.ones(2, np.int64)) for pair in pairs for _ in range(3))
    only = replace(data, train=Part((), users), dev=Part((), users[::3]))
    options = training(tmp_path / "run", steps=1, learning_rate=1e-9)
    done = train_personal(only, replace(OPTIONS, id_events=0), options)
    assert done.floor is not None
    assert done.bundle is not None
    metrics = done.bundle.manifest.metrics
    assert metrics["dev nDCG@10 recommendation, network alone"] < done.floor.nearness
    assert done.floor.ranker == pytest.approx(
        metrics["dev nDCG@10 recommendation, with item-kNN"], abs=1e-6
    )
    assert done.floor.passed


def test_another_bundle_is_not_trained_further(
    data: Behaviour, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(InvalidBundle, match="not personal_ranker"):
        read_source(tiny_bundle(tmp_path / "e", "encoder"))
    with pytest.raises(InvalidBundle, match="reads other columns than this version"):
        read_source(tiny_ranker(tmp_path / "p", "e@0"))
    source = read_source(bundle)
    centre = {"centre": np.zeros(3, np.float32)}
    wide = replace(source, weights={**source.weights, **centre})
    with pytest.raises(InvalidBundle, match="can't be trained further"):
        train_personal(data, OPTIONS, training(tmp_path / "run"), source=wide)


def test_what_was_done_before_the_window_is_given(data: Behaviour) -> None:
    long = History(np.arange(6), np.ones(6, np.int64), given=4)
    lists = Lists.of(replace(data, train=Part((), (long,))), 6, 12, np.zeros(ITEMS, np.int64))
    found = lists.of_rows([0] * 40, np.random.default_rng(1))
    assert {int(one.items[0]) for one in found} == {4, 5}
    assert min(len(one.history) for one in found) == 4


def test_a_loss_that_is_no_number_stops_it_and_names_the_batch(
    data: Behaviour, tmp_path: Path
) -> None:
    first, *others = data.train.visits
    odd = replace(first, gains=np.full(KINDS, np.nan, np.float32))
    broken = replace(data, train=Part((odd, *others), data.train.histories))
    with pytest.raises(Diverged, match=r"The loss is nan in step 1, in the batch with .*history"):
        train_personal(broken, OPTIONS, training(tmp_path / "run"))


def test_nothing_to_learn_from_or_to_stop_by_is_said(data: Behaviour, tmp_path: Path) -> None:
    nobody = replace(data, train=Part(data.train.visits))
    with pytest.raises(InvalidInput, match="No user of the train part did two things"):
        train_personal(nobody, OPTIONS, training(tmp_path))
    with pytest.raises(InvalidInput, match="nothing to stop by"):
        replace(data, dev=Part())
    with pytest.raises(InvalidSettings, match="--method is lora"):
        train_personal(data, OPTIONS, training(tmp_path, method="lora"))
    with pytest.raises(InvalidSettings, match="--list-size is 3"):
        PersonalOptions(list_size=3)
    with pytest.raises(InvalidInput, match="--name is 'My Shop'; allowed are"):
        PersonalOptions(name="My Shop")


def test_items_that_few_have_touched_get_no_id(data: Behaviour) -> None:
    known = known_items(data, 10)
    counts = np.bincount(np.concatenate([h.items for h in data.train.histories]), minlength=ITEMS)
    assert ((known > 0) == (counts >= 10)).all()
    assert sorted(known[known > 0]) == list(range(1, int((counts >= 10).sum()) + 1))
    assert not known_items(data, 0).any()


def test_a_bundle_that_computes_something_else_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    fields = bundle.manifest.model_dump(exclude={"files", "created"})
    for name in bundle.manifest.files:
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    fields["golden"] = [{"texts": ["search"], "values": [9.0] * 5}]
    with pytest.raises(InvalidBundle, match="computes something else"):
        PersonalRanker.load(write_bundle(tmp_path, fields))
    fields["golden"] = []
    fields["personal"]["features"] = ["moon phase", "log price"]
    with pytest.raises(InvalidBundle, match="moon phase"):
        PersonalRanker.load(write_bundle(tmp_path, fields))


def test_acts_on_one_item_in_a_row_are_one_step() -> None:
    acts = [("a", "view"), ("a", "purchase"), ("a", "click"), ("b", "?"), ("a", "view")]
    found = steps(Event(*act) for act in acts)
    assert [(one.item_id, one.action) for one in found] == [
        ("a", "purchase"), ("b", "?"), ("a", "view"),
    ]  # fmt: skip
    assert ACTIONS[-1] == "purchase"


def test_what_is_chosen_comes_nearer_to_who_chose_it(data: Behaviour, tmp_path: Path) -> None:
    """Each in the vectors that it has by then: both move."""
    lists = Lists.of(data, OPTIONS.events, OPTIONS.list_size, known_items(data, OPTIONS.id_events))
    some = [lists.guess_of(one, len(one) - 1, np.arange(ITEMS)) for one in data.train.histories]
    batch = lists.batch(some)

    def cosines(model: RankerModel) -> torch.Tensor:
        with torch.no_grad():
            return model.eval().read(batch.inputs)[1].cosine

    before = cosines(beginning(lists, OPTIONS.width, 0))
    after = cosines(train_personal(data, OPTIONS, training(tmp_path / "run")).model)
    others_before, others_after = before[:, 1:].mean(1), after[:, 1:].mean(1)
    # Nearer to what was bought than before, and more so than to anything else.
    assert float((after[:, 0] > before[:, 0]).float().mean()) > 0.9
    moved = (after[:, 0] - others_after) - (before[:, 0] - others_before)
    assert float((moved > 0).float().mean()) > 0.9
