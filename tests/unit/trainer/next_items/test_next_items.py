"""Guessing next items: reading, counting, measuring, and all systems on a tiny set."""

import gzip
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neuralrank.errors import InvalidInput, NotFound  # noqa: E402
from trainer.next_items import SYSTEMS, Content, Options, compare  # noqa: E402
from trainer.next_items.baselines import Neighbours, Popularity, neighbours, tuned_neighbours  # noqa: E402
from trainer.next_items.buckets import padded  # noqa: E402
from trainer.next_items.measure import Guessed, difference, guess, ranks  # noqa: E402
from trainer.next_items.neural import NeuralOptions  # noqa: E402
from trainer.next_items.sasrec import (  # noqa: E402
    Sasrec,
    SequenceModel,
    SequenceOptions,
    next_item_loss,
)
from trainer.personal import Histories, read_histories, read_targets  # noqa: E402
from trainer.personal.ranker import scales  # noqa: E402
from trainer.personal.statistics import PAIR_FEATURES, ItemStatistics, profiles  # noqa: E402

# Circles of items that users walk along: what comes next hangs on what came last, and hardly on
# what is popular or who has what.
CIRCLES, ROUND, USERS = 4, 8, 120


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Silent:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        self.said.append(f"{text} {sum(done)} of {total}")


def walks() -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    random = np.random.default_rng(1)
    items = [f"{circle}-{place}" for circle in range(CIRCLES) for place in range(ROUND)]
    histories, targets = {}, {}
    for user in range(USERS):
        circle, start, length = random.integers(CIRCLES), random.integers(ROUND), 4
        walk = [f"{circle}-{(start + step) % ROUND}" for step in range(length + 1)]
        histories[f"user {user}"], targets[f"user {user}"] = walk[:-1], walk[-1]
    return items, histories, targets


def test_what_comes_next_does_not_hang_on_who_shares_the_batch() -> None:
    torch.manual_seed(0)
    items, options = [str(number) for number in range(30)], SequenceOptions(width=16, length=20)
    model = SequenceModel(len(items), options)
    torch.nn.init.normal_(model.place.weight)
    histories = Histories.of(items, {"short": items[:2], "one": items[5:6], "long": items[3:30]})
    system = Sasrec(model, options.length)
    together = system.scores(histories, range(3))
    for user in range(3):
        np.testing.assert_allclose(system.scores(histories, [user])[0], together[user], atol=1e-5)

    def loss(*users: int) -> float:
        rows = padded([histories.rows[user] for user in users], 21, len(items), behind=True)
        batch = {"rows": torch.from_numpy(rows), "negatives": torch.arange(len(items))}
        return next_item_loss(model.eval(), batch).item()

    assert loss(0, 2) == pytest.approx((1 * loss(0) + 20 * loss(2)) / 21, abs=1e-5)


def test_a_file_of_histories_is_read_and_ids_lose_their_order(tmp_path: Path) -> None:
    items = [str(number) for number in range(50)]
    # A byte order mark, as some editors write it, is no part of the first user.
    (tmp_path / "h.tsv").write_text("a\t0 1 2\nb\t3\n\n", "utf-8-sig")
    with gzip.open(tmp_path / "h.tsv.gz", "wt") as stream:
        stream.write("a\t0 1 2\nb\t3\n")
    found = read_histories(tmp_path / "h.tsv", items)
    assert [found.items[number] for number in found.rows[0]] == ["0", "1", "2"]
    assert found.users == ("a", "b")
    assert found.hash == read_histories(tmp_path / "h.tsv.gz", items).hash
    # Whatever order the catalogue has, the numbers are the same; and they don't follow the ids.
    assert found.items == read_histories(tmp_path / "h.tsv", items[::-1]).items
    numbers = [found.numbers[item] for item in items]
    assert abs(np.corrcoef(numbers, range(50))[0, 1]) < 0.4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0 1", "h.tsv:1: got 'a 0 1'"),
        ("a\t0 1\na\t1 0", "h.tsv:2: the user 'a' comes twice, first in line 1"),
        ("a\t\na\t1 0", "h.tsv:2: the user 'a' comes twice, first in line 1"),
        ("\t0 1", "h.tsv:1: got '\\t0 1'"),
        ("a\t0 1\nb\t7 9 8", "3 of 5 items are not in the catalogue: line 2 has '7' of 'b'"),
        ("user\titems\n", "No user has two items"),
        ("a\t0\nb\t1", "No user has two items"),
        ("\n", "h.tsv is empty"),
    ],
)
def test_what_is_no_file_of_histories_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "h.tsv"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=re.escape(message)):
        read_histories(file, ["0", "1"])


