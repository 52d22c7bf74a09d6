"""Logs become a dataset: pages, labels, negatives, sequences; of a later part nothing before."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from neuralrank.errors import InvalidInput
from neuralrank.judging import query_id
from sidecar.domain import Interaction, Profile
from sidecar.ranking.taste import done
from trainer.dataset import ITEMS, Dataset
from trainer.dataset.finding import Bm25, words
from trainer.dataset.from_logs import LogOptions, from_logs
from trainer.dataset.negatives import Finders, Found, added
from trainer.dataset.pages import read_pages
from trainer.dataset.sequences import read_blocked, read_sequences
from trainer.dataset.splits import Shares, Times
from trainer.evaluation.held_back import logged_pages
from trainer.feedback import EVENTS, QUERIES, Logs, Pulled

TITLES = {
    **{f"k{n}": f"electric kettle number {n}" for n in range(30)},
    **{f"z{n}": f"全自动洗碗机 {n} 号" for n in range(30)},
}


def items() -> pa.Table:
    empty = {"brand": "", "category": "", "language": "", "price": None}
    rows = [{"item_id": k, "title": title, "text": title} | empty for k, title in TITLES.items()]
    return pa.Table.from_pylist(rows, ITEMS)


def finders() -> Finders:
    return Finders(list(TITLES.values()), Bm25(list(TITLES.values())), None)


def logs(queries: list[dict[str, Any]], events: list[dict[str, Any]]) -> Logs:
    blank = {"application": "", "user": "", "user_query": ""}
    asked = [
        {"id": f"q{n}", "hits": [], "attributes": [], **blank} | row
        for n, row in enumerate(queries)
    ]
    done = [
        {"id": f"e{n}", "ordinal": None, "query_id": "", **blank} | row
        for n, row in enumerate(events)
    ]
    pulled = Pulled(asked_since="", asked_until="", since="a", until="b", complete=True)
    return Logs((pulled,), pa.Table.from_pylist(asked, QUERIES), pa.Table.from_pylist(done, EVENTS))


def shown(page: str, at: int, *names: str, first: int = 1, **more: Any) -> list[dict[str, Any]]:
    return [
        {"query_id": page, "time": at, "action": "impression", "item_id": name, "ordinal": place}
        | more
        for place, name in enumerate(names, start=first)
    ]


def act(page: str, at: int, action: str, item: str, user: str = "") -> dict[str, Any]:
    return {"query_id": page, "time": at, "action": action, "item_id": item, "user": user}


def test_pages_as_shops_log_them() -> None:
    found = logs(
        [
            {"query_id": "p1", "time": 1, "user_query": "Kettle", "user": "u"},
            {"query_id": "p2", "time": 2, "user_query": "洗碗机", "hits": ["z1", "z2", "gone"]},
            {"query_id": "p3", "time": 3, "user_query": " "},
            {"query_id": "p4", "time": 4, "user_query": "nothing shown"},
        ],
        [
            *shown("p1", 1, "k1", "k2"),
            *shown("p1", 1, "k2", first=9),
            act("p1", 2, "click", "k2"),
            act("p1", 3, "purchase", "k2"),
            act("p1", 4, "click", "k9"),
            act("p1", 5, "click", "k2"),  # looked at again; it is bought all the same
            act("p2", 3, "click", "z2"),
            *shown("p5", 5, "k1", "k2", first=0, application="from zero", user_query="kettle"),
            *shown("p3", 3, "k1"),
        ],
    )
    skipped: Counter[str] = Counter()
    pages = read_pages(found, set(TITLES), skipped)
    assert [(page.page_id, page.key, page.user) for page in pages] == [
        ("p1", "kettle", "u"), ("p2", "洗碗机", ""), ("p3", "", ""), ("p5", "kettle", ""),
    ]  # fmt: skip
    assert [page.positions for page in pages] == [
        {"k1": 1, "k2": 2}, {"z1": 1, "z2": 2}, {"k1": 1}, {"k1": 1, "k2": 2},
    ]  # fmt: skip
    assert [page.outcomes for page in pages] == [{"k2": 3}, {"z2": 1}, {}, {}]
    assert skipped == {
        "acts on what was not shown": 1,
        "items that are not in the catalogue": 1,
        "pages of which is not known what stood on them": 1,
    }


def test_a_place_that_nobody_looks_at_is_no_place() -> None:
    """A shop that logs another number as `ordinal`."""
    asked = [{"query_id": "p1", "time": 1, "user_query": "kettle"}]
    asked += [{"query_id": "p2", "time": 2, "user_query": "kettle", "hits": ["k1"] * 500 + ["k2"]}]
    events = [*shown("p1", 1, "k1"), *shown("p1", 1, "k2", first=500)]
    events += [*shown("p1", 1, "k3", first=501), *shown("p1", 1, "k4", first=1_000_000)]
    skipped: Counter[str] = Counter()
    pages = read_pages(logs(asked, events), set(TITLES), skipped)
    assert [page.positions for page in pages] == [{"k1": 1, "k2": 500}, {"k1": 1}]
    assert skipped == {"items beyond place 500": 3}


def test_a_single_zero_does_not_move_all_other_places() -> None:
    """Such as of a client that logs 0 for a place that it does not know."""
    asked = [{"query_id": f"p{n}", "time": n, "user_query": "kettle"} for n in range(4)]
    events = [row for n in range(4) for row in shown(f"p{n}", n, "k1", "k2")]
    skipped: Counter[str] = Counter()
    odd = shown("p3", 3, "k3", first=0)
    pages = read_pages(logs(asked, [*events, *odd]), set(TITLES), skipped)
    assert [page.positions for page in pages] == [{"k1": 1, "k2": 2}] * 4
    assert skipped == {"impressions without a place": 1}


def test_all_documents_of_a_query_say_what_stood_on_its_page() -> None:
    """A client logs without hits what the server logs with them; a second page is of the same
    query."""
    asked = [
        {"query_id": "p1", "time": 1, "user_query": "kettle"},
        {"query_id": "p1", "time": 2, "user_query": "kettle", "hits": ["k1", "k2"]},
        {"query_id": "p2", "time": 3, "user_query": "kettle", "hits": ["k1", "k2"]},
        {"query_id": "p2", "time": 4, "user_query": "kettle", "hits": ["k3", "k4"]},
        {"query_id": "p3", "time": 5, "user_query": "kettle"},
        {"query_id": "p3", "time": 6, "user_query": "kettle", "hits": ["k1", "k2"]},
    ]
    acts = [act("p1", 7, "click", "k2"), act("p2", 8, "click", "k4")]
    noted = shown("p3", 9, "k2") + shown("p3", 9, "k9")
    for row in noted:
        row["ordinal"] = None
    skipped: Counter[str] = Counter()
    pages = read_pages(logs(asked, [*acts, *noted]), set(TITLES), skipped)
    assert [page.positions for page in pages] == [
        {"k1": 1, "k2": 2}, {"k1": 1, "k2": 2, "k3": 3, "k4": 4}, {"k2": 2},
    ]  # fmt: skip
    assert [page.outcomes for page in pages] == [{"k2": 1}, {"k4": 1}, {}]
    assert skipped == {"impressions without a place": 1}


def test_a_page_belongs_to_who_did_something_on_it() -> None:
    """OpenSearch's UBI plugin writes the device alone of a query."""
    asked = [
        {"query_id": f"p{n}", "time": n, "user_query": "kettle", "user": f"device{n}"}
        for n in range(4)
    ]
    shows = [row for n in range(4) for row in shown(f"p{n}", n, "k1", "k2", user=f"device{n}")]
    acts = [
        act("p0", 5, "click", "k1", "u0"), act("p1", 6, "purchase", "k9", "u1"),
        act("p2", 7, "click", "k1"), act("p3", 8, "add_to_cart", "k1", "u3"),
        act("p3", 9, "click", "k1", "later"),
    ]  # fmt: skip
    pages = read_pages(logs(asked, [*shows, *acts]), set(TITLES), Counter())
    assert [page.user for page in pages] == ["u0", "u1", "device2", "u3"]


