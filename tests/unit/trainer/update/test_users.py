"""Users that are remembered: what they did before is known, what measures is never learned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.trainer.evaluation.shop import ITEM, dataset, page
from trainer.dataset import BLOCKED, Dataset, Window
from trainer.update.users import UserMemory

THINGS = list(ITEM)
DAY = 1_000


def did(user: str, items: str, day: int, part: str = "train") -> dict[str, Any]:
    """A sequence of items by number, on one day."""
    names = [THINGS[int(place)] for place in items]
    return {
        "user_id": user,
        "items": names,
        "actions": ["click"] * len(names),
        "times": [day * DAY + n for n in range(len(names))],
        "split": part,
    }


def window(*sequences: dict[str, Any], pages: tuple[list[dict[str, Any]], ...] = ()) -> Dataset:
    """What came in a window; the shop's queries t1 (train), d1 (dev) and e1 to e4 (test) were
    asked."""
    return dataset(sequences=list(sequences), impressions=[row for each in pages for row in each])


def seen(user: str, name: str, query: str = "t1", part: str = "train") -> list[dict[str, Any]]:
    return page(query, part, name, user, "phone-3 phone-1", "phone-1")


def steps(data: Dataset | None, part: str = "train") -> dict[str, str]:
    """What users did, by number of item."""
    assert data is not None
    return {
        row["user_id"]: "".join(str(THINGS.index(item)) for item in row["items"])
        for row in data.of("sequences", part).to_pylist()
    }


def pages_of(data: Dataset | None, part: str) -> set[str]:
    assert data is not None
    return set(data.of("impressions", part)["page_id"].to_pylist())


def test_what_a_user_did_before_is_known_in_the_next_window() -> None:
    first = window(did("u", "01", 1), did("v", "2", 1), did("v", "23", 1, "test"))
    memory = UserMemory().after(UserMemory().mixed(first, 0.5), 10)
    second = window(did("u", "34", 2), did("v", "4", 2), did("w", "0", 2))
    found = memory.mixed(second, 0.0)
    found.check()
    # v's 3 measured, and is not learned; nobody knows what w did before.
    assert steps(found) == {"u": "0134", "v": "24", "w": "0"}
    # Who goes on with the same item has chosen nothing new.
    again = memory.mixed(window(did("u", "12", 2), did("v", "2", 2)), 0.0)
    assert steps(again) == {"u": "012"}


def blocked(data: Dataset, *rows: tuple[str, int, str]) -> Dataset:
    named = [{"user_id": u, "item_id": THINGS[n], "split": part} for u, n, part in rows]
    return replace(data, blocked=pa.Table.from_pylist(named, BLOCKED))


def test_what_a_user_blocks_is_remembered_no_more() -> None:
    users = {"u": "0121", "v": "2", "w": "0", "x": "121"}
    memory = UserMemory().after(window(*(did(user, had, 1) for user, had in users.items())), 10)
    second = blocked(
        window(did("u", "34", 2)),
        ("u", 2, "train"), ("v", 2, "test"), ("u", 0, "dev"), ("x", 2, "test"),
    )  # fmt: skip
    # What is blocked after the train part is liked there.
    assert steps(memory.mixed(second, 0.0)) == {"u": "0134"}
    after = memory.after(memory.mixed(second, 0.0), 10)
    assert steps(after.replay) == {"u": "134", "w": "0", "x": "1"}


def test_what_was_blocked_in_an_earlier_window_is_no_step_in_later_ones() -> None:
    first = blocked(window(did("u", "01", 1)), ("u", 3, "test"), ("w", 3, "train"))
    memory = UserMemory().after(UserMemory().mixed(first, 0.5), 10)
    for day, known, new in ((2, "01", "4"), (3, "0120", "5")):
        parts = did("u", "232", day), did("u", "2320", day, "dev")
        others = did("w", f"3{new}", day), did("w", f"3{new}3", day, "test")
        found = memory.mixed(window(*parts, *others), 0.0)
        found.check()
        assert steps(found) == {"u": f"{known}2", "w": "45"[: day - 1]}
        assert steps(found, "dev") == {"u": f"{known}20"}
        # What w would be asked is what they do not want, and the step before it is trained on.
        assert steps(found, "test") == {}
        memory = memory.after(found, 10)
    few = UserMemory().after(first, 1).replay
    assert few is not None
    assert few.blocked["user_id"].to_pylist() in (["u"], ["w"])


def test_what_is_blocked_later_measures_no_more() -> None:
    first = window(did("u", "01", 1), did("u", "013", 1, "test"), did("v", "013", 1, "test"))
    memory = UserMemory().after(UserMemory().mixed(first, 0.5), 10)
    assert steps(memory.old, "test") == {"u": "013", "v": "013"}
    second = memory.mixed(
        blocked(window(did("u", "4", 2)), ("u", 3, "train"), ("v", 0, "dev")), 0.5
    )
    for old in (memory.kept_back(second), memory.after(second, 10).old):
        # What comes before u's target was learned from, and measures nothing.
        assert steps(old, "test") == {"v": "13"}
        assert steps(old) == {"u": "01"}


def test_a_page_that_is_replayed_has_no_click_on_what_is_blocked_since() -> None:
    phone = THINGS.index("phone-1")
    memory = UserMemory().after(window(did("u", "01", 1), pages=(seen("u", "p1"),)), 10)
    second = memory.mixed(blocked(window(did("u", "4", 2)), ("u", phone, "train")), 0.5)
    for blocked_then in (second, memory.after(second, 10).replay):
        assert blocked_then is not None
        assert blocked_then.blocked.to_pylist() == [
            {"user_id": "u", "item_id": "phone-1", "split": "train"}
        ]
    third = memory.after(second, 10).mixed(window(did("w", "01", 3), did("x", "01", 3)), 0.5)
    assert pages_of(third, "train") == {"p1"}
    assert third.blocked.num_rows == 1


def test_what_came_late_is_put_in_its_place() -> None:
    memory = UserMemory().after(window(did("u", "03", 1)), 10)
    late = {**did("u", "1", 1), "times": [DAY]}  # at the time of 0, before 3
    rows = (late, did("u", "15", 1, "dev") | {"times": [DAY, 2 * DAY]})
    found = memory.mixed(window(*rows), 0.0)
    assert steps(found) == {"u": "01"}
    assert steps(found, "dev") == {"u": "0135"}


def test_remembered_users_are_the_share_that_is_asked_for_with_their_pages() -> None:
    old = window(*(did(f"old-{n}", "01", 1) for n in range(50)),
                 pages=tuple(seen(f"old-{n}", f"p{n}") for n in range(50)))  # fmt: skip
    memory = UserMemory().after(old, 100)
    new = window(*(did(f"new-{n}", "23", 2) for n in range(10)), pages=(seen("new-0", "new"),))
    for share, expected in ((0.5, 10), (0.2, 2), (0.0, 0)):
        found = memory.mixed(new, share)
        found.check()
        users = {user for user in steps(found) if user.startswith("old-")}
        assert len(users) == expected
        shown = pages_of(found, "train") - {"new"}
        assert shown == {user.replace("old-", "p") for user in users}
        examples = memory.examples(found)
        assert len(examples) == len(set(examples)) == 10 + 1 + 2 * expected


def test_in_time_all_remembered_users_are_replayed() -> None:
    memory = UserMemory().after(window(*(did(f"old-{n}", "01", 1) for n in range(50))), 100)
    new = window(*(did(f"new-{n}", "23", 2) for n in range(10)))
    drawn: set[str] = set()
    for day in range(30):
        described = new.description.model_copy(update={"window": Window(since=f"day {day}")})
        drawn |= set(steps(memory.mixed(replace(new, description=described), 0.5)))
    assert len(drawn) >= 10 + 48


def test_what_measures_is_never_learned() -> None:
    """u clicks on a page of the test part in the first window, and comes again in two more."""
    first = window(did("u", "01", 1), did("u", "0123", 1, "test"),
                   pages=(seen("u", "kept", "e1", "test"),))  # fmt: skip
    memory = UserMemory().after(first, 10)
    assert steps(memory.old, "test") == {"u": "0123"}
    assert steps(memory.replay) == {"u": "01"}
    assert pages_of(memory.old, "test") == {"kept"}
    second = memory.mixed(window(did("u", "45", 2), pages=(seen("u", "later"),)), 0.5)
    assert steps(second) == {"u": "0145"}
    memory = memory.after(second, 10)
    assert steps(memory.old, "test") == {"u": "0123"}
    assert steps(memory.replay) == {"u": "0145"}
    # What was learned from is not measured with: the query of a page, in whatever part it comes.
    third = memory.mixed(window(did("z", "01", 3), pages=(seen("z", "third", "e1", "test"),)), 0.5)
    assert pages_of(third, "test") == {"third"}
    assert steps(third) == {"u": "0145", "z": "01"}
    assert pages_of(third, "train") == {"later"}


def test_newer_targets_take_the_place_of_older_ones() -> None:
    memory = UserMemory().after(window(did("u", "01", 1, "test")), 10)
    memory = memory.after(
        memory.mixed(window(did("u", "2", 2), did("u", "23", 2, "test")), 0.5), 10
    )
    assert steps(memory.old, "test") == {"u": "23"}
    assert steps(memory.replay) == {"u": "2"}


def test_of_who_saw_a_page_and_did_nothing_later_it_is_known_what_came_before() -> None:
    shown = (seen("u", "kept", "e1", "test"), seen("", "nobodys", "e1", "test"))
    memory = UserMemory().after(window(did("u", "01", 1), pages=shown), 10)
    assert steps(memory.old) == {"u": "01"}
    assert pages_of(memory.old, "test") == {"kept"}


def test_what_was_recommended_is_of_no_query_and_kept() -> None:
    memory = UserMemory()
    first = window(did("u", "01", 1), did("v", "2", 1), pages=(seen("u", "r1", query=""),))
    found = memory.mixed(first, 0.5)
    found.check()
    assert pages_of(found, "train") == {"r1"}
    memory = memory.after(found, 10)
    second = window(
        did("w", "12", 2), did("x", "3", 2),
        pages=(seen("w", "r2", query=""), seen("w", "p2"), seen("w", "r3", "", "test")),
    )  # fmt: skip
    found = memory.mixed(second, 0.5)
    found.check()
    assert pages_of(found, "train") == {"r1", "r2", "p2"}


def test_it_never_grows_beyond_its_size() -> None:
    memory = UserMemory()
    for day in range(1, 7):
        users = [f"{day}-{n}" for n in range(20)]
        parts = [did(user, "01", day, part) for user in users for part in ("train",)]
        tests = [did(f"t{user}", "01", day, "test") for user in users]
        memory = memory.after(memory.mixed(window(*parts, *tests), 0.5), 30)
    for data, part in ((memory.replay, "train"), (memory.old, "test")):
        kept = steps(data, part)
        assert len(kept) == 30
        days = {user.lstrip("t")[0] for user in kept}
        assert len(days) > 3
    long = UserMemory().after(window(did("u", "01" * 150, 1)), 10)
    assert len(steps(long.replay)["u"]) == 100
    many = UserMemory().after(window(pages=tuple(seen("u", f"{n}") for n in range(60))), 10)
    assert len(pages_of(many.replay, "train")) in (0, 50)


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    memory = UserMemory().after(window(did("u", "01", 1), did("v", "01", 1, "test")), 10)
    memory.write(tmp_path)
    found = UserMemory.open(tmp_path)
    assert type(found) is UserMemory
    assert steps(found.replay) == steps(memory.replay)
    assert steps(found.old, "test") == {"v": "01"}


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_nothing_is_remembered_at_first(share: float) -> None:
    new = window(did("u", "01", 1))
    assert steps(UserMemory().mixed(new, share)) == {"u": "01"}
