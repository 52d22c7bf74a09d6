"""The index that serves, while another is made from it that takes its place behind the alias.

Both ways to make an index anew, from other files (`opensearch_config`) and with another encoder
(`indexer`), fill a generation of `neuralrank.generation` out of sight; here is what they do to the
index that serves meanwhile.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from opensearchpy import OpenSearch

from neuralrank.errors import InvalidInput, NotFound, Unavailable
from neuralrank.generation import alias_of, noted, one_index

__all__ = ["Live", "find_live", "read_only"]

_BLOCK: Final = "index.blocks.write"


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
def read_only(client: OpenSearch, index: str) -> Iterator[None]:
    """Refuses writes to an index meanwhile; afterwards it is as it was.

    When it begins, every write that was let in before is done: what is read then is all there is.

    Raises:
        Unavailable: not every shard said that its writes are done.
    """
    flat = client.indices.get_settings(index=index, params={"flat_settings": "true"})
    if flat[index]["settings"].get(_BLOCK) == "true":
        yield  # by whoever set it, and so it stays
        return
    try:
        _block(client, index)
        yield
    finally:
        # It may be gone: with `keep` 0 it was an earlier generation of too many.
        with suppress(NotFound):
            client.indices.put_settings(index=index, body={_BLOCK: None})


def _block(client: OpenSearch, index: str) -> None:
    """A setting alone would not do: a write that is under way when it is set is still accepted, and
    comes after what is read by then. `add_block` waits for those."""
    answer = client.indices.add_block(index=index, block="write")
    if not (answer["acknowledged"] and answer["shards_acknowledged"]):
        raise Unavailable(
            f"Index {index} still has writes under way, or one of its shards is away: OpenSearch "
            f"answered {answer}. See GET _cat/shards/{index}, and do it again."
        )