TIMES = Times(100, 200)


def sequences(*acts: tuple[int, str, str]) -> list[tuple[str, list[str], list[str]]]:
    events = [act("", at, action, item, "u") for at, action, item in acts]
    rows = read_sequences(logs([], events), set(TITLES), TIMES, {}).to_pylist()
    return [(row["split"], row["items"], row["actions"]) for row in rows]


def test_a_user_is_guessed_in_dev_and_test_and_learned_from_before() -> None:
    made = sequences(
        (10, "click", "k1"), (20, "click", "k2"), (21, "purchase", "k2"), (30, "view", "gone"),
        (110, "click", "k3"), (120, "click", "k4"), (210, "view", "k5"),
    )  # fmt: skip
    assert made == [
        ("train", ["k1", "k2"], ["click", "purchase"]),
        ("dev", ["k1", "k2", "k3", "k4"], ["click", "purchase", "click", "click"]),
        ("test", ["k1", "k2", "k3", "k4", "k5"], ["click", "purchase", "click", "click", "view"]),
    ]


def test_what_began_before_is_not_to_be_guessed_after() -> None:
    """Clicked in train and bought in dev: who learned the click knows the item."""
    assert sequences((10, "click", "k1"), (90, "click", "k2"), (110, "purchase", "k2")) == [
        ("train", ["k1", "k2"], ["click", "click"]),
    ]
    # One step alone is no more to be guessed than the first of many, and known of who did it.
    assert sequences((10, "click", "k1")) == [("train", ["k1"], ["click"])]


