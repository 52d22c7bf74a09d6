"""What a personal ranker reads, and its bundle: without torch, on a graph made by hand."""

import tracemalloc
from pathlib import Path

import numpy as np
import orjson
import pytest

from neuralrank.bundles.bundle import Bundle, write_bundle
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidBundle, InvalidInput
from neuralrank.models import add
from neuralrank.personal.inputs import Columns, Event, features, pairs
from neuralrank.personal.item_knn import FILES, ItemKnn
from neuralrank.personal.ranker import PersonalRanker
from tests.unit.conftest import HIDDEN, tiny_ranker

ROW = np.dtype([("item", "<i4"), ("weight", "<f4")])


def columns(*rows: tuple[str, list[str], float], names: dict[str, int]) -> Columns:
    brands, categories, prices = zip(*rows, strict=True)
    return Columns.of(brands, categories, prices, names)


def test_what_events_and_candidates_have_in_common_by_hand() -> None:
    names: dict[str, int] = {}
    events = columns(
        ("Bosch", ["Home", "Kettles"], 40.0), ("", [], float("nan")), ("dell", ["Laptops"], 0.0),
        names=names,
    )  # fmt: skip
    candidates = columns(
        ("BOSCH", ["home", "Teapots"], 20.0), ("Dell", ["Laptops"], 40.0), ("", [], 30.0),
        names=names,
    )  # fmt: skip
    found = pairs(events, candidates)
    assert found.shape == (3, 3, 3)
    # Same brand whatever its case; an unknown one is the same as none.
    assert found[..., 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    # Of the candidate's categories, the share that the event's item has.
    assert found[..., 1].tolist() == [[0.5, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert found[0, :, 2].tolist() == pytest.approx([0.5, 1.0, 0.75])
    assert not found[1:, :, 2].any()
    assert not np.isnan(found).any()


def test_items_of_a_hundred_categories_take_no_gigabytes() -> None:
    names: dict[str, int] = {}
    many = [f"tag {number}" for number in range(100)]
    events = columns(*[("", many[::-1], 1.0)] * 20, names=names)
    candidates = columns(*[("", many, 1.0)] * 500, names=names)
    tracemalloc.start()
    try:
        found = pairs(events, candidates)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found[..., 1] == 1.0).all()
    # Each category of the one compared with each of the other: 100 MB.
    assert peak < 20_000_000


def test_features_say_what_is_absent() -> None:
    found = features(np.array([0.5, np.nan], np.float32), np.array([np.nan, np.e - 1.0]))
    assert found[0].tolist() == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert found[1].tolist() == [pytest.approx(np.nan, nan_ok=True), pytest.approx(1.0)]


def score(model: PersonalRanker, events: int, candidates: int = 4) -> np.ndarray:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((events + candidates, HIDDEN)).astype(np.float32)
    empty = Columns.of([""] * 40, [[]] * 40, [1.0] * 40, {})
    return model.score(
        [Event(str(n), "view") for n in range(events)], vectors[:events], empty[:events],
        [str(n) for n in range(candidates)], vectors[events:], empty[:candidates], None,
        np.zeros(candidates, np.float32),
    )  # fmt: skip


def test_the_newest_events_are_read_and_no_more(tmp_path: Path) -> None:
    model = PersonalRanker.load(tiny_ranker(tmp_path / "r", "e@0"))
    assert (model.encoder, model.events, model.dimensions) == ("e@0", 3, HIDDEN)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((9, HIDDEN)).astype(np.float32)
    wanted = vectors[5:] @ vectors[2:5].mean(axis=0)
    assert score(model, 5) == pytest.approx(wanted, abs=1e-4)
    assert model.fit(np.array([-3.0, 0.0, 0.5, 9.0], np.float32)).tolist() == [0, 0.5, 0.75, 1]


def test_golden_scores_are_checked(tmp_path: Path) -> None:
    golden = [{"texts": ["search"], "values": [1.0, 2.0, 3.0, 4.0, 5.0]}]
    with pytest.raises(InvalidBundle, match="computes something else"):
        PersonalRanker.load(tiny_ranker(tmp_path / "r", "e@0", golden=golden))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"personal": None}, "personal is missing"),
        ({"kind": "encoder"}, "personal is given"),
        ({"dimensions": 5}, "can't be run"),
        ({"personal.heads": ["search"]}, "has no head 'recommendation'"),
        ({"personal.heads": ["recommendation"]}, r"gives scores of shape \[1, 5, 2\]"),
        ({"personal.features": ["moon phase"]}, "moon phase"),
        ({"personal.events": 0}, "events"),
    ],
)
def test_a_bundle_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    made = tiny_ranker(tmp_path / "r", "e@0")
    fields = made.manifest.model_dump(exclude={"files"})
    for name, value in change.items():
        inner, _, key = name.rpartition(".")
        (fields[inner] if inner else fields)[key] = value
    with pytest.raises(InvalidBundle, match=words):
        PersonalRanker.load(write_bundle(made.path, fields))


def test_ids_that_are_no_list_are_refused(tmp_path: Path) -> None:
    made = tiny_ranker(tmp_path / "r", "e@0")
    fields = made.manifest.model_dump(exclude={"files"})
    (made.path / "items.json").write_bytes(b"{")
    with pytest.raises(InvalidBundle, match="no list of ids"):
        PersonalRanker.load(write_bundle(made.path, fields))
    (made.path / "items.json").write_bytes(orjson.dumps(["b", "a"]))
    assert PersonalRanker.load(write_bundle(made.path, fields)).events == 3