def test_what_is_not_in_the_catalogue_any_more_is_left_out_of_histories(tmp_path: Path) -> None:
    file, told = tmp_path / "h.tsv", list[str]()
    file.write_text("a\t0 9 1\nb\t8\nc\t\nd\t1 0\n")
    found = read_histories(file, ["0", "1"], told.append)
    assert {
        user: [found.items[number] for number in row]
        for user, row in zip(found.users, found.rows, strict=True)
    } == {"a": ["0", "1"], "d": ["1", "0"]}
    assert told == [
        f"{file}: 2 of 6 items are not in the catalogue, and left out: line 1 has '9' of 'a'.",
        f"{file}: 2 of 4 users have no item, and are left out.",
    ]


def test_what_is_left_out_is_told_on_standard_error_and_nothing_where_all_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, targets = tmp_path / "h.tsv", tmp_path / "t.tsv"
    file.write_text("a\t0 1\nb\t1 0\n")
    targets.write_text("a\t2\nb\t2\n")
    found = read_histories(file, ["0", "1", "2"])
    assert read_targets(targets, found)[0] == [0, 1]
    assert capsys.readouterr() == ("", "")
    file.write_text("a\t0 1\nb\t1 9\n")
    read_histories(file, ["0", "1", "2"])
    assert capsys.readouterr().err.startswith(f"neuralrank: {file}: 1 of 4 items")


def test_a_header_is_left_out(tmp_path: Path) -> None:
    file, targets, told = tmp_path / "h.tsv", tmp_path / "t.tsv", list[str]()
    file.write_text("user\titems\na\t0 1\nb\tgone 1 0\n")
    found = read_histories(file, ["0", "1", "2"], told.append)
    assert found.users == ("a", "b")
    assert told[0] == (
        f"{file}: the first line, 'user\\titems', is taken for a header and left out: none of it "
        "is in the catalogue."
    )
    assert told[1].startswith(f"{file}: 1 of 5 items")
    targets.write_text("user\tnext item\na\t2\n")
    assert read_targets(targets, found, told.append)[0] == [0]
    assert told[2].startswith(
        f"{targets}: the first line, 'user\\tnext item', is taken for a header"
    )
    # Only the first line is one, and only where nothing of it is known, and no word is a number.
    file.write_text("a\t0 1\nuser\titems\n")
    targets.write_text("b\t0\nuser\titem\na\t2\n")
    found = read_histories(file, ["0", "1", "2"], told.append)
    assert "line 2 has 'items' of 'user'" in told[3]
    assert read_targets(targets, found, told.append)[0] == [-1, -1, 0]
    file.write_text("u7\titems\na\t0 1\n")
    read_histories(file, ["0", "1", "2"], told.append)
    assert not any("for a header" in text for text in told[3:])


def test_whether_a_file_is_gzip_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    text = b"a\t0 1\n"
    (tmp_path / "h.tsv").write_bytes(gzip.compress(text))
    (tmp_path / "h.tsv.gz").write_bytes(text)
    for name in ("h.tsv", "h.tsv.gz"):
        assert read_histories(tmp_path / name, ["0", "1"]).users == ("a",)
    (tmp_path / "h.tsv").write_bytes(gzip.compress(text)[:-9])
    with pytest.raises(InvalidInput, match="can't be read"):
        read_histories(tmp_path / "h.tsv", ["0", "1"])


def test_targets_of_new_users_and_of_delisted_items_are_counted(tmp_path: Path) -> None:
    file, told = tmp_path / "t.tsv", list[str]()
    histories = Histories.of(["x", "y", "z"], {"a": ["x", "y"], "b": ["y", "x"]})
    file.write_text("a\tz\nnew\tz\nb\tgone\n")
    places, targets = read_targets(file, histories, told.append)
    assert places == [0, -1, 1]
    assert targets.tolist() == [histories.numbers["z"], histories.numbers["z"], -1]
    assert told == [
        f"{file}: 1 of 3 items are not in the catalogue, a miss for every system: line 3 has "
        "'gone' of 'b'.",
        f"{file}: 1 of 3 users have no history. They are new: every system guesses what is "
        "popular.",
    ]
    # Where nobody has a history, nothing can be given away either.
    file.write_text("new\tz\n")
    assert read_targets(file, histories, told.append)[0] == [-1]


