"""What users had together, as it serves beside the ranker."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.personal.inputs import Columns
from neuralrank.personal.item_knn import ItemKnn
from trainer.personal import together as module
from trainer.personal.behaviour import Behaviour, History, Part, from_histories
from trainer.personal.sequences import Histories
from trainer.personal.shop import Shop
from trainer.personal.statistics import ItemStatistics, strongest
from trainer.personal.together import together

IDS = ("tea", "kettle", "camera", "tripod", "book", "lamp")
TEA, KETTLE, CAMERA, TRIPOD, BOOK, LAMP = range(len(IDS))


def behaviour(
    *rows: list[int], ids: tuple[str, ...] = IDS, remembered: Sequence[list[int]] = ()
) -> Behaviour:
    count = len(ids)
    columns = Columns.of([""] * count, [()] * count, np.full(count, np.nan), {})
    shop = Shop(ids, np.eye(count, 8, dtype=np.float32), columns, "words@000000000001")
    histories = tuple(
        History(np.array(row, np.int64), np.zeros(len(row), np.int64), given=given)
        for row, given in (*((row, 0) for row in rows), *((row, len(row)) for row in remembered))
    )
    single = tuple(one for one in histories if len(one) == 1)
    histories = tuple(one for one in histories if len(one) > 1)
    dev = Part((), (History(np.array([0, 1]), np.zeros(2, np.int64)),))
    return Behaviour(
        shop, Part((), histories, single), dev, np.zeros((0, 8), np.float32), "made up"
    )


def learned(*rows: list[int]) -> ItemKnn:
    found = together(behaviour(*rows))
    assert found is not None
    return found


@given(st.data())
def test_the_strongest_are_those_of_the_whole_matrix(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 9))
    rows = data.draw(st.lists(st.lists(st.integers(0, count - 1), min_size=2, max_size=8),
                              min_size=1, max_size=12))  # fmt: skip
    histories = Histories(
        tuple(map(str, range(count))), tuple(map(str, range(len(rows)))),
        tuple(np.array(row, np.int64) for row in rows),
    )  # fmt: skip
    kept = data.draw(st.integers(1, count))
    found, near = strongest(histories, kept)
    whole = ItemStatistics.of(histories).shrunk.toarray()
    for item in range(count):
        there = found[item] >= 0
        assert there.sum() == min(kept, np.count_nonzero(whole[item]))
        assert near[item][there] == pytest.approx(whole[item][found[item][there]], rel=1e-5)
        best = np.sort(whole[item])[::-1][: there.sum()]
        assert near[item][there] == pytest.approx(best, rel=1e-5)
        assert not near[item][~there].any()


def near(knn: ItemKnn, item: int, other: int) -> float:
    place, wanted = (knn.ids.index(IDS[which]) for which in (item, other))
    return {row["item"]: float(row["weight"]) for row in knn.table[place]}.get(wanted, 0.0)


def test_the_strongest_by_hand() -> None:
    rows = tuple(np.array(row) for row in ([0, 1, 0, 1, 0], [0, 1], [2, 0, 2]))
    histories = Histories(("coffee", "filter", "cup"), ("1", "2", "3"), rows)
    items, weights = strongest(histories, 2)
    assert items.tolist() == [[1, 2], [0, -1], [0, -1]]
    # Of two items each, however often: users count 1 / log2(3).
    one = 1 / np.log2(3)
    twice = 2 * one / np.sqrt(3 * 2) * (2 * one / (2 * one + 2))
    once = one / np.sqrt(3 * 1) * (one / (one + 2))
    assert weights == pytest.approx(np.array([[twice, once], [twice, 0], [once, 0]]))
    cosines = ItemStatistics.of(histories).cosines().toarray()
    assert cosines[0] == pytest.approx([0, twice, once])


def test_who_has_something_again_and_again_is_one_user() -> None:
    often = learned(*50 * [5 * [KETTLE, TEA]])
    assert near(often, KETTLE, TEA) == pytest.approx(0.593, abs=1e-3)
    assert near(learned(*50 * [[KETTLE, TEA]]), KETTLE, TEA) == near(often, KETTLE, TEA)
    # What most have is what most users have.
    found = learned(60 * [LAMP, BOOK], [KETTLE, TEA], [KETTLE, TEA])
    assert set(found.ids[:2]) == {"kettle", "tea"}
    assert found.owners is not None
    assert found.owners.tolist() == [2, 2, 1, 1]


def test_counting_some_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    rows = tuple(random.integers(0, 40, 6) for _ in range(60))
    histories = Histories(tuple(map(str, range(40))), tuple(map(str, range(60))), rows)
    whole = strongest(histories, 5)
    monkeypatch.setattr("trainer.personal.statistics._AT_ONCE", 7)
    for one, other in zip(whole, strongest(histories, 5), strict=True):
        assert (one == other).all()


def test_who_has_a_kettle_gets_tea() -> None:
    rows = [[KETTLE, TEA], [KETTLE, TEA], [KETTLE, TEA, BOOK], [BOOK, LAMP]]
    knn = learned(*rows, *3 * [[CAMERA, TRIPOD]])
    assert knn.likely(["kettle"], 5) == ["tea", "book"]
    assert knn.likely(["kettle"], 1) == ["tea"]
    # The newest counts most.
    assert knn.likely(["camera", "kettle"], 2) == ["tea", "tripod"]
    assert knn.likely(["kettle", "camera"], 2) == ["tripod", "tea"]
    assert knn.likely(["kettle", "tea"], 5) == ["book"]
    assert knn.likely(["kettle"], 0) == []
    # Who has done nothing gets what most have.
    popular = ["kettle", "tea", "camera", "tripod", "book", "lamp"]
    assert sorted(knn.likely([], 4)) == sorted(popular[:4])
    assert knn.likely([], 9)[4:] == popular[4:]
    # Who did what nobody else did does not.
    assert knn.likely(["unheard of"], 9) == []
    assert knn.likely([], 0) == []


def test_closeness_by_hand() -> None:
    table = np.array([[1, 2], [0, -1], [-1, -1]]), np.array([[0.5, 0.25], [0.5, 0], [0, 0]])
    knn = ItemKnn(["tea", "cup", "pot"], *table)
    found = knn.closeness(["tea", "cup"], ["pot", "cup", "tea", "unheard of"])
    assert found == pytest.approx(np.log1p(np.array([0.8 * 0.25, 0.8 * 0.5, 0.5, 0]) / 1e-3))
    assert not knn.closeness(["unheard of"], ["pot"]).any()
    assert not knn.closeness([], ["pot"]).any()
    # What is closer is likelier.
    assert knn.likely(["tea"], 5) == ["cup", "pot"]


def test_the_dev_part_says_nothing() -> None:
    assert together(behaviour([CAMERA], [TRIPOD])) is None


def test_a_very_long_history_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ITEMS", 2)
    knn = learned([KETTLE, TEA, CAMERA, TRIPOD], [KETTLE, TEA])
    assert knn.likely(["kettle"], 5) == ["tea"]
    assert knn.likely(["camera"], 5) == ["tripod"]


def test_what_was_learned_before_fades_and_what_left_the_catalogue_is_gone() -> None:
    before = learned([KETTLE, TEA], [KETTLE, TEA], [CAMERA, TRIPOD], [CAMERA, TRIPOD], [BOOK, LAMP])
    ids = tuple(name for name in IDS if name != "tripod")
    kettle, book = ids.index("kettle"), ids.index("book")
    after = together(behaviour([kettle, book], [kettle, book], [kettle, book], ids=ids), before)
    assert after is not None
    assert after.likely(["kettle"], 5) == ["book", "tea"]
    # Nobody has a tripod any more.
    assert "tripod" not in after.ids
    assert after.likely(["camera"], 5) == []
    assert after.likely(["book"], 5) == ["kettle", "lamp"]
    # Eight that are known and six that are new: of what is known 8/14 is left.
    left = 8 / 14
    both, kettles, teas = left * 2 / np.log2(3), left * 2 + 3, left * 2
    cosine = both / np.sqrt(kettles * teas) * (both / (both + 2))
    kettle, tea = after.ids.index("kettle"), after.ids.index("tea")
    weights = {row["item"]: row["weight"] for row in after.table[kettle]}
    assert weights[tea] == pytest.approx(cosine, rel=1e-5)
    # What most have, of all of them.
    assert after.ids[:2] == ("kettle", "book")
    assert after.owners is not None
    assert after.owners[:2] == pytest.approx([kettles, left + 3])


ROWS = [
    [KETTLE, TEA],
    [KETTLE, TEA, BOOK],
    [BOOK, LAMP, TEA],
    [CAMERA, TRIPOD, CAMERA],
    [TEA, LAMP],
]


def test_two_rounds_count_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_faded", lambda counts, _: counts)
    after = together(behaviour(*ROWS[2:]), learned(*ROWS[:2]))
    whole = learned(*ROWS)
    assert after is not None
    assert after.owners == pytest.approx(whole.owners)
    for item in range(len(IDS)):
        for other in range(len(IDS)):
            assert near(after, item, other) == pytest.approx(near(whole, item, other), rel=1e-4)


def test_a_few_users_do_not_outweigh_many() -> None:
    """Of few users all cosines are high."""
    before = learned(*10 * [[KETTLE, TEA]], *40 * [[KETTLE, CAMERA]], *40 * [[TEA, CAMERA]])
    for knn in (before, ItemKnn(before.ids, before.table["item"], before.table["weight"])):
        after = together(behaviour([KETTLE, LAMP], [BOOK, LAMP], [TRIPOD, LAMP]), knn)
        assert after is not None
        assert after.likely(["kettle"], 5) == ["camera", "tea", "lamp"]
        assert near(after, KETTLE, CAMERA) == pytest.approx(near(before, KETTLE, CAMERA), rel=0.1)
        # What most have is no window's list.
        assert after.ids[0] == "camera"


def test_many_small_rounds_do_not_wear_off_what_many_had() -> None:
    knn = before = learned(*300 * [[KETTLE, TEA]], *100 * [[CAMERA, TRIPOD]])
    for _ in range(60):
        found = together(behaviour([BOOK, LAMP]), knn)
        assert found is not None
        knn = found
    assert near(knn, CAMERA, TRIPOD) == pytest.approx(near(before, CAMERA, TRIPOD), rel=0.1)
    assert set(knn.ids[:2]) == {"kettle", "tea"}


def test_who_is_only_remembered_is_not_counted_again() -> None:
    before = learned(*ROWS)
    after = together(behaviour([KETTLE, TEA], remembered=ROWS), before)
    alone = together(behaviour([KETTLE, TEA]), before)
    assert after is not None
    assert alone is not None
    assert after.ids == alone.ids
    assert (after.owners == alone.owners).all()
    assert (after.table == alone.table).all()
    # A table that there was not yet is made of them, too.
    first = together(behaviour(remembered=ROWS))
    assert first is not None
    assert first.owners == pytest.approx(before.owners)


def comes_back(knn: ItemKnn, had: list[int], new: list[int]) -> ItemKnn:
    items = np.array([*had, *new])
    one = History(items, np.zeros(len(items), np.int64), given=len(had))
    found = together(replace(behaviour(), train=Part((), (one,))), knn)
    assert found is not None
    return found


def test_who_comes_back_is_counted_for_what_is_new_by_hand() -> None:
    before = learned(*2 * [[KETTLE, TEA]], *20 * [[CAMERA, TRIPOD]])
    after = comes_back(before, [KETTLE, TEA], [KETTLE, BOOK])
    # 44 that were known, and one book that is new.
    left = 44 / 45
    assert after.owners is not None
    owners = dict(zip(after.ids, after.owners.tolist(), strict=True))
    assert owners == pytest.approx(
        {"camera": 20 * left, "tripod": 20 * left, "kettle": 2 * left, "tea": 2 * left, "book": 1.0}
    )
    # Of a user with three.
    new = 1 / np.log2(4)
    assert near(after, KETTLE, BOOK) == pytest.approx(new / np.sqrt(2 * left) * new / (new + 2))
    assert near(after, BOOK, TEA) == pytest.approx(near(after, KETTLE, BOOK))
    old = 2 * left / np.log2(3)
    assert near(after, KETTLE, TEA) == pytest.approx(old / (2 * left) * old / (old + 2))


def test_one_user_who_comes_again_and_again_wears_nothing_off() -> None:
    knn = before = learned([KETTLE, TEA], *20 * [[CAMERA, TRIPOD]])
    had = [KETTLE, TEA]
    for day in range(30):
        new = [(BOOK, LAMP)[day % 2]]
        knn, had = comes_back(knn, had, new), had + new
    assert near(knn, CAMERA, TRIPOD) == pytest.approx(near(before, CAMERA, TRIPOD), rel=0.05)
    assert knn.owners is not None
    assert dict(zip(knn.ids, knn.owners.tolist(), strict=True))["book"] <= 1.0


def test_what_most_have_counts_who_has_one_thing_alone() -> None:
    knn = learned(*100 * [[LAMP]], *6 * [[KETTLE, TEA]])
    assert knn.likely([], 3) == ["lamp", "tea", "kettle"]
    assert knn.likely(["lamp"], 3) == []
    histories = Histories(
        IDS, tuple(map(str, range(9))),
        (*4 * (np.array([LAMP]),), *5 * (np.array([KETTLE, TEA]),)),
    )  # fmt: skip
    found = from_histories(histories, behaviour().shop)
    # Of one of those with two the last is kept back.
    assert (len(found.train.histories), len(found.train.single)) == (4, 5)
    table = together(found)
    assert table is not None
    assert table.owners is not None
    owners = dict(zip(table.ids, table.owners.tolist(), strict=True))
    assert owners == {"kettle": 5, "tea": 4, "lamp": 4}
    # From one round to the next.
    after = together(behaviour(*6 * [[KETTLE, BOOK]]), knn)
    assert after is not None
    assert after.likely([], 2) == ["lamp", "kettle"]


def test_nothing_new_keeps_what_is_known() -> None:
    before = learned([KETTLE, TEA], [KETTLE, TEA])
    after = together(behaviour([LAMP]), before)
    assert after is not None
    assert after.likely(["kettle"], 5) == ["tea"]
