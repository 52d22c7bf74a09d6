"""Photos as models read them: formats, sides, turned and transparent ones, and what is none."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from neuralrank.bundles.bundle import ImageInputs
from neuralrank.encoders.pictures import FORMATS, MAX_BYTES, read_picture
from neuralrank.errors import InvalidInput

INPUTS = ImageInputs(size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(
    size: tuple[int, int] = (16, 16), colour: tuple[int, ...] = RED, mode: str = "RGB"
) -> Image.Image:
    return Image.new(mode, size, colour)


def read(data: bytes, **inputs: Any) -> NDArray[np.float32]:
    """[16, 16, 3] in [0, 1]."""
    return read_picture(data, INPUTS.model_copy(update=inputs)).pixels.transpose(1, 2, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same(kind: str) -> None:
    found = read(file(plain(), kind))
    np.testing.assert_allclose(found, np.broadcast_to(np.array(RED) / 255, (16, 16, 3)), atol=0.03)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")],
)
def test_every_mode_can_be_read(mode: str, kind: str) -> None:
    found = read(file(plain((20, 10), WHITE).convert(mode), kind))
    np.testing.assert_allclose(found, 1.0, atol=0.03)


def test_mean_and_spread_are_taken_off() -> None:
    found = read(file(plain()), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    np.testing.assert_allclose(found[0, 0], [1.0, -1.0, 0.0], atol=1e-6)


def test_a_wide_photo_is_padded_cut_or_stretched() -> None:
    wide = plain((32, 16), GREEN)
    wide.paste(RED, (8, 0, 24, 16))  # the middle
    data = file(wide)
    padded = read(data, fit="pad")
    np.testing.assert_allclose(padded[0], 1.0)  # white above
    assert padded[8, 0, 1] > 0.9 > 0.1 > padded[8, 0, 0]  # green at the left
    cut = read(data, fit="crop")
    np.testing.assert_allclose(cut[:, :, 0], 1.0, atol=0.05)  # red all over
    stretched = read(data, fit="stretch")
    assert stretched[0, 0, 1] > 0.9
    assert stretched[0, 8, 0] > 0.9


def test_the_middle_is_cut_from_what_is_resized() -> None:
    framed = plain((64, 32), GREEN)
    framed.paste(RED, (20, 4, 44, 28))
    data = file(framed)
    assert read(data, fit="crop")[0, 0, 1] > 0.9  # the frame
    cut = read(data, fit="crop", resize=24)  # two thirds of the shorter side
    np.testing.assert_allclose(cut[:, :, 0], 1.0, atol=0.1)


def test_grey_of_16_bits_is_read_as_that_of_8() -> None:
    shades = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
    deep = Image.fromarray(shades.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    np.testing.assert_allclose(read(file(deep)), read(file(Image.fromarray(shades))))


def test_a_photo_stands_as_its_camera_was_held() -> None:
    half = plain()
    half.paste(GREEN, (0, 8, 16, 16))  # below
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half
    upright, turned = read(file(half)), read(file(half, "PNG", exif=exif))
    np.testing.assert_allclose(turned, upright[::-1, ::-1])


def test_what_is_transparent_is_white() -> None:
    clear = plain(colour=(*RED, 0), mode="RGBA")
    np.testing.assert_allclose(read(file(clear)), 1.0)


def test_a_large_jpeg_is_read_alike() -> None:
    large = plain((1600, 1600), GREEN)
    np.testing.assert_allclose(read(file(large, "JPEG"))[:, :, 1], 1.0, atol=0.03)


def header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and has nothing of it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"IDAT"
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 0) + end + struct.pack(">I", zlib.crc32(end))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"0 bytes; allowed are 1 to 16,777,216"),
        (b"x" * (MAX_BYTES + 1), r"16,777,217 bytes; allowed are 1 to"),
        (b"not a photo", r"no photo that can be read; allowed are JPEG, PNG.*with b'not a ph'"),
        (b"<svg xmlns='a'/>", "no photo that can be read"),
        (header(8_001, 8_000), r"8001 × 8000 pixels; allowed are 64,000,000"),
        (header(100_000, 100_000), "pixels"),
        (header(16, 16), "damaged"),
        (file(plain((64, 64)))[:60], "damaged"),
        (file(plain((64, 64)), "JPEG")[:300], "no photo|damaged"),
        (file(plain(), "TIFF"), "allowed are JPEG"),
    ],
    ids=["empty", "long", "text", "svg", "large", "bomb", "hollow", "cut", "cut JPEG", "TIFF"],
)  # fmt: skip
def test_what_is_no_photo_is_refused_with_its_reason(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_picture(data, INPUTS)


@given(st.sampled_from(FORMATS), st.data())
def test_whatever_bytes_come_are_a_picture_or_refused(kind: str, data: st.DataObject) -> None:
    good = bytearray(file(plain((24, 24)), kind))
    for _ in range(data.draw(st.integers(0, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = read_picture(bytes(good), INPUTS)
    except InvalidInput:
        return
    assert picture.pixels.shape == (3, 16, 16)
    assert np.isfinite(picture.pixels).all()