def test_what_is_no_file_of_targets_is_told(tmp_path: Path) -> None:
    histories = Histories.of(["x", "y"], {"a": ["x", "y"]})
    file = tmp_path / "t.tsv"
    for text, message in (
        ("a\tz", "1 of 1 items are not in the catalogue: line 1 has 'z' of 'a'"),
        ("a\tx\na\ty", "t.tsv:2: the user 'a' comes twice, first in line 1"),
        ("a\tx y", "t.tsv:1: got 'a.*x y'; a line is a user, a tab and the next item"),
        ("a\t", "t.tsv:1: got 'a.*'; a line is a user, a tab and the next item"),
        ("user\titem", "has only 'user.*item', which names no user and no item that is known"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=message):
            read_targets(file, histories)
    with pytest.raises(NotFound):
        read_targets(tmp_path / "none.tsv", histories)


def test_histories_that_hold_the_targets_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_text("a\tx\nb\tz\nc\ty\n")
    items = ["x", "y", "z"]
    left = Histories.of(items, {"a": ["x", "y"], "b": ["x", "z"], "c": ["x", "y"]})
    with pytest.raises(
        InvalidInput, match=r"t\.tsv:2: the item 'z' is the last .* of 67% of users"
    ):
        read_targets(file, left)
    # One of three may take the same again, and where most always do, it is no sign of anything.
    read_targets(file, Histories.of(items, {"a": ["x", "y"], "b": ["x", "z"], "c": ["y", "x"]}))
    read_targets(file, Histories.of(items, {"a": ["x", "x"], "b": ["z", "z"], "c": ["y", "y"]}))


def test_ranks_count_what_is_ahead_and_ties_go_by_priority() -> None:
    scores = np.array([[3, 1, 2, 2], [0, 0, 0, 0], [-np.inf, np.nan, 5, 1]], np.float32)
    priority = np.array([3, 2, 1, 0])
    assert ranks(scores, np.array([2, 1, 0]), priority).tolist() == [2, 2, 3]


def test_metrics_by_hand() -> None:
    guessed = Guessed.of(np.array([0, 2, 10]))
    assert guessed.summary() == {"HitRate@10": 0.666667, "nDCG@10": 0.5}


def test_the_interval_of_a_difference_holds_it_and_is_zero_for_equals() -> None:
    random = np.random.default_rng(0)
    good, bad = Guessed.of(random.integers(0, 12, 500)), Guessed.of(random.integers(5, 40, 500))
    found = difference(good, bad)["HitRate@10"]
    assert found.low < found.mean < found.high
    assert found.low > 0
    assert difference(good, good)["nDCG@10"].high == 0.0


def test_counts_of_pairs_by_hand() -> None:
    histories = Histories.of(
        ["a", "b", "c"], {"1": ["a", "b"], "2": ["a", "b", "c"], "3": ["c", "a"]}
    )
    statistics = ItemStatistics.of(histories)
    a, b, c = (histories.numbers[item] for item in "abc")
    assert statistics.both[a, b] == 2
    assert statistics.both[a, c] == 2
    assert statistics.weighted[a, b] == pytest.approx(1 / np.log2(3) + 1 / np.log2(4))
    assert statistics.follows[a, b] == 2
    assert statistics.follows[a, c] == pytest.approx(0.8)  # two steps apart
    assert statistics.follows[c, a] == 1
    cosine = statistics.cosines(weighted=False, shrinkage=0.0)
    assert cosine[a, b] == pytest.approx(2 / np.sqrt(3 * 2))
    assert statistics.cosines(weighted=False, shrinkage=2.0)[a, b] == pytest.approx(
        2 / np.sqrt(6) * 2 / 4
    )
    pairs = statistics.pairs(np.array([[a, c]]), np.array([[b]]))
    assert pairs.shape == (1, 2, 1, len(PAIR_FEATURES))
    assert pairs[0, 0, 0].tolist() == pytest.approx(
        [np.log(3), np.log1p(statistics.weighted[a, b]), np.log(3), 0.0,
         np.sqrt(statistics.shrunk[a, b]), np.log(4), np.log(3),
         statistics.times[b] - statistics.times[a]]
    )  # fmt: skip


def test_times_are_told_by_what_follows_what() -> None:
    def times(*rows: str) -> dict[str, float]:
        given = {str(user): list(row) for user, row in enumerate(rows)}
        histories = Histories.of(["a", "b", "c", "d"], given)
        found = ItemStatistics.of(histories).times
        return {item: float(found[number]) for item, number in histories.numbers.items()}

    # 2 steps of a pair, between two numbers t and -t: (2 + 15) t + 2 t = 2.
    assert times("ab", "ab") == pytest.approx({"a": -2 / 19, "b": 2 / 19, "c": 0.0, "d": 0.0})
    # Who is told by others only has its place between them.
    found = times(*["ab"] * 9, *["bc"] * 9, "d")
    assert found["a"] < found["b"] < found["c"]
    assert found["b"] == pytest.approx(0.0, abs=1e-6)
    # What goes round has no time.
    assert times("ab", "bc", "ca") == pytest.approx(dict.fromkeys("abcd", 0.0))


def test_a_column_that_is_always_the_same_makes_no_other_one_enormous() -> None:
    columns = np.array([[3.0, 1.0], [3.0, 5.0]], np.float32)
    assert scales(columns).tolist() == [1.0, 2.0]
    assert scales(columns[:, 0]) == 1.0


def test_where_nobody_has_two_pairs_say_nothing() -> None:
    histories = Histories(("a", "b"), ("1", "2"), (np.array([0, 0]), np.array([1])))
    pairs = ItemStatistics.of(histories).pairs(np.array([[0, 1]]), np.array([[1, 0, 1]]))
    assert pairs.shape == (1, 2, 3, len(PAIR_FEATURES))
    of_items = ["log popularity of the event's item", "log popularity of the candidate"]
    columns = [PAIR_FEATURES.index(name) for name in of_items]
    assert not np.delete(pairs, columns, axis=-1).any()
    found = pairs[0, :, 0][:, columns]
    assert found == pytest.approx(np.log1p([[2, 1], [1, 1]]))


def test_older_items_count_less() -> None:
    found = profiles([np.array([2, 0]), np.array([1])], 3, 0.5).toarray()
    assert found.tolist() == [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]


def test_what_a_user_has_had_is_no_answer_where_it_is_said_so() -> None:
    histories = Histories.of(["a", "b", "c"], {"1": ["a", "b"], "2": ["a", "b"], "3": ["a", "c"]})
    target = np.array([histories.numbers["c"]])
    system = Popularity()
    free = guess(system, histories, [0], target, exclude_seen=False)
    only_new = guess(system, histories, [0], target, exclude_seen=True)
    assert free.ndcg[0] == pytest.approx(0.5)  # behind a and b
    assert only_new.ndcg[0] == 1.0
    neighbours = Neighbours(ItemStatistics.of(histories).cosines(), 0.8)
    assert guess(neighbours, histories, [0], target, exclude_seen=True).hit[0] == 1.0


def test_new_users_get_what_is_popular_and_what_nobody_has_is_a_miss(tmp_path: Path) -> None:
    histories = Histories.of(["a", "b", "c"], {"1": ["a", "b"], "2": ["b"], "3": ["b", "a"]})
    a, b = histories.numbers["a"], histories.numbers["b"]
    # Of the ones known too, whatever stands beside them.
    targets = np.array([b, a, -1, -1, b])
    ones = list[int]()
    found = guess(
        Neighbours(ItemStatistics.of(histories).cosines(), 0.8), histories, [-1, -1, -1, 0, 1],
        targets, exclude_seen=False, progress=ones.append,
    )  # fmt: skip
    assert found.ndcg[:4].tolist() == [1.0, pytest.approx(1 / np.log2(3)), 0.0, 0.0]
    assert found.hit.tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]
    assert sum(ones) == 5
    alone = guess(
        Neighbours(ItemStatistics.of(histories).cosines(), 0.8), histories, [1], targets[4:],
        exclude_seen=False,
    )  # fmt: skip
    assert found.ndcg[4] == alone.ndcg[0]
    # Where all are new, what learns is not asked at all.
    content = lambda: Content("", np.zeros((3, 2), np.float32))  # noqa: E731
    all_new = compare(histories, content, [-1], np.array([b]), ["item_knn"], tmp_path, Silent())
    assert all_new.json()["systems"]["item_knn"]["HitRate@10"] == 1.0