@pytest.mark.parametrize("action", ["block", "dislike"])
def test_what_a_user_blocks_is_no_step_of_theirs(action: str) -> None:
    made = sequences(
        (10, "click", "k1"), (20, "click", "k2"), (30, action, "k2"), (40, "click", "k1"),
        (50, "click", "k3"), (60, "click", "k4"), (110, "click", "k5"), (120, "click", "k6"),
        (130, action, "k6"), (140, action, "k3"), (210, "view", "k7"), (220, action, "k7"),
    )  # fmt: skip
    assert made == [
        # What is blocked later was liked until then.
        ("train", ["k1", "k3", "k4"], ["click", "click", "click"]),
        ("dev", ["k1", "k4", "k5"], ["click", "click", "click"]),
    ]
    assert sequences((10, "click", "k1"), (20, action, "k1")) == []
    events = [act("", 20, action, "k1", "u"), act("", 130, action, "gone", "v")]
    found = read_blocked(
        logs([], [*events, act("", 9, action, "k1"), act("", 9, "click", "k1", "u")]), TIMES, {}
    )
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("u", "k1", "train"), ("v", "gone", "dev"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("acts", "action"),
    [
        (["click", "watch"], "watch"), (["watch", "click"], "watch"), (["view", "watch"], "watch"),
        (["dwell", "view"], "view"), (["share", "dwell"], "share"), (["view", "click"], "click"),
        (["purchase", "add_to_cart"], "purchase"), (["view", "block", "click"], None),
    ],
)  # fmt: skip
def test_what_is_learned_from_is_what_serves(acts: list[str], action: str | None) -> None:
    """A step of the dataset is one that `sidecar.ranking.taste` reads of the same events."""
    made = sequences(*((10 + n, name, "k1") for n, name in enumerate(acts)))
    blocked = frozenset({"k1"} if "block" in acts else ())
    newest_first = [Interaction("k1", name, 10 + n) for n, name in enumerate(acts)][::-1]
    serves = done(Profile(interactions=tuple(newest_first), blocked_items=blocked))
    assert made == ([("train", ["k1"], [action])] if action else [])
    assert [(event.item_id, event.action) for event in serves] == (
        [("k1", action)] if action else []
    )


def test_a_pages_own_click_is_not_in_the_history_that_it_is_ranked_with() -> None:
    """The server stamps the query, and the client's clock, which stamps the click, is behind."""
    asked = [{"query_id": "p1", "time": 100, "user_query": "kettle", "user": "u"}]
    events = [
        act("", 50, "click", "k9", "u"), *shown("p1", 70, "k1", "k2", "k3", user="u"),
        act("p1", 80, "view", "k3", "u"), act("p1", 90, "click", "k2", "u"),
        act("p1", 95, "dislike", "k1", "u"),
    ]  # fmt: skip
    parts = {"dev_until": "1970-01-01T00:00:00.200Z", "shares": Shares(0, 0)}
    made = build(logs(asked, events), train_until="1970-01-01T00:00:00.200Z", **parts)
    (page,) = set(made.impressions["time"].to_pylist())
    (steps,) = made.sequences.to_pylist()
    before = [item for item, at in zip(steps["items"], steps["times"], strict=True) if at < page]
    assert (before, steps["items"]) == (["k9"], ["k9", "k3", "k2"])
    # Nor in the part before its own.
    shows = {"p1": 100}
    rows = read_sequences(logs(asked, events), set(TITLES), Times(100, 200), shows).to_pylist()
    assert [(row["split"], row["items"]) for row in rows] == [
        ("train", ["k9"]), ("dev", ["k9", "k3", "k2"]),
    ]  # fmt: skip
    assert read_blocked(logs([], events), Times(100, 200), shows)["split"].to_pylist() == ["dev"]


