"""What is remembered of earlier datasets for a personal ranker: users, with what they did and saw.

Which users: those with the lowest hashes, as `trainer.update.memory` has it of queries. A window is
short, and what a user did in it makes sense by what the same user did before: that comes from the
memory, and is given, not guessed (`trainer.personal.behaviour`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset import BLOCKED, SEQUENCES, SPLITS, Dataset
from trainer.dataset.splits import place
from trainer.update.memory import SALT, Memory, all_items, salt_of, sample

__all__ = ["UserMemory"]

# Of one user: newest steps, of which a ranker reads fewer, newest pages of each part, and what they
# blocked last.
_STEPS: Final = 100
_PAGES: Final = 50
_BLOCKED: Final = 1_000
_LISTS: Final = ("items", "actions", "times")
_Row = dict[str, Any]
# By user.
_Items = Mapping[str, set[str]]


@dataclass(frozen=True)
class UserMemory(Memory):
    """Users of train parts (`replay`) and of test parts (`old`), each with a sequence and pages.

    What those of `old` did in the time of a test part is in no sequence of `replay`, so that it is
    never trained on. What a user has blocked stays blocked: what they do with it in later windows
    is no step, and a page that is remembered has no click on it.
    """

    def mixed(self, new: Dataset, share: float) -> Dataset:
        """The new dataset with what its users did before, and with remembered users.

        Queries are kept apart as `Memory.mixed` does it.

        Args:
            share: of the train part's users that are to be remembered ones, in [0, 1).
        """
        made = self.apart(new)
        # What is recommended is of no query, and learned from; it measures nothing.
        recommended = new.impressions.filter(pc.equal(new.impressions["query_id"], ""))
        impressions = pa.concat_tables([made.impressions, recommended])
        made = replace(made, impressions=impressions, blocked=self._blocked(new))
        if self.replay is None or self.old is None:
            return made
        known = _by_user(self.replay.sequences)
        rows: list[_Row] = []
        for part in SPLITS:
            blocked = _until(part, made.blocked)
            came_then = _without(_by_user(made.of("sequences", part)), blocked).values()
            measuring = [row for row in came_then if row["split"] == part]
            rows += _continued(measuring, _without(known, blocked))
        known = _without(known, _until("train", made.blocked))
        came = {row["user_id"] for row in rows}
        fresh = sum(row["split"] == "train" and _guessable(row) for row in rows)
        others = {u: row for u, row in known.items() if u not in came and _guessable(row)}
        taken = _lowest(others, round(fresh * share / (1 - share)), salt_of(new))
        users = {user: others[user] for user in taken}
        # A query measures, or is learned from.
        measures = [new.of("queries", "dev"), new.of("queries", "test"), self.old.queries]
        but = pa.concat_tables(measures)["query_id"]
        shown = _of(self.replay.impressions, "user_id", users)
        shown = shown.filter(pc.invert(pc.is_in(shown["query_id"], but)))
        asked = _of(self.replay.queries, "query_id", shown["query_id"].to_pylist())
        return replace(
            made,
            # One catalogue for all that is learned from and measured with.
            items=all_items([new.items, self.replay.items, self.old.items]),
            queries=_union(made.queries, asked, "query_id"),
            impressions=pa.concat_tables([made.impressions, shown]),
            sequences=pa.Table.from_pylist([*rows, *users.values()], SEQUENCES),
        )

    @staticmethod
    def examples(data: Dataset) -> list[str]:
        pages = pc.unique(data.of("impressions", "train")["page_id"]).to_pylist()
        rows = data.of("sequences", "train").to_pylist()
        return [*pages, *(row["user_id"] for row in rows if _guessable(row))]

    def kept_back(self, data: Dataset) -> Dataset | None:
        if self.old is None:
            return None
        blocked = self._blocked(data)
        rows = _without(_by_user(self.old.sequences), _until("test", blocked)).values()
        sequences = pa.Table.from_pylist(list(rows), SEQUENCES)
        return replace(self.old, sequences=sequences, blocked=blocked)

    def after(self, data: Dataset, most: int) -> Self:
        """
        Args:
            most: users, of each kind.
        """
        came: dict[str, dict[str, _Row]] = {}
        for row in data.sequences.to_pylist():
            came.setdefault(row["user_id"], {})[row["split"]] = row
        old, known = (_by_user(kept.sequences) if kept else {} for kept in (self.old, self.replay))
        # With a page and no sequence, a user is measured as one who had done nothing.
        measured = {*old, *(self.old.impressions["user_id"].to_pylist() if self.old else ())}
        measured |= set(_shown(data, "test")["user_id"].to_pylist()) - {""}
        measured |= {user for user, rows in came.items() if _guessable(rows.get("test"))}
        measured = set(_lowest(measured, most))
        for user, rows in came.items():
            before = rows.get("dev") or rows.get("train")
            if user not in measured:
                known[user] = rows.get("test") or rows[min(rows)]
            elif before:
                known[user] = before
            if _guessable(rows.get("test")):
                old[user] = rows["test"]
            elif before:
                old.setdefault(user, before)
        blocked = self._blocked(data)
        items = _until("test", blocked)
        known, old = _without(known, items), _without(old, items)
        # Of who did nothing but block something, that is remembered.
        kept = _lowest({*known, *items}, most)
        return replace(
            self,
            replay=_remembered(self.replay, data, "train", kept, known, blocked),
            old=_remembered(self.old, data, "test", measured, old, blocked),
            trained=self.trained_with(data),
        )

    def _blocked(self, new: Dataset) -> pa.Table:
        """BLOCKED of the memory and of a dataset, each pair once, where it came first."""
        found: dict[tuple[str, str], _Row] = {}
        for data in (self.replay, self.old, new):
            for row in data.blocked.to_pylist() if data else ():
                pair = row["user_id"], row["item_id"]
                found[pair] = min(row, found.get(pair, row), key=_place)
        return pa.Table.from_pylist(list(found.values()), BLOCKED)


def _remembered(
    old: Dataset | None,
    new: Dataset,
    part: str,
    users: Iterable[str],
    rows: Mapping[str, _Row],
    blocked: pa.Table,
) -> Dataset:
    """Users with their sequences, newest pages of a part, and what they blocked."""
    users = sorted(users)
    shown = _shown(new, part)
    if old is not None:
        shown = _union(shown, old.impressions, "page_id")
    shown = _newest(_of(shown, "user_id", users))
    asked = new.of("queries", part)
    if old is not None:
        asked = _union(asked, old.queries, "query_id")
    sequences = [_cut(rows[user], part) for user in users if user in rows]
    tables = {
        "queries": _of(asked, "query_id", shown["query_id"].to_pylist()),
        "impressions": shown,
        "sequences": pa.Table.from_pylist(sequences, SEQUENCES),
        "blocked": _newest_blocked(_of(blocked, "user_id", users)),
    }
    return sample(part, new, old, tables)


def _shown(data: Dataset, part: str) -> pa.Table:
    """Pages of a part; of the test part those of searches, since no others measure."""
    shown = data.of("impressions", part)
    return shown.filter(pc.not_equal(shown["query_id"], "")) if part == "test" else shown


def _continued(rows: Sequence[_Row], known: Mapping[str, _Row]) -> list[_Row]:
    """Sequences with what is known of their users until then, in order of time: of a page that was
    shown late, an earlier round knows steps that are newer than some of this one's.

    A step that goes on with the item of the one before was not chosen anew, and is left out.
    """
    found = []
    for row in rows:
        before = known.get(row["user_id"])
        if before is None:
            found.append(row)
            continue
        steps: list[tuple[int, bool, str, str]] = []
        for time, new, item, action in sorted([*_steps(before, False), *_steps(row, True)]):
            if time <= row["times"][-1] and not (steps and steps[-1][2] == item):
                steps.append((time, new, item, action))
        # What is to be guessed of those that are kept back is their last step.
        chosen = [new for _, new, _, _ in steps]
        if chosen[-1] or (row["split"] == "train" and any(chosen)):
            times, _, items, actions = zip(*steps, strict=True)
            found.append(row | {"items": items, "actions": actions, "times": times})
    return found


def _without(rows: Mapping[str, _Row], items: _Items) -> dict[str, _Row]:
    """Sequences without what their users have blocked. One that was to be guessed from its other
    steps, and whose last is gone, has nothing to guess any more: it is as the train part has it."""
    found = dict(rows)
    for user in items.keys() & rows.keys():
        row = rows[user]
        steps: list[tuple[Any, ...]] = []
        for step in zip(*(row[name] for name in _LISTS), strict=True):
            if step[0] not in items[user] and not (steps and steps[-1][0] == step[0]):
                steps.append(step)
        if not steps:
            del found[user]
            continue
        last = tuple(row[name][-1] for name in _LISTS)
        split = row["split"] if steps[-1] == last else "train"
        lists = zip(_LISTS, zip(*steps, strict=True), strict=True)
        found[user] = row | dict(lists) | {"split": split}
    return found


def _until(part: str, blocked: pa.Table) -> _Items:
    """What each user has blocked by the end of a part."""
    items: dict[str, set[str]] = defaultdict(set)
    for row in blocked.to_pylist():
        if _place(row) <= SPLITS.index(part):
            items[row["user_id"]].add(row["item_id"])
    return items


def _newest_blocked(blocked: pa.Table) -> pa.Table:
    """What each user has blocked last, as of a time before that of the next dataset."""
    counts: Counter[str] = Counter()
    kept = []
    for row in reversed(blocked.to_pylist()):
        counts[row["user_id"]] += 1
        if counts[row["user_id"]] <= _BLOCKED:
            kept.append(row | {"split": "train"})
    return pa.Table.from_pylist(kept[::-1], BLOCKED)


def _place(row: _Row) -> int:
    return SPLITS.index(row["split"])


def _steps(row: _Row, new: bool) -> Iterator[tuple[int, bool, str, str]]:
    for item, action, time in zip(*(row[name] for name in _LISTS), strict=True):
        yield time, new, item, action


def _newest(shown: pa.Table) -> pa.Table:
    """The newest pages of each user."""
    pages = shown.group_by(["user_id", "page_id"]).aggregate([("time", "max")])
    counts: Counter[str] = Counter()
    kept = []
    for row in pages.sort_by([("time_max", "descending"), ("page_id", "ascending")]).to_pylist():
        counts[row["user_id"]] += 1
        if counts[row["user_id"]] <= _PAGES:
            kept.append(row["page_id"])
    return _of(shown, "page_id", kept)


def _cut(row: _Row, part: str) -> _Row:
    """The newest steps; of one who measures by pages alone as the train part has it."""
    split = part if row["split"] == part else "train"
    return row | {name: row[name][-_STEPS:] for name in _LISTS} | {"split": split}


def _by_user(sequences: pa.Table) -> dict[str, _Row]:
    return {row["user_id"]: row for row in sequences.to_pylist()}


def _guessable(row: _Row | None) -> bool:
    return row is not None and len(row["items"]) > 1


def _lowest(users: Iterable[str], most: int, salt: int | str = SALT) -> list[str]:
    return sorted(users, key=lambda user: (place(user, salt), user))[:most]


def _of(table: pa.Table, column: str, values: Iterable[str]) -> pa.Table:
    return table.filter(pc.is_in(table[column], pa.array(list(values), pa.string())))


def _union(first: pa.Table, more: pa.Table, column: str) -> pa.Table:
    """Both; of what both have, the first."""
    return pa.concat_tables([first, more.filter(pc.invert(pc.is_in(more[column], first[column])))])
