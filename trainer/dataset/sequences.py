"""What each user did, one item after the other, for guessing the next."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from trainer.dataset.format import SEQUENCES
from trainer.dataset.pages import OUTCOMES
from trainer.dataset.splits import Times
from trainer.feedback import Logs

__all__ = ["read_sequences"]

_IMPRESSION: Final = "impression"


@dataclass(slots=True)
class _Step:
    """One item, and all that a user did with it before going on to another."""

    item: str
    action: str  # what says most
    first: int  # ms
    last: int


def read_sequences(logs: Logs, known: set[str], times: Times) -> pa.Table:
    """SEQUENCES of all users who did something.

    A user has one in train: what happened before `train_until`. What came in dev and in test has
    one each, up to the last step that began then; that step is what is to be guessed, and in no
    train sequence.

    Args:
        known: the items that there are; others are left out.
    """
    of_user: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    events = logs.events.filter(pc.not_equal(logs.events["action"], _IMPRESSION))
    for batch in events.select(["user", "time", "item_id", "action"]).to_batches():
        for row in batch.to_pylist():
            if row["user"] and row["item_id"] in known:
                of_user[row["user"]].append((row["time"], row["item_id"], row["action"]))
    rows: list[dict[str, Any]] = []
    for user, acts in of_user.items():
        acts.sort()
        before = [act for act in acts if times.part(act[0]) == "train"]
        rows += _row(user, _steps(before), "train")
        steps = _steps(acts)
        for part in ("dev", "test"):
            ends = [n for n, step in enumerate(steps, start=1) if times.part(step.first) == part]
            if ends:
                rows += _row(user, _until(steps[: ends[-1]], times, part), part)
    return pa.Table.from_pylist(rows, SEQUENCES)


def _steps(acts: Sequence[tuple[int, str, str]]) -> list[_Step]:
    """Acts on one item in a row are one step."""
    steps: list[_Step] = []
    for time, item, action in acts:
        if steps and steps[-1].item == item:
            last = steps[-1]
            last.last = time
            last.action = max(last.action, action, key=lambda name: OUTCOMES.get(name, 0))
        else:
            steps.append(_Step(item, action, time, time))
    return steps


def _until(steps: list[_Step], times: Times, part: str) -> list[_Step]:
    """With the last step cut to what belongs to its part: it may go on in the next."""
    *history, target = steps
    inside = target.last if times.part(target.last) == part else target.first
    return [*history, _Step(target.item, target.action, target.first, inside)]


def _row(user: str, steps: list[_Step], split: str) -> list[dict[str, Any]]:
    if not steps:
        return []
    return [
        {
            "user_id": user,
            "items": [step.item for step in steps],
            "actions": [step.action for step in steps],
            "times": [step.last for step in steps],
            "split": split,
        }
    ]