def test_what_goes_on_in_the_next_part_is_as_it_was_in_its_own() -> None:
    made = sequences((110, "click", "k1"), (120, "view", "k1"), (210, "purchase", "k1"))
    assert made == [("dev", ["k1"], ["click"])]


def test_words_of_both_scripts() -> None:
    assert words("ＳＯＮＹ WH-1000xm4 全自动洗碗机!") == [
        "sony", "wh", "1000xm4", "全自", "自动", "动洗", "洗碗", "碗机",
    ]  # fmt: skip


def test_bm25_ranks_in_both_languages() -> None:
    bm25 = Bm25(list(TITLES.values()))
    names = list(TITLES)
    assert names[int(np.argmax(bm25.scores("kettle number 7")))] == "k7"
    assert names[int(np.argmax(bm25.scores("洗碗机 12 号")))] == "z12"
    assert not bm25.scores("trampoline").any()


def test_items_without_a_word_share_none_with_a_query() -> None:
    assert Bm25(["!!!", "???"]).scores("kettle").tolist() == [0.0, 0.0]


def test_unseen_negatives_stand_further_down_and_are_no_ones_wish() -> None:
    found, features = finders().look("electric kettle", np.array([0, 40]))
    assert features[:, 2].tolist() == [1.0, 0.0]
    assert features[0, 1] > 0.9
    assert features[1, 0] == 0
    rows = dict(added(found, {29}, 60, 12, np.random.default_rng(0)))
    assert set(rows) <= set(range(60)) - {29}
    assert len(rows) == 12
    by_bm25 = [row for row, name in rows.items() if name == "bm25"]
    # Of the 30 that BM25 finds, the first 20 are too likely to be relevant.
    assert set(by_bm25) <= set(found.best["bm25"][20:].tolist())
    assert list(rows.values()).count("random") == 12 - len(by_bm25) > 0
    both = Found({"bm25": np.arange(30), "knn": np.arange(30)})
    names = [name for _, name in added(both, set(), 60, 3, np.random.default_rng(0))]
    assert names == ["bm25", "bm25", "knn"]
    assert not list(added(found, {29}, 60, -3, np.random.default_rng(0)))
    assert len(list(added(found, set(range(58)), 60, 12, np.random.default_rng(0)))) == 2


def simulated(pages: int = 3_000) -> tuple[Logs, dict[str, float]]:
    """Users who look at place k with 1/k. Twelve queries in two languages, each always with one
    order of five items, the last of which is liked most."""
    chance = np.random.default_rng(5)
    liking = {0: 0.35, 1: 0.25, 2: 0.2, 3: 0.3, 4: 0.9}
    queries, events = [], []
    for number in range(pages):
        query = number % 12
        text, letter = (f"kettle {query}", "k") if query < 6 else (f"洗碗机 {query}", "z")
        who = {"query_id": f"p{number}", "user": f"u{number % 50}", "time": number * 1_000}
        queries.append(who | {"user_query": text})
        names = [f"{letter}{(query % 6) * 5 + place}" for place in range(5)]
        turn = int(chance.integers(5)) if chance.random() < 0.3 else 0  # another bundle served
        order = names[turn:] + names[:turn]
        events += shown(f"p{number}", who["time"], *order)
        for place, name in enumerate(order, start=1):
            if chance.random() < liking[names.index(name)] / place:
                events.append(act(f"p{number}", who["time"] + place, "click", name, who["user"]))
    return logs(queries, events), liking


def build(source: Logs, **options: Any) -> Dataset:
    chosen = LogOptions(**({"shares": Shares(0.1, 0.1)} | options))
    made = from_logs(source, items(), finders(), chosen, "logs: test", lambda *_told: None)
    made.check()
    return made


def test_a_dataset_of_simulated_users() -> None:
    source, liking = simulated()
    made = build(source)
    assert made.description.propensities.estimator == "harvest"
    assert made.description.propensities.values == pytest.approx(
        [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5], rel=0.15
    )
    labels = {(row["query_id"], row["item_id"]): row["label"] for row in made.examples.to_pylist()}
    of_query = {row["query_id"]: row["text"] for row in made.queries.to_pylist()}
    assert set(made.queries["language"].to_pylist()) == {"en", "zh"}
    train = made.of("queries", "train")["query_id"].to_pylist()
    assert 8 <= len(train) < 12
    for query in train:
        number = int(of_query[query].split()[1])
        letter = "k" if number < 6 else "z"
        found = [labels[query, f"{letter}{number % 6 * 5 + place}"] for place in range(5)]
        assert found == pytest.approx(list(liking.values()), abs=0.17)
    plain = build(source, propensities="none")
    assert set(plain.impressions["propensity"].to_pylist()) == {1.0}
    # Clicks as they are take the first for the best; freed of its place, the last one is.
    best = {"none": Counter[int](), "harvest": Counter[int]()}
    for data in (made, plain):
        rows = data.of("examples", "train").to_pylist()
        for query in train:
            top = max((r for r in rows if r["query_id"] == query), key=lambda row: row["label"])
            best[data.description.propensities.estimator][int(top["item_id"][1:]) % 5] += 1
    assert best["harvest"][4] == len(train)
    assert best["none"][0] > best["none"][4]