def test_targets_that_are_no_answer_are_counted(tmp_path: Path) -> None:
    def said(rows: dict[str, list[str]]) -> list[str]:
        histories, watcher = Histories.of(["a", "b", "c"], rows), Silent()
        targets = np.array([histories.numbers[item] for item in "ac"])
        content = lambda: Content("", np.zeros((3, 2), np.float32))  # noqa: E731
        compare(histories, content, [0, 1], targets, ["popularity"], tmp_path, watcher)
        return [text for text in watcher.said if " of 2 targets" in text]

    assert said({"1": ["a", "b"], "2": ["b", "a"]}) == [
        "1 of 2 targets are items that their users had before: these are no answer, as hardly any "
        "history repeats one, and a miss for every system."
    ]
    assert said({"1": ["b", "c"], "2": ["b", "a"]}) == []
    # Where histories repeat, it is an answer like others.
    assert said({"1": ["a", "b", "a"], "2": ["b", "a"]}) == []


def test_neighbours_are_tuned_on_what_they_are_measured_on() -> None:
    random = np.random.default_rng(0)

    def row() -> list[str]:
        staples = random.choice(30, 5, replace=False) + 30 * random.integers(4)
        chance = random.integers(0, 120, 20)
        return [
            str(x) for x in np.where(random.random(20) < 0.8, random.choice(staples, 20), chance)
        ]

    histories = Histories.of(list(map(str, range(120))), {str(user): row() for user in range(300)})
    assert histories.repeats() > 0.5

    def again(*, exclude_seen: bool) -> float:
        settings = tuned_neighbours(histories, exclude_seen=exclude_seen)
        earlier, last = histories.without_last()
        made = neighbours(ItemStatistics.of(earlier), settings)
        users = list(range(len(last)))
        return float(guess(made, earlier, users, last, exclude_seen=False).ndcg.mean())

    assert again(exclude_seen=False) > 1.02 * again(exclude_seen=True)


