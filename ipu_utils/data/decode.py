# SPDX-License-Identifier: Apache-2.0
"""Image files to uint8 RGB arrays with Pillow, whatever their format, mode and orientation. No TensorFlow."""

import contextlib
import functools
from pathlib import Path
from typing import Tuple, Union

import numpy as np
import PIL
from PIL import Image, features

from ipu_utils.base.errors import UserError
from ipu_utils.data.colours import cover_deep, low_bytes, settle_transparent_colour, to_rgb

# What Pillow may try on a file, whatever its name says: of its other formats some start programs (EPS), some have
# next to no users, and each is a parser more that reads what strangers wrote. JPEG includes MPO.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF")
OPTIONAL = ("WEBP", "AVIF")  # Pillow can be built without; AVIF it has since 11.3.
BRANDS = {  # in the first bytes of a file
    "AVIF": ("avif", "avis"),
    "HEIC": ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"),
    "WEBP": ("WEBP",),
}

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_ITS_SIDE = (5, 6, 7, 8)
IMAGE_WIDTH, IMAGE_HEIGHT = 256, 257  # tags of TIFF

PathLike = Union[str, Path]


def check_image(path: PathLike) -> None:
    """Read only the header of an image file; raise UserError when the file is no image or too large to decode."""
    with _open(path):
        pass


def upright_size(path: PathLike) -> Tuple[int, int]:
    """(height, width) of what `read_image` returns, from the header where that can tell.

    A PNG may say how it lies behind its pixels, so it is decoded; where that fails, the header has to do.

    Raises:
      UserError: the file is no image, or too large to decode.
    """
    with _open(path) as image:
        if image.format == "PNG":
            with contextlib.suppress(UserError):
                return read_image(path).shape[:2]
        width, height, orientation = *image.size, _orientation(image)
        if image.format == "TIFF":
            # `size` is the stored picture's in some releases of Pillow and the upright one's in others.
            width, height = (int(image.tag_v2[tag]) for tag in (IMAGE_WIDTH, IMAGE_HEIGHT))
            orientation = image.tag_v2.get(EXIF_ORIENTATION)
    return (width, height) if orientation in ON_ITS_SIDE else (height, width)


def read_image(path: PathLike) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 3], turned upright as its EXIF orientation says.

    Of a file with several pictures (GIF, TIFF) the first one counts. Transparent pixels are laid over white. 16-bit
    values lose their low byte, deeper ones see docs/DATA.md; colour profiles are ignored.

    Raises:
      UserError: the file is missing, no image of `FORMATS`, damaged, larger than Pillow's limit against decompression
        bombs, or of a colour mode without a conversion to RGB. The message names the file.
    """
    with _open(path) as image:
        try:
            deep_colour = settle_transparent_colour(image)
            image.load()
            rgb = to_rgb(image)
            if deep_colour is not None:
                with _open(path) as again:
                    rgb = cover_deep(rgb, low_bytes(again), deep_colour)
            turn = TURNS.get(_orientation(image))
            return np.array(rgb if turn is None else rgb.transpose(turn))
        except UserError:
            raise
        except MemoryError as error:
            raise UserError(
                f"{path} needs more memory than there is: reduce its size with an image editor, or repair it."
            ) from error
        except Exception as error:  # Pillow's parsers raise whatever their code happens to run into.
            raise UserError(
                f"{path} cannot be decoded ({_reason(error)}): repair, convert or remove the file."
            ) from error


def _open(path: PathLike) -> Image.Image:
    """Open an image file; `UserError` when its header already tells that it cannot be used."""
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder: give an image file, or use --dataset-type image-directory.")
    try:
        image = Image.open(str(path), formats=formats())
        # Pillow maps uncompressed files that have a name into memory: releases 11 to 13 garble TIFF files that lie on
        # their side so, and a file that shrinks meanwhile would end the process.
        image.filename = ""
        if image.format == "TIFF":
            image.info.pop("xmp", None)  # Turning a TIFF, Pillow edits this text, even where it is a number.
        return image
    except Image.UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not an image that Pillow can read ({_what_it_is(path)}): convert or remove the file."
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} is too large ({error}). If you trust the file, reduce its size with an image editor first."
        ) from error
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give the path of an image file.") from error
    except Exception as error:  # as in `read_image`
        raise UserError(
            f"{path} cannot be read ({_reason(error)}): check its permissions and that it is an image."
        ) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


@functools.lru_cache(maxsize=None)
def formats() -> Tuple[str, ...]:
    """Those of `FORMATS` that this machine's Pillow has, by Pillow's names."""
    return tuple(name for name in FORMATS if name not in OPTIONAL or _was_built_with(name))


def _was_built_with(name: str) -> bool:
    try:
        return features.check_module(name.lower())
    except ValueError:  # a release that does not know the format
        return False


def _what_it_is(path: PathLike) -> str:
    """Of a file that Pillow did not take: its format where the first bytes tell, and what is read."""
    try:
        with open(str(path), "rb") as file:
            start = file.read(12)
    except OSError:
        start = b""
    brand = start[8:12].decode("latin-1") if start[4:8] == b"ftyp" or start[:4] == b"RIFF" else ""
    name = next((name for name, brands in BRANDS.items() if brand in brands), None)
    if name in formats():
        return f"it is {name}, but damaged or of a rare kind"
    lacking = f"which Pillow {PIL.__version__} was built without; " if name in FORMATS else ""
    return f"{f'it is {name}, ' if name else ''}{lacking}{', '.join(formats())} are read"


def _orientation(image: Image.Image) -> int:
    """What an image's EXIF data says of how it lies, a key of `TURNS`, else 1. Pillow turns TIFF by itself."""
    try:
        found = 1 if image.format == "TIFF" else image.getexif().get(EXIF_ORIENTATION, 1)
        return found if found in TURNS else 1
    except Exception:  # Any error of the EXIF parser: a broken tag must not hide an intact picture.
        return 1