def test_parts_are_apart_and_the_query_that_everybody_asks_is_measured_too() -> None:
    source, _ = simulated(1_200)
    made = build(source)
    kept = [row["text"] for row in made.queries.to_pylist() if row["split"] == "test"]
    assert kept
    shown_in_train = made.of("impressions", "train")
    until = made.description.split.train_until
    assert pa.compute.max(shown_in_train["time"]).as_py() < 960_000
    assert until.startswith("1970-01-01T00:16:00")
    texts = made.query_texts()
    assert not {texts[q] for q in shown_in_train["query_id"].to_pylist()} & set(kept)
    assert made.description.counts["skipped"]["pages of queries that are in another part"] > 0
    assert made.of("sequences", "test").num_rows > 0


def test_negatives_seen_first_then_what_a_search_finds() -> None:
    events = [
        *shown("p1", 1, "k1", "k2", "k3"),
        *shown("p2", 2, "k1", "k2", "k3"),
        *shown("p3", 3, "k1", "k2", "k3"),
        act("p1", 2, "click", "k2"),
        act("p2", 3, "purchase", "k2"),
    ]
    asked = [{"query_id": f"p{n}", "time": n, "user_query": "kettle"} for n in (1, 2, 3)]
    made = build(logs(asked, events), shares=Shares(0, 0), propensities="none", negatives=4)
    rows = {row["item_id"]: row for row in made.examples.to_pylist()}
    assert rows["k2"]["label"] > 0
    assert rows["k2"]["negative"] == ""
    # Both are among what BM25 finds for "kettle", and were seen and not clicked.
    assert (rows["k1"]["negative"], rows["k1"]["label"]) == ("bm25", 0.0)
    unseen = set(rows) - {"k1", "k2", "k3"}
    assert len(unseen) == 2
    assert {rows[name]["label"] for name in unseen} == {0.0}
    assert rows["k2"]["query_id"] == query_id("kettle")


def test_what_its_user_blocks_was_looked_at_and_is_not_liked() -> None:
    asked = [{"query_id": f"p{n}", "time": n, "user_query": "kettle", "user": f"u{n}"}
             for n in (1, 2, 3)]  # fmt: skip
    events = [row for n in (1, 2, 3) for row in shown(f"p{n}", n, "k1", "k2", "k3")]
    events += [act("p1", 1, "purchase", "k2", "u1"), act("", 2, "dislike", "k2", "u1")]
    events += [act("p2", 2, "click", "k2", "u2"), act("p3", 3, "click", "k3", "u3")]
    # Later, when the part is over.
    events += [act("", 9, "dislike", "k3", "u3")]
    made = build(
        logs(asked, events), shares=Shares(0, 0), propensities="none",
        train_until="1970-01-01T00:00:00.005Z", dev_until="1970-01-01T00:00:00.008Z",
    )  # fmt: skip
    labels = {row["item_id"]: row["label"] for row in made.examples.to_pylist()}
    # One of three who looked at it likes each.
    assert labels["k2"] == labels["k3"] > labels["k1"] == 0.0
    clicked = [row["item_id"] for row in made.impressions.to_pylist() if row["clicked"]]
    assert sorted(clicked) == ["k2", "k2", "k3"]


def test_what_a_user_blocks_is_not_liked_on_pages_that_name_their_device() -> None:
    asked = [
        {"query_id": f"p{n}", "time": n, "user_query": "kettle", "user": f"d{n}"} for n in (1, 2)
    ]
    events = [row for n in (1, 2) for row in shown(f"p{n}", n, "k1", "k2")]
    events += [act("p1", 1, "click", "k1", "u1"), act("p2", 2, "click", "k2", "u2")]
    events += [act("", 3, "block", "k1", "u1")]
    made = build(
        logs(asked, events), shares=Shares(0, 0), propensities="none",
        train_until="1970-01-01T00:00:00.005Z", dev_until="1970-01-01T00:00:00.008Z",
    )  # fmt: skip
    labels = {row["item_id"]: row["label"] for row in made.examples.to_pylist()}
    assert labels["k1"] == 0
    assert labels["k2"] > 0
    assert set(made.impressions["user_id"].to_pylist()) == {"u1", "u2"}


