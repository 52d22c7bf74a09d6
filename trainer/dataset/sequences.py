"""What each user did, one item after the other, for guessing the next."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from neuralrank.personal.inputs import says_most
from neuralrank.ubi import BLOCKS
from trainer.dataset.format import BLOCKED, SEQUENCES, SPLITS
from trainer.dataset.splits import Times
from trainer.feedback import Logs

__all__ = ["read_blocked", "read_sequences"]

_IMPRESSION: Final = "impression"
# Time in ms, item and action.
_Act = tuple[int, str, str]


@dataclass(slots=True)
class _Step:
    """One item, and all that a user did with it before going on to another."""

    item: str
    action: str  # what says most, as `neuralrank.personal.inputs` has it
    first: int  # ms
    last: int


def read_sequences(logs: Logs, known: set[str], times: Times, shown: Mapping[str, int]) -> pa.Table:
    """SEQUENCES of all users who did something.

    A user has one in train: what happened before `train_until`. What came in dev and in test has
    one each, up to the last step that began then; that step is what is to be guessed, and in no
    train sequence. What a user blocks or dislikes by the end of a part is no step of theirs there,
    whatever they did with it before or after.

    Args:
        known: the items that there are; others are left out.
        shown: see `_acts`.
    """
    of_user: dict[str, list[_Act]] = defaultdict(list)
    events = logs.events.filter(pc.not_equal(logs.events["action"], _IMPRESSION))
    for user, act in _acts(events, shown):
        if act[1] in known:
            of_user[user].append(act)
    rows: list[dict[str, Any]] = []
    for user, acts in of_user.items():
        # What counts as of one time stays in the order in which it was logged.
        acts.sort(key=lambda act: act[0])
        for part, end in zip(SPLITS, (times.train_until, times.dev_until, math.inf), strict=True):
            steps = _steps(_wanted([act for act in acts if act[0] < end]))
            if steps and times.part(steps[-1].first) == part:
                rows.append(_row(user, steps, part))
    return pa.Table.from_pylist(rows, SEQUENCES)


def read_blocked(logs: Logs, times: Times, shown: Mapping[str, int]) -> pa.Table:
    """BLOCKED of all users, of items that are in no catalogue any more, too.

    Args:
        shown: see `_acts`.
    """
    events = logs.events.filter(pc.is_in(logs.events["action"], pa.array(BLOCKS)))
    rows = [
        {"user_id": user, "item_id": item, "split": times.part(time)}
        for user, (time, item, _) in _acts(events, shown)
        if item
    ]
    return pa.Table.from_pylist(rows, BLOCKED)


def _acts(events: pa.Table, shown: Mapping[str, int]) -> Iterator[tuple[str, _Act]]:
    """Users and what they did, nothing before the page that it was done on: a client's clock may be
    behind, and what was clicked on a page would be known when the page is to be ranked.

    Args:
        shown: when each page was, by its query_id, ms.
    """
    ordered = events.sort_by([(name, "ascending") for name in ("time", "item_id", "action")])
    for batch in ordered.select(["user", "query_id", "time", "item_id", "action"]).to_batches():
        for row in batch.to_pylist():
            if row["user"]:
                time = max(row["time"], shown.get(row["query_id"], row["time"]))
                yield row["user"], (time, row["item_id"], row["action"])


def _wanted(acts: Sequence[_Act]) -> list[_Act]:
    """Acts on what the user has not blocked."""
    blocked = {item for _, item, action in acts if action in BLOCKS}
    return [act for act in acts if act[1] not in blocked]


def _steps(acts: Sequence[_Act]) -> list[_Step]:
    """Acts on one item in a row are one step."""
    steps: list[_Step] = []
    for time, item, action in acts:
        if steps and steps[-1].item == item:
            last = steps[-1]
            last.last = time
            last.action = says_most(last.action, action)
        else:
            steps.append(_Step(item, action, time, time))
    return steps


def _row(user: str, steps: Sequence[_Step], split: str) -> dict[str, Any]:
    return {
        "user_id": user,
        "items": [step.item for step in steps],
        "actions": [step.action for step in steps],
        "times": [step.last for step in steps],
        "split": split,
    }
