"""From a trained ranker to a bundle that is known to compute the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import orjson
import torch
from numpy.typing import NDArray

from neuralrank.bundles.bundle import MODEL, Bundle, write_bundle
from neuralrank.errors import InvalidBundle
from neuralrank.files.whole import whole_folder
from neuralrank.personal.inputs import ACTIONS, FEATURES, HEADS, PAIRS
from neuralrank.personal.item_knn import ItemKnn
from neuralrank.personal.ranker import ITEMS, PersonalRanker, golden_scores
from trainer.personal.graph import write_graph
from trainer.personal.lists import List, Lists
from trainer.personal.ranker import RankerModel
from trainer.personal.weighing import served_scores, weighed

__all__ = ["Agreement", "Scale", "export"]

# Lists on which the bundle is compared with torch.
_SAMPLE: Final = 64
# Other kernels add in another order.
_EXACT: Final = 1e-3
_TOLERANCE: Final = 0.01


@dataclass(frozen=True)
class Scale:
    """Of each head, the scores that become 0 and 1."""

    heads: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """How the bundle's scores compare with torch's, on lists of real users."""

    lists: int
    difference: float
    # Share of pairs of a list's items that both order alike, of those that torch sets apart.
    order: float

    def metrics(self) -> dict[str, float]:
        """For the manifest."""
        return {"onnx difference": self.difference, "onnx order": self.order}


def export(
    model: RankerModel,
    lists: Lists,
    dev: Sequence[List],
    scale: Scale,
    folder: Path,
    fields: Mapping[str, Any],
    knn: ItemKnn | None = None,
) -> tuple[Bundle, Agreement]:
    """Writes the bundle of a model into a folder, replacing what is there; where it raises, nothing
    is replaced.

    Args:
        dev: lists of the dev part. On some it is compared with torch, through the code that serves;
            by all of them it is found what `knn` counts beside the network.
        fields: the manifest's name, source, metrics and so on.
        knn: what users had together, without the last steps of the dev part; None: the bundle does
            not know.

    Raises:
        InvalidBundle: the runtime can't load it, or it does not compute what torch does.
        OSError: such as from a full disk.
    """
    with whole_folder(folder) as unfinished:
        agreement = _export(model, lists, dev, scale, unfinished, fields, knn)
    return Bundle.open(folder), agreement


def _export(
    model: RankerModel,
    lists: Lists,
    dev: Sequence[List],
    scale: Scale,
    folder: Path,
    fields: Mapping[str, Any],
    knn: ItemKnn | None,
) -> Agreement:
    """Fills an empty folder with the bundle, and compares it with torch."""
    onnx.save(write_graph(model, scale.heads, scale.low, scale.high), str(folder / MODEL))
    if model.shape.items:
        shop = lists.behaviour.shop
        names = np.full(model.shape.items, "", object)
        rows = np.flatnonzero(lists.known)
        names[lists.known[rows] - 1] = [shop.ids[row] for row in rows]
        (folder / ITEMS).write_bytes(orjson.dumps(names.tolist()))
    given: dict[str, Any] = {
        **fields,
        "kind": "personal_ranker",
        "dimensions": model.shape.dimensions,
        "logit": {"low": 0.0, "high": 1.0},
        "personal": {
            "encoder": lists.behaviour.shop.encoder,
            "events": lists.events,
            "heads": scale.heads,
            "actions": ACTIONS,
            "features": FEATURES,
            "pairs": PAIRS,
        },
    }
    made = PersonalRanker(write_bundle(folder, given))
    sample = dev[:: max(1, len(dev) // _SAMPLE)][:_SAMPLE]
    agreement = _compare(model, made, lists, sample, scale)
    if agreement.difference > _EXACT or agreement.order < 1.0:
        raise InvalidBundle(
            f"The exported graph gives other scores than torch: up to {agreement.difference:.2g} "
            f"apart on {agreement.lists} lists (allowed {_EXACT:.0e}), {agreement.order:.2%} "
            "ordered alike. It is not published; please report this."
        )
    given["golden"] = [
        {"texts": [head], "values": golden_scores(made, head).tolist()} for head in scale.heads
    ]
    given["golden_tolerance"] = _TOLERANCE
    given["metrics"] = {**given.get("metrics", {}), **agreement.metrics()}
    if knn is not None:
        knn.write(folder)
        shares, metrics = weighed(made, knn, lists, dev)
        given["item_knn"] = [share.model_dump() for share in shares]
        given["metrics"] |= metrics
    bundle = write_bundle(folder, given)
    PersonalRanker.load(bundle)
    return agreement


def _compare(
    model: RankerModel,
    served: PersonalRanker,
    lists: Lists,
    sample: Sequence[List],
    scale: Scale,
) -> Agreement:
    difference, alike, clear = 0.0, 0, 0
    for one in sample:
        wanted, found = _torch(model, lists, one, scale), served_scores(served, lists, one)
        if not np.isfinite(found).all():
            raise InvalidBundle("The exported graph gives NaN or infinity. It is not published.")
        difference = max(difference, float(np.abs(wanted - found).max()))
        apart = wanted[:, None] - wanted > 1e-4
        clear += int(apart.sum())
        alike += int((found[:, None] > found)[apart].sum())
    return Agreement(len(sample), difference, alike / clear if clear else 1.0)


def _torch(model: RankerModel, lists: Lists, one: List, scale: Scale) -> NDArray[np.float32]:
    with torch.no_grad():
        scores = model.eval()(lists.batch([one]).inputs)[0, :, one.head].numpy()
    place = scale.heads.index(HEADS[one.head])
    low, high = scale.low[place], scale.high[place]
    return np.asarray((scores - low) / (high - low), np.float32)
