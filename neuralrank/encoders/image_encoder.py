"""The image encoder: photos to vectors whose cosine says how alike things look."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuralrank.backends.onnxruntime import OnnxRuntime, open_session
from neuralrank.bundles.bundle import Bundle, Calibration, ImageInputs
from neuralrank.bundles.golden import require_same, require_shape, running
from neuralrank.encoders.pictures import Picture, read_picture
from neuralrank.errors import InvalidBundle

__all__ = ["ALIKE", "GOLDEN", "ImageEncoder"]

Vectors = NDArray[np.float32]

# What a golden vector is of: the picture of `golden_vector`, the same for every bundle.
GOLDEN: Final = "waves"
# What cosines mean of photos of which nothing was measured: those of different things have 0.3,
# near duplicates 0.9. Each catalogue of more than a few photos measures its own (`indexer.photos`).
ALIKE: Final = Calibration(low=0.3, high=0.9)
# Photos in one run: of more, no core gains anything, and memory grows.
_BATCH: Final = 4


class ImageEncoder:
    """A loaded image encoder. Safe to call from several threads."""

    backend_name = OnnxRuntime.name

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Raises InvalidBundle: it is of another kind, or its graph has other inputs or outputs."""
        inputs = bundle.manifest.image
        if inputs is None:
            raise InvalidBundle(
                f"{bundle.ref} is of kind {bundle.manifest.kind}, not image_encoder."
            )
        self.bundle = bundle
        self.inputs: ImageInputs = inputs
        self._session = open_session(bundle.model, threads)
        names = [entry.name for entry in self._session.get_inputs()]
        if len(names) != 1:
            raise InvalidBundle(
                f"{bundle.ref} has the inputs {names}; an image encoder has one, of pixels."
            )
        self._input, self._output = names[0], self._session.get_outputs()[0].name

    @classmethod
    def load(cls, bundle: Bundle, threads: int = 0) -> "ImageEncoder":
        """Loads a bundle and checks its golden vectors; the model is then warm.

        Args:
            threads: how many threads one call may use; 0 means one a core.

        Raises:
            InvalidBundle: it is of another kind, can't be loaded, or gives other vectors than when
                it was made, vectors of a wrong shape or none that are finite.
        """
        encoder = cls(bundle, threads)
        encoder._check()
        return encoder

    @property
    def ref(self) -> str:
        return self.bundle.ref

    @property
    def dimensions(self) -> int:
        return self.bundle.manifest.dimensions

    def read(self, photos: Sequence[bytes]) -> list[Picture]:
        """What the model reads of photos.

        Raises:
            InvalidInput: one can't be read.
        """
        return [read_picture(photo, self.inputs) for photo in photos]

    def run(self, batch: Sequence[Picture]) -> Vectors:
        """Vectors of pictures, float32 [batch, dimensions], of length 1, in one run. Each depends
        on its own picture alone.

        Raises:
            InvalidBundle: the graph gives another shape.
        """
        pixels = np.stack([picture.pixels for picture in batch])
        result: Vectors = self._session.run([self._output], {self._input: pixels})[0]
        require_shape(self.ref, "vectors", result, len(batch), self.dimensions)
        return result

    def encode(
        self, pictures: Sequence[Picture], progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors of pictures, float32 [pictures, dimensions], of length 1.

        Args:
            progress: called with the number of pictures done since the last call.
        """
        vectors = np.empty((len(pictures), self.dimensions), np.float32)
        for start in range(0, len(pictures), _BATCH):
            rows = slice(start, start + _BATCH)
            vectors[rows] = self.run(pictures[rows])
            if progress:
                progress(len(pictures[rows]))
        return vectors

    def golden_vector(self) -> Vectors:
        """float32 [dimensions], of a picture that is the same for every bundle."""
        size = self.inputs.size
        places = np.arange(3 * size * size, dtype=np.float64).reshape(3, size, size)
        vectors = self.run([Picture(np.sin(places / size).astype(np.float32))])
        return np.asarray(vectors[0], np.float32)

    def _check(self) -> None:
        with running(self.ref):
            found = self.golden_vector()
        if not np.isfinite(found).all() or not abs(float(np.linalg.norm(found)) - 1.0) < 0.01:
            raise InvalidBundle(
                f"{self.ref} gives vectors that are not finite or not of length 1. It is not "
                "served."
            )
        for golden in self.bundle.manifest.golden:
            require_same(self.bundle, golden, found, "encodes the golden picture as")
