"""The ranker that a training begins with: a new one, or that of a bundle."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from neuralrank.bundles.bundle import Bundle
from neuralrank.errors import InvalidBundle
from neuralrank.personal.inputs import ACTIONS, FEATURES, HEADS, PAIRS
from neuralrank.personal.item_knn import ItemKnn
from neuralrank.personal.ranker import item_numbers
from trainer.personal.behaviour import Behaviour
from trainer.personal.lists import Lists
from trainer.personal.ranker import RankerModel, RankerShape
from trainer.personal.sequences import Numbers

__all__ = ["Source", "beginning", "known_items", "read_source"]

# What has a row for each item with an embedding, in the order of `items.json`; 0 is none.
_OF_ITEMS: Final = ("identity.weight", "prior.weight")
_LAST: Final = "score.5"


@dataclass(frozen=True, eq=False)
class Source:
    """What a bundle holds, to be trained further."""

    ref: str
    # Whose vectors it reads, name@hash.
    encoder: str
    # The most events that it reads.
    events: int
    # By the names that `RankerModel` has for them.
    weights: Mapping[str, NDArray[np.float32]]
    # Places of items in `identity.weight`, from 1, by id.
    items: Mapping[str, int]
    # What users had together; None: it does not know.
    knn: ItemKnn | None = None

    @property
    def width(self) -> int:
        return len(self.weights["tower.bias"])


def read_source(bundle: Bundle) -> Source:
    """
    Raises:
        InvalidBundle: it is no personal ranker, is damaged, or reads other columns than this
            version trains.
    """
    reads = bundle.manifest.personal
    if reads is None:
        raise InvalidBundle(f"{bundle.ref} is of kind {bundle.manifest.kind}, not personal_ranker.")
    columns = (reads.actions, reads.features, reads.pairs)
    if columns != (ACTIONS, FEATURES, PAIRS):
        raise InvalidBundle(
            f"{bundle.ref} reads other columns than this version trains ({', '.join(FEATURES)}; "
            f"{', '.join(PAIRS)}). Train anew: neuralrank train personal."
        )
    try:
        graph = onnx.load(str(bundle.model)).graph
        given = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        weights = _weights(given, [reads.heads.index(h) if h in reads.heads else -1 for h in HEADS])
    except (KeyError, ValueError, OSError) as error:
        raise InvalidBundle(
            f"{bundle.model} is no graph of `neuralrank train personal`: {error!r}. Train anew."
        ) from error
    return Source(
        bundle.ref, reads.encoder, reads.events, weights, item_numbers(bundle),
        ItemKnn.read(bundle),
    )  # fmt: skip


def _weights(given: Mapping[str, NDArray[Any]], heads: list[int]) -> dict[str, NDArray[np.float32]]:
    """What `trainer.personal.graph` wrote, by the names of the model.

    Args:
        heads: of each head its place in the graph; -1, the last: it was not trained. It begins as
            the one for recommendations, which searches took until now.
    """
    found = {
        name: given[name]
        for name in ("centre", "feature_mean", "feature_scale", "pair_scale", "action.weight",
                     "identity.weight")
    }  # fmt: skip
    for layer in ("tower", "pair.0", "pair.2", "attention", "value", "score.0", "score.3"):
        found[f"{layer}.weight"] = given[f"{layer}.weight.t"].T
        found[f"{layer}.bias"] = given[f"{layer}.bias"]
    found[f"{_LAST}.weight"] = given["score.out.weight"].T[heads]
    found[f"{_LAST}.bias"] = given["score.out.bias"][heads]
    found["closeness"] = np.log(given["closeness"])[heads]
    found["prior.weight"] = given["prior.table"][:, heads]
    return found


def known_items(behaviour: Behaviour, least: int, kept: Collection[str] = ()) -> Numbers:
    """Numbers of id embeddings by item, int64 [items]; 0: the item has too few events for one.

    Args:
        least: events of the train part; 0: no item has one for its events.
        kept: ids of items that have one all the same.
    """
    often = (behaviour.counts() >= least) & (least > 0)
    often |= np.array([name in kept for name in behaviour.shop.ids], bool)
    return np.where(often, np.cumsum(often), 0).astype(np.int64)


def beginning(lists: Lists, width: int, seed: int, source: Source | None = None) -> RankerModel:
    """The model before training.

    Args:
        width: of a new one; a source has its own.

    Raises:
        InvalidBundle: the source has other shapes.
    """
    torch.manual_seed(seed)
    shape = RankerShape(
        lists.behaviour.shop.vectors.shape[1], len(FEATURES), len(PAIRS),
        items=int(lists.known.max(initial=0)), width=source.width if source else width,
    )  # fmt: skip
    model = RankerModel(shape)
    with torch.no_grad():
        if source is None:
            lists.standardise(model, np.random.default_rng(seed))
        else:
            _take(source, model, lists)
    return model


def _take(source: Source, model: RankerModel, lists: Lists) -> None:
    """Copies the weights; an item that the source doesn't know keeps its new embedding."""
    ids = lists.behaviour.shop.ids
    rows = np.flatnonzero(lists.known)
    theirs = np.array([source.items.get(ids[row], 0) for row in rows], np.int64)
    rows, theirs = rows[theirs > 0], theirs[theirs > 0]
    state: dict[str, Tensor] = model.state_dict()
    try:
        for name, value in state.items():
            given = torch.from_numpy(np.array(source.weights[name], np.float32))
            if name in _OF_ITEMS:
                value[torch.from_numpy(lists.known[rows])] = given[torch.from_numpy(theirs)]
            else:
                value.copy_(given)
    except (KeyError, IndexError, RuntimeError) as error:
        raise InvalidBundle(
            f"{source.ref} can't be trained further: {error}. Train anew: neuralrank train "
            "personal."
        ) from error
