"""A vector as text that costs nothing to read: base64 of packed float32.

As decimal numbers it is half of what reading a document costs, whether they are shown or not. So
the indexer writes vectors in this form, which our plugin indexes
(docs/decisions/033-vectors-once.md), and for a cluster without it as numbers too.
"""

import base64
import binascii
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["IMAGE_PACKED", "IMAGE_VECTOR", "PACKED", "VECTOR", "pack", "unpack"]

# The field that holds the vector of `headline`, and the one that holds it packed.
VECTOR: Final = "text_vector"
PACKED: Final = "text_vector_packed"
# The same of an item's photo.
IMAGE_VECTOR: Final = "image_vector"
IMAGE_PACKED: Final = "image_vector_packed"


def pack(vector: NDArray[np.float32]) -> str:
    """Base64 of the numbers as little-endian float32."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()


def unpack(value: Any) -> NDArray[np.float32] | None:
    """float32 [d]; None where the value is no such text."""
    if not isinstance(value, str) or not value:
        return None
    try:
        raw = base64.b64decode(value, validate=True)
        return np.frombuffer(raw, "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        return None
