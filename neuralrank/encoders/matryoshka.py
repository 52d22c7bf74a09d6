"""Vectors that are cut: the first numbers of a Matryoshka encoder's vector are a vector themselves.

Kusupati et al., "Matryoshka Representation Learning" (2022). Only an encoder that was trained for a
length says that it may be cut there (`Manifest.matryoshka`); others lose what they know.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut"]


def cut(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The first `width` numbers of each vector, brought to length 1.

    Args:
        vectors: float32 [..., d] with d ≥ width.

    Returns:
        float32 [..., width]; zeros stay zeros.
    """
    first = vectors[..., :width]
    lengths = np.linalg.norm(first, axis=-1, keepdims=True)
    return np.asarray(first / np.where(lengths > 0, lengths, 1.0), np.float32)