def test_a_purchase_in_the_test_part_changes_nothing_that_is_learned() -> None:
    asked = [
        {"query_id": f"p{n}", "time": n, "user_query": text}
        for n, text in enumerate(("kettle", "kettle", "kettle number", "dish 洗碗机"), start=1)
    ]
    events = [row for n in range(1, 4) for row in shown(f"p{n}", n, "k1", "k2")]
    events += [
        *shown("p4", 4, "z1", "z2"),
        act("p1", 2, "click", "k2"),
        act("p3", 4, "click", "k2"),
    ]
    times = {
        "train_until": "1970-01-01T00:00:00.003Z", "dev_until": "1970-01-01T00:00:00.004Z",
        "shares": Shares(0, 0), "propensities": "none",
    }  # fmt: skip
    before = build(logs(asked, events), **times)
    after = build(logs(asked, [*events, act("p4", 5, "purchase", "z1")]), **times)
    assert before.of("examples", "train") == after.of("examples", "train")
    assert max(before.of("examples", "train")["label"].to_pylist()) > 0
    bought = [row for row in after.of("examples", "test").to_pylist() if row["item_id"] == "z1"]
    assert 0 < bought[0]["label"] <= 1


def test_what_was_recommended_is_kept_without_a_query() -> None:
    asked = [{"query_id": f"p{n}", "time": n, "user_query": "kettle"} for n in (1, 2, 3)]
    asked += [{"query_id": f"r{n}", "time": n, "user_query": "", "user": "u"} for n in (2, 5)]
    events = [row for n in (1, 2, 3) for row in shown(f"p{n}", n, "k1", "k2")]
    events += [row for n in (2, 5) for row in shown(f"r{n}", n, "z1", "z2", "gone")]
    events += [act("p1", 1, "click", "k2"), act("r2", 3, "click", "z2", "u")]
    made = build(
        logs(asked, events), shares=Shares(0, 0), propensities="none",
        train_until="1970-01-01T00:00:00.004Z", dev_until="1970-01-01T00:00:00.005Z",
    )  # fmt: skip
    rows = [row for row in made.impressions.to_pylist() if not row["query_id"]]
    names = ("page_id", "item_id", "position", "clicked", "split")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("r2", "z1", 1, False, "train"), ("r2", "z2", 2, True, "train"),
        ("r5", "z1", 1, False, "test"), ("r5", "z2", 2, False, "test"),
    ]  # fmt: skip
    assert {row["user_id"] for row in rows} == {"u"}
    # A ranker of texts learns nothing from it, and is not measured by it.
    assert made.queries["text"].to_pylist() == ["kettle"]
    assert logged_pages(made) is None
    assert made.description.counts["recommendations"] == {"train": 1, "test": 1}


def of_one_query(text: str) -> Logs:
    """Shown fifty times as it always is, and clicked."""
    pages = range(50)
    asked = [{"query_id": f"p{n}", "time": n, "user_query": text} for n in pages]
    events = [row for n in pages for row in shown(f"p{n}", n, "k1", "k2", "k3")]
    return logs(asked, events + [act(f"p{n}", n, "click", "k2") for n in pages])


def test_one_query_that_is_learned_from_or_kept() -> None:
    # By their hashes.
    made = build(of_one_query("kettle"))
    assert made.description.propensities.estimator == "none"
    assert "no feature tells items apart" in made.description.counts["propensities"]
    with pytest.raises(InvalidInput, match=r"queries \(1\) is left .* hash .* another --seed"):
        build(of_one_query("lamp"))


def test_logs_that_nothing_can_be_learned_from() -> None:
    asked = [{"query_id": "p1", "time": 1, "user_query": "kettle"}]
    with pytest.raises(InvalidInput, match="One class only: nobody clicked"):
        build(logs(asked, shown("p1", 1, "k1")), shares=Shares(0, 0))
    with pytest.raises(
        InvalidInput, match=r"hold no page .* 1 items that are not in the catalogue"
    ):
        build(logs(asked, shown("p1", 1, "other")))
