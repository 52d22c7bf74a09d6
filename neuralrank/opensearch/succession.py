"""The index that serves, while another is made from it that takes its place behind the alias.

Both ways to make an index anew, from other files (`opensearch_config`) and with another encoder
(`indexer`), fill a generation of `neuralrank.opensearch.generation` out of sight; here is what they
do to the index that serves meanwhile.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import uuid4

from opensearchpy import OpenSearch

from neuralrank.errors import (
    InvalidInput,
    NeuralrankError,
    NotFound,
    Overloaded,
    Unavailable,
    add_sentence,
)
from neuralrank.opensearch.generation import READ_ONLY, alias_of, noted, one_index, put_notes

__all__ = ["WRITE_BLOCK", "Live", "find_live", "lift_left_over", "read_only"]

# The setting of an index that takes no writes.
WRITE_BLOCK: Final = "index.blocks.write"
# Seconds between tries to take it off again.
_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True, slots=True)
class Live:
    """The index that serves under an alias. `body` is what OpenSearch says of it: aliases, mappings
    and settings."""

    alias: str
    index: str
    body: Mapping[str, Any]

    @property
    def noted(self) -> Mapping[str, Any]:
        """`_meta.neuralrank` of its mapping."""
        return noted(self.body["mappings"])


def find_live(client: OpenSearch, name: str) -> Live:
    """The index behind an alias, or of that very name, that `neuralrank index` made.

    Raises:
        NotFound: there is no such alias or index.
        InvalidInput: the name stands for several indexes, or for one that was made otherwise: it
            has no alias of its stem, so that nothing can take its place without a gap.
    """
    index, body = one_index(client, name)
    alias = alias_of(index, body["aliases"])
    if alias is None:
        raise InvalidInput(
            f"Index {index} was not made by `neuralrank index` and has no alias of its stem, so "
            "nothing can take its place without a gap. Make it anew yourself."
        )
    return Live(alias, index, body)


@contextmanager
def read_only(
    client: OpenSearch, index: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Callable[[], None]]:
    """Refuses writes to an index meanwhile; afterwards it is as it was. Gives a check, for right
    before the switch: it raises Unavailable where writes were let in again meanwhile.

    When it begins, every write that was let in before is done: what is read then is all there is.
    The block is noted in the index as ours, so that it is not taken for somebody's own when this
    process is killed: `lift_left_over` takes it off then.

    Raises:
        Unavailable: not every shard said that its writes are done.
        NeuralrankError: the block could not be taken off; the message says how.
    """
    lift_left_over(client, index)
    if _state(client, index).blocked:
        yield lambda: None  # by whoever set it, and so it stays
        return
    mine = uuid4().hex

    def check() -> None:
        if _state(client, index) != _State(True, mine):
            raise Unavailable(
                f"Index {index} may have been written to meanwhile: its block was taken off by "
                "somebody, or by another run. Do it again."
            )

    try:
        _note(client, index, mine)
        _block(client, index)
        yield check
    except BaseException as error:
        try:
            _lift(client, index, mine, sleep)
        except NeuralrankError as failed:
            add_sentence(error, _by_hand(index, failed))
        raise
    try:
        _lift(client, index, mine, sleep)
    except NeuralrankError as failed:
        raise type(failed)(_by_hand(index, failed)) from failed


def lift_left_over(client: OpenSearch, index: str) -> tuple[str, ...]:
    """Lets writes in again where a run that was killed left them refused. What somebody else has
    set stays. A run that still goes on notices (`read_only`), and does not switch.

    Returns:
        What there is to say of it: nothing where writes were not refused.
    """
    state = _state(client, index)
    if not state.noted:
        return ()
    _lift(client, index, state.noted)
    said = f"{index} refused writes, left so by a run that was killed; they are let in again."
    return (said,) if state.blocked else ()


class _State(NamedTuple):
    """Whether an index refuses writes, and whose block `_meta.neuralrank` says it is: ours, or
    empty."""

    blocked: bool
    noted: str


def _state(client: OpenSearch, index: str) -> _State:
    body = client.indices.get(index=index, params={"flat_settings": "true"})[index]
    blocked = body["settings"].get(WRITE_BLOCK) == "true"
    return _State(blocked, str(noted(body["mappings"]).get(READ_ONLY, "")))


def _note(client: OpenSearch, index: str, mine: str | None) -> None:
    mappings = client.indices.get_mapping(index=index)[index]["mappings"]
    notes = {name: value for name, value in noted(mappings).items() if name != READ_ONLY}
    if mine:
        notes[READ_ONLY] = mine
    put_notes(client, index, notes)


def _block(client: OpenSearch, index: str) -> None:
    """A setting alone would not do: a write that is under way when it is set is still accepted, and
    comes after what is read by then. `add_block` waits for those."""
    try:
        answer = client.indices.add_block(index=index, block="write")
    except BaseException:
        # It may have come to OpenSearch, and would be in force after it was taken off: a second one
        # is answered when the first is through.
        client.indices.add_block(index=index, block="write")
        raise
    if not (answer["acknowledged"] and answer["shards_acknowledged"]):
        raise Unavailable(
            f"Index {index} still has writes under way, or one of its shards is away: OpenSearch "
            f"answered {answer}. See GET _cat/shards/{index}, and do it again."
        )


def _lift(
    client: OpenSearch, index: str, mine: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Takes a block of ours off, also where OpenSearch is away for a moment."""
    for wait in (*_WAITS, None):
        try:
            # It may be gone: with `keep` 0 it was an earlier generation of too many.
            with suppress(NotFound):
                # Else another run has its block there by now. Empty: somebody wrote over the note.
                if _state(client, index).noted in (mine, ""):
                    client.indices.put_settings(index=index, body={WRITE_BLOCK: None})
                    _note(client, index, None)
            return
        except (Unavailable, Overloaded):
            if wait is None:
                raise
            sleep(wait)


def _by_hand(index: str, failed: NeuralrankError) -> str:
    return (
        f"Index {index} still refuses writes, since that could not be taken off again: {failed} "
        f'Let them in with PUT {index}/_settings {{"index.blocks.write": null}}; the next run that '
        "makes it anew does so too."
    )
