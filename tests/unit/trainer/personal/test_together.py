"""What users had together, as it serves beside the ranker."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.item_knn import ItemKnn
from neuralrank.personal_inputs import Columns
from trainer.personal import together as module
from trainer.personal.behaviour import Behaviour, History, Part
from trainer.personal.sequences import Histories
from trainer.personal.shop import Shop
from trainer.personal.statistics import ItemStatistics, strongest
from trainer.personal.together import together

IDS = ("tea", "kettle", "camera", "tripod", "book", "lamp")
TEA, KETTLE, CAMERA, TRIPOD, BOOK, LAMP = range(len(IDS))


def behaviour(*rows: list[int], ids: tuple[str, ...] = IDS) -> Behaviour:
    count = len(ids)
    columns = Columns.of([""] * count, [()] * count, np.full(count, np.nan), {})
    shop = Shop(ids, np.eye(count, 8, dtype=np.float32), columns, "words@000000000001")
    histories = tuple(
        History(np.array(row, np.int64), np.zeros(len(row), np.int64)) for row in rows
    )
    dev = Part((), (History(np.array([0, 1]), np.zeros(2, np.int64)),))
    return Behaviour(shop, Part((), histories), dev, np.zeros((0, 8), np.float32), "made up")


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
    # Of whom nothing is known gets what most have.
    popular = ["kettle", "tea", "camera", "tripod", "book", "lamp"]
    assert sorted(knn.likely([], 4)) == sorted(popular[:4])
    assert knn.likely(["unheard of"], 9)[4:] == popular[4:]
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
    monkeypatch.setattr(module, "_STEPS", 2)
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
    assert "camera" not in after.ids
    assert after.likely(["book"], 5) == ["kettle", "lamp"]
    # What was had lately comes before what was had once.
    assert after.ids[:2] == ("kettle", "book")
    # Twice without a sign of it: twice less.
    place, other = before.ids.index("kettle"), before.ids.index("tea")
    was = {row["item"]: row["weight"] for row in before.table[place]}[other]
    place, other = after.ids.index("kettle"), after.ids.index("tea")
    now = {row["item"]: row["weight"] for row in after.table[place]}[other]
    assert now == pytest.approx(0.9 * was, rel=1e-5)


def test_nothing_new_keeps_what_is_known() -> None:
    before = learned([KETTLE, TEA], [KETTLE, TEA])
    after = together(behaviour([LAMP]), before)
    assert after is not None
    assert after.likely(["kettle"], 5) == ["tea"]
