"""The catalogue as the personal ranker reads it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from neuralrank.bundles.bundle import Calibration
from neuralrank.catalogue.product import headline
from neuralrank.encoders.encoder import Encoder
from neuralrank.personal.inputs import Columns
from trainer.dataset.finding import item_vectors

__all__ = ["Shop"]

_AS_IT_IS: Final = Calibration(low=0.0, high=1.0)


@dataclass(frozen=True)
class Shop:
    """The items; their number is their place here."""

    ids: tuple[str, ...]
    # float32 [items, d], of length 1, of the encoder whose name@hash is given.
    vectors: NDArray[np.float32]
    columns: Columns
    encoder: str
    # Of that encoder: which cosines unrelated items and near duplicates have.
    similarity: Calibration = _AS_IT_IS

    @classmethod
    def of(
        cls, items: pa.Table, encoder: Encoder, cache: Path, progress: Callable[[int, int], None]
    ) -> Self:
        """
        Args:
            items: ITEMS of a dataset.
            encoder: the index's: its vectors are what serves.
            cache: the folder where vectors are kept.
            progress: is told how many are encoded, of how many.
        """
        rows = items.select(["title", "brand"]).to_pylist()
        categories = [
            [part for part in path.split(" > ") if part] for path in items["category"].to_pylist()
        ]
        prices = items["price"].to_numpy(zero_copy_only=False)
        return cls(
            tuple(items["item_id"].to_pylist()),
            item_vectors(encoder, [headline(row) for row in rows], cache, progress),
            Columns.of(items["brand"].to_pylist(), categories, prices, {}),
            encoder.ref,
            encoder.bundle.manifest.item_similarity,
        )

    @cached_property
    def hash(self) -> str:
        """Of what rankers read of the items: another catalogue's, or another encoder's, differs."""
        columns = (self.columns.brand, self.columns.categories, self.columns.price)
        digest = hashlib.sha256()
        for part in (self.vectors, *columns):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.ids)}
