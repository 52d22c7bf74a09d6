"""From a photo's bytes to the numbers that an image encoder reads."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from neuralrank.bundles.bundle import ImageInputs
from neuralrank.errors import InvalidInput

__all__ = ["FORMATS", "MAX_BYTES", "Picture", "read_picture"]

# What shops' photos are; each further decoder would be one more that reads strangers' bytes.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# The most that is read of one photo. A few KB may say that they are gigabytes of pixels.
MAX_BYTES: Final = 16 * 2**20
_MAX_PIXELS: Final = 64_000_000
# What a photo counts in the queue that it shares with texts, in tokens. It takes as long as a few
# dozen, but 600 KB while it waits: so few wait, and a run has few of them, which gains nothing by
# more.
_TOKENS: Final = 256
_WHITE: Final = (255, 255, 255)
_16_TO_8_BITS: Final = 257


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A photo as a model reads it: float32 [3, size, size]. Its length is what it counts in the
    queue of the models."""

    pixels: NDArray[np.float32]

    def __len__(self) -> int:
        return _TOKENS


def read_picture(data: bytes, inputs: ImageInputs) -> Picture:
    """The photo, turned as its camera says, on white where it is transparent, fitted and scaled.

    Raises:
        InvalidInput: it is larger than it may be, of another format, or damaged.
    """
    if not data or len(data) > MAX_BYTES:
        raise InvalidInput(
            f"A photo has {len(data):,} bytes; allowed are 1 to {MAX_BYTES:,}. Send a smaller one: "
            f"{inputs.size} × {inputs.size} pixels are read."
        )
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                raise InvalidInput(
                    f"A photo has {width} × {height} pixels; allowed are {_MAX_PIXELS:,}. Send "
                    f"a smaller one: {inputs.size} × {inputs.size} are read."
                )
            # A JPEG can be decoded at a half, a quarter or an eighth, in a part of the time.
            least = 2 * (inputs.resize or inputs.size)
            image.draft("RGB", (least, least))
            pixels = np.asarray(_fitted(_upright(image), inputs), np.float32)
    except UnidentifiedImageError as error:
        raise InvalidInput(
            f"{len(data):,} bytes are no photo that can be read; allowed are {', '.join(FORMATS)}. "
            f"They begin with {data[:8]!r}."
        ) from error
    except InvalidInput:
        raise
    except Exception as error:  # a decoder's own, for bytes that are damaged, are of many kinds
        raise InvalidInput(f"A photo is damaged ({error}). Save it anew.") from error
    mean, std = (np.array(values, np.float32) for values in (inputs.mean, inputs.std))
    scaled = (pixels / np.float32(255.0) - mean) / std
    return Picture(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def _upright(image: Image.Image) -> Image.Image:
    """The first frame in RGB, on white."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
        return Image.fromarray((np.asarray(turned) // _16_TO_8_BITS).astype(np.uint8)).convert(
            "RGB"
        )
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    layer = turned.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (*_WHITE, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")


def _fitted(image: Image.Image, inputs: ImageInputs) -> Image.Image:
    size = (inputs.size, inputs.size)
    if inputs.fit == "crop":
        # The part of each side that is kept, if the shorter one is made `resize` pixels.
        cut = 1 - inputs.size / (inputs.resize or inputs.size)
        return ImageOps.fit(image, size, Image.Resampling.BICUBIC, bleed=cut / 2)
    if inputs.fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=_WHITE)
    return image.resize(size, Image.Resampling.BICUBIC)
