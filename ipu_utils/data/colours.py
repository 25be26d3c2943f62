# SPDX-License-Identifier: Apache-2.0
"""Pixels of every mode that Pillow has to 8-bit RGB: deep grey, floating point, transparency. No TensorFlow."""

from typing import Optional, Tuple

import numpy as np
from PIL import Image

PAPER = (255, 255, 255)  # what shows through transparent pixels: viewers and browsers put white behind them

# Tags of TIFF.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, UNSIGNED = 0, 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to RGB.

    Differs from `image.convert("RGB")` where that loses the picture: deep grey would clip to white above 255, and
    alpha would be dropped, showing the arbitrary colours that editors leave under transparent pixels.

    Raises:
      ValueError: there is no conversion from its mode.
    """
    key = image.info.get("transparency")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        rgb = Image.fromarray(_grey_levels(image, values)).convert("RGB")
        return rgb if key is None else _covered(rgb, values == key)
    if key is not None and image.mode in ("1", "L", "RGB"):
        rgb = image.convert("RGB")
        pixels, colour = np.asarray(rgb), np.array(key, np.int64) & 0xFF  # PNG: only the bits of a sample count.
        return _covered(rgb, (pixels == colour).all(axis=2))
    if key is not None or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        if image.mode == "La":
            image = image.convert("LA")  # There is no direct way from premultiplied grey to RGBA.
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, PAPER)
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _covered(rgb: Image.Image, transparent: np.ndarray) -> Image.Image:
    """Paper where `transparent`, bool [H, W], says so."""
    return Image.fromarray(np.where(transparent[..., None], np.array(PAPER, np.uint8), np.asarray(rgb)))


def _grey_levels(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """Values of a one-channel image of more than 8 bits, [H, W], as grey levels, uint8."""
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        levels = _levels_of_floats(values)
    elif image.mode != "I" or image.format == "PNG":  # "I": what Pillow before 10.3 makes of a 16-bit PNG.
        bits = 12 if tags.get(BITS_PER_SAMPLE) == (12,) else 16
        levels = (np.clip(values.astype(np.int32), 0, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)
    else:
        if tags.get(BITS_PER_SAMPLE) == (32,) and tags.get(SAMPLE_FORMAT, (UNSIGNED,)) == (UNSIGNED,):
            values = values.view(np.uint32)  # Pillow reads them as signed.
        levels = _levels_of_whole_numbers(values)
    return 255 - levels if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else levels


# Nothing in a file says which value of floating point or of 32 bits is white, so the largest one has to tell. A range
# is taken up to twice its white: what overshoots (sharpening does) is clipped, where the next range would be black.


def _levels_of_floats(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    largest = float(finite.max()) if finite.size else 0.0
    values = np.where(np.isnan(values), np.float32(0), values)
    if 2 * 255 < largest <= 65535:
        return np.clip(np.floor(values / 256), 0, 255).astype(np.uint8)  # as 16-bit whole numbers
    white = 1.0 if largest <= 2 else 255.0 if largest <= 2 * 255 else largest
    return np.rint(np.clip(values / np.float32(white), 0, 1) * 255).astype(np.uint8)


def _levels_of_whole_numbers(values: np.ndarray) -> np.ndarray:
    values = np.maximum(values, 0)
    largest = int(values.max())
    if largest <= 2 * 255:
        return np.minimum(values, 255).astype(np.uint8)
    if largest <= 65535:
        return (values >> 8).astype(np.uint8)
    return np.rint(values * (255.0 / largest)).astype(np.uint8)


def settle_transparent_colour(image: Image.Image) -> Optional[Tuple[int, int, int]]:
    """Bring the transparent colour of a PNG to the scale of the pixels that Pillow makes.

    Call it before the pixels are loaded, which forgets how many bits they have in the file.

    Returns:
      the colour, if it has 16 bits a channel: of these Pillow's pixels have only the high bytes, see `cover_deep`.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or not image.tile or not isinstance(key, (int, tuple)):
        return None
    stored = image.tile[0][3]
    if stored == "RGB;16B":
        return image.info.pop("transparency")
    bits = {"1": 1, "L;2": 2, "L;4": 4}.get(stored)
    if bits is not None:
        most = (1 << bits) - 1
        image.info["transparency"] = (key & most) * (255 // most)
    return None


def low_bytes(image: Image.Image) -> np.ndarray:
    """The low bytes of a PNG of 16 bits a channel that is not loaded yet, uint8 [H, W, 3]."""
    image.tile = [
        (*image.tile[0][:3], "RGB;16L")
    ]  # Read with the bytes of a sample exchanged, the low one comes first.
    image.load()
    return np.asarray(image)


def cover_deep(rgb: Image.Image, low: np.ndarray, colour: Tuple[int, int, int]) -> Image.Image:
    """Lay the pixels of a transparent colour of 16 bits a channel on paper.

    Args:
      rgb: the high bytes. low: the low bytes, uint8 [H, W, 3].
    """
    pixels = np.asarray(rgb).astype(np.uint16) << 8 | low
    return _covered(rgb, (pixels == np.array(colour)).all(axis=2))