def test_it_knows_what_users_had_together(tmp_path: Path) -> None:
    made = tiny_ranker(tmp_path / "r", "e@0")
    assert PersonalRanker.load(made).likely([Event("tea", "view")], 5) == []
    items = np.array([[1, 2], [0, -1], [0, -1]])
    ItemKnn(["tea", "cup", "茶"], items, np.array([[0.9, 0.5], [0.9, 0], [0.5, 0]])).write(
        made.path
    )
    fields = made.manifest.model_dump(exclude={"files"})
    model = PersonalRanker.load(write_bundle(made.path, fields))
    assert model.bundle.ref != made.ref
    assert model.likely([Event("tea", "view")], 5) == ["cup", "茶"]
    # Three events are read, as by the network; what was done before is had all the same.
    others = [Event(name, "view") for name in "abc"]
    assert model.likely([Event("tea", "view"), *others], 5) == []
    assert model.likely([Event("茶", "view"), *others[1:], Event("tea", "view")], 5) == ["cup"]
    assert model.likely([], 2) == ["tea", "cup"]
    # What is left out takes no place of what is not.
    assert model.likely([Event("tea", "view")], 1, {"cup", "b"}) == ["茶"]
    assert model.likely([], 2, {"tea"}) == ["cup", "茶"]
    assert model.likely([*others, Event("tea", "view")], 1) == ["cup"]


def test_what_users_had_together_counts_beside_the_network(tmp_path: Path) -> None:
    made = tiny_ranker(tmp_path / "r", "e@0")
    alone = PersonalRanker.load(made)
    fields = made.manifest.model_dump(exclude={"files"})
    share = {"weight": 0.5, "low": -1.0, "high": 3.0}
    fields["item_knn"] = [{"weight": 0, "low": 0, "high": 1}, share]
    with pytest.raises(InvalidBundle, match="has no table"):
        PersonalRanker.load(write_bundle(made.path, fields))
    # What was done are "0", "1" and "2", and candidates "0" to "3".
    ItemKnn(["2", "1", "3", "x"], np.array([[2, 3], [2, -1], [-1, -1], [-1, -1]]),
            np.array([[0.4, 0.9], [0.1, 0], [0, 0], [0, 0]])).write(made.path)  # fmt: skip
    model = PersonalRanker.load(write_bundle(made.path, fields))
    near = np.array([0, 0, 0, np.log1p((0.4 + 0.8 * 0.1) / 1e-3)])
    wanted = (score(alone, 3) + 0.5 * near + 1.0) / 4.0
    assert score(model, 3) == pytest.approx(wanted, abs=1e-5)
    fields["item_knn"] = [share]
    with pytest.raises(InvalidBundle, match="item_knn has 1 entries for 2 heads"):
        write_bundle(made.path, fields)
    fields["item_knn"] = [share | {"low": 3.0}, share]
    with pytest.raises(InvalidBundle, match="low is 3, which is not below high 3"):
        write_bundle(made.path, fields)


@pytest.mark.parametrize(
    ("ids", "table", "words"),
    [
        (b"{", b"", "can't be read"),
        (b'["a"]', b"no numpy", "can't be read"),
        (b'["a"]', b"", "can't be read"),
        (b'["a"]', np.zeros((1, 2)), "no table of neighbours"),
        (b'["a"]', np.zeros((2, 2), ROW), "no table of neighbours"),
        (b'["a", 3]', np.zeros((2, 2), ROW), "no table of neighbours"),
        (b'["a"]', np.full((1, 2), 1, ROW), "no table of neighbours"),
        (b'["a"]', np.array([[(0, np.nan)]], ROW), "no table of neighbours"),
        (b'["a"]', np.array([[{}]], object), "can't be read"),
    ],
)
def test_a_table_of_neighbours_that_is_none_is_refused(
    tmp_path: Path, ids: bytes, table: bytes | np.ndarray, words: str
) -> None:
    made = tiny_ranker(tmp_path / "r", "e@0")
    names, values = (made.path / name for name in FILES)
    names.write_bytes(ids)
    if isinstance(table, bytes):
        values.write_bytes(table)
    else:
        np.save(values, table)
    fields = made.manifest.model_dump(exclude={"files"})
    with pytest.raises(InvalidBundle, match=words):
        PersonalRanker.load(write_bundle(made.path, fields))


def test_how_many_have_each_item_is_kept(tmp_path: Path) -> None:
    made = tiny_ranker(tmp_path / "r", "e@0")
    fields = made.manifest.model_dump(exclude={"files"})
    table = np.array([[1], [0]]), np.array([[0.9], [0.9]])
    ItemKnn(["tea", "cup"], *table).write(made.path)
    found = ItemKnn.read(write_bundle(made.path, fields))
    assert found is not None
    assert found.owners is None
    ItemKnn(["tea", "cup"], *table, np.array([7.5, 2.0])).write(made.path)
    found = ItemKnn.read(write_bundle(made.path, fields))
    assert found is not None
    assert found.owners is not None
    assert found.owners.tolist() == [7.5, 2.0]
    for damaged in (np.array([7, 2]), np.ones(3, np.float32), np.array([-1, np.nan], np.float32)):
        np.save(made.path / "item_knn_owners.npy", damaged)
        with pytest.raises(InvalidBundle, match="no count for each id"):
            PersonalRanker.load(write_bundle(made.path, fields))
    (made.path / "item_knn_owners.npy").write_bytes(b"no numpy")
    with pytest.raises(InvalidBundle, match="can't be read"):
        PersonalRanker.load(write_bundle(made.path, fields))


def test_a_bundle_is_added_as_it_is(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    made = tiny_ranker(tmp_path / "r", "e@0")
    assert add(registry, str(made.path)).ref == made.ref
    assert isinstance(registry.get("tiny-ranker"), Bundle)
    with pytest.raises(InvalidInput, match="a bundle already"):
        add(registry, str(made.path), name="other")