def test_all_systems_guess_and_those_that_see_the_order_guess_best(tmp_path: Path) -> None:
    items, rows, targets = walks()
    histories = Histories.of(items, rows)
    wanted = np.array([histories.numbers[targets[user]] for user in histories.users])
    content = np.random.default_rng(0).standard_normal((len(items), 12)).astype(np.float32)
    options = Options(
        SequenceOptions(
            width=16, layers=1, heads=1, dropout=0.0, length=6, negatives=16, positions=128,
            epochs=6, learning_rate=3e-2, final_epochs=1,
        ),
        NeuralOptions(
            candidates=12, listed=8, events=4, positions=64, width=16, epochs=3,
            learning_rate=2e-2,
        ),
        factorisations=(("ALS", 8, 1.0), ("BPR", 8, 0.01)),
    )  # fmt: skip
    watcher = Silent()
    places = list(range(USERS))

    def run(digest: str = "a") -> dict[str, dict[str, float]]:
        found = compare(
            histories, lambda: Content(digest, content), places, wanted, SYSTEMS, tmp_path,
            watcher, options,
        )  # fmt: skip
        assert found.json()["users"] == USERS
        assert set(found.margin()) == {"baseline", "HitRate@10", "nDCG@10"}
        systems: dict[str, dict[str, float]] = found.json()["systems"]
        return systems

    first = run()
    # A new user and a miss: every system takes both, and nothing else changes.
    known, wanted, places = wanted, np.append(wanted, [wanted[0], -1]), [*places, -1, 0]
    with_others = compare(
        histories, lambda: Content("a", content), places, wanted, SYSTEMS, tmp_path, watcher,
        options,
    )  # fmt: skip
    assert with_others.json()["users"] == USERS + 2
    new = {name: guessed.ndcg[USERS] for name, guessed in with_others.systems.items()}
    assert len(set(new.values())) == 1
    for name, guessed in with_others.systems.items():
        assert guessed.ndcg[USERS + 1] == 0.0
        assert guessed.ndcg[:USERS].mean() == pytest.approx(first[name]["nDCG@10"], abs=1e-6)
    wanted, places = known, places[:USERS]
    assert list(first) == list(SYSTEMS)
    assert f"neuralrank: users {USERS} of {USERS}" in watcher.said
    assert first["neuralrank"]["nDCG@10"] > 0.9
    assert first["sasrec"]["nDCG@10"] > 0.8
    assert first["popularity"]["nDCG@10"] < 0.3
    # Again: nothing is trained, and the numbers are the same.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert before
    assert run() == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    # With other titles, or by another encoder: what read them is trained anew, and nothing else.
    run("b")
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert after.items() > before.items()
    folders = {path.relative_to(tmp_path).parts[1] for path in after.keys() - before.keys()}
    assert folders
    assert all(name.startswith("neuralrank-") for name in folders)


def test_an_unknown_system_is_refused(tmp_path: Path) -> None:
    histories = Histories.of(["a", "b"], {"1": ["a", "b"]})
    with pytest.raises(InvalidInput, match="allowed are popularity, item_knn"):
        compare(
            histories, lambda: Content("", np.zeros((2, 2), np.float32)), [0], np.array([1]),
            ["best"], tmp_path, Silent(),
        )  # fmt: skip
