# SPDX-License-Identifier: Apache-2.0
"""Image files to uint8 RGB arrays with Pillow, whatever their format, mode and orientation. No TensorFlow."""

import os
from pathlib import Path
from typing import List, Tuple, Union

import numpy as np
from PIL import Image, ImageOps

from ipu_utils.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
EXIF_ORIENTATION = 0x0112
PAPER = (255, 255, 255)  # what shows through transparent pixels: viewers and browsers put white behind them

PathLike = Union[str, Path]


def list_images(directory: PathLike) -> List[Path]:
    """Return the image files in a folder and its subfolders, sorted by name; hidden files and folders are left out.

    A file counts as an image by its extension (`EXTENSIONS`, any case). Links to folders are not followed.

    Raises:
      UserError: not a folder, not readable, or without an image.
    """
    directory = Path(directory)
    if not directory.exists():
        raise UserError(f"--image-path {directory} does not exist: give a folder with images.")
    if not directory.is_dir():
        raise UserError(
            f"--image-path {directory} is a file, but --dataset-type image-directory reads a folder. Give the folder, "
            "or use --dataset-type single-image or repeated-image."
        )

    def unreadable(error: OSError):
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check its permissions.") from error

    found = []
    for folder, subfolders, names in os.walk(str(directory), onerror=unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        found.extend(path for path in paths if path.suffix.lower() in EXTENSIONS and _may_be_image(path))
    if not found:
        kinds = " ".join(EXTENSIONS)
        raise UserError(f"--image-path {directory} holds no image: expected files that end in one of {kinds}.")
    return sorted(found)


def _may_be_image(path: Path) -> bool:
    # A link that leads nowhere is an image that cannot be read, and is to be told; a pipe or socket is none.
    return path.is_file() or path.is_symlink()


def check_image(path: PathLike) -> None:
    """Read only the header of an image file; raise UserError when the file is no image or too large to decode."""
    with _open(path):
        pass


def upright_size(path: PathLike) -> Tuple[int, int]:
    """(height, width) of what `read_image` returns, from the file's header alone.

    Raises:
      UserError: the file is no image, or too large to decode.
    """
    with _open(path) as image:
        width, height = image.size
        try:
            on_its_side = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
        except Exception:  # As in `upright`.
            on_its_side = False
    return (width, height) if on_its_side else (height, width)


def read_image(path: PathLike) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 3], turned upright as its EXIF orientation says.

    Of a file with several pictures (GIF, TIFF) the first one counts. Transparent pixels are laid over white. 16-bit
    values lose their low byte; colour profiles are ignored.

    Raises:
      UserError: the file is missing, no image, damaged, larger than Pillow's limit against decompression bombs, or of a
        colour mode without a conversion to RGB. The message names the file.
    """
    with _open(path) as image:
        try:
            image.load()
            return np.array(to_rgb(upright(image)))
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
            raise UserError(f"{path} cannot be decoded ({error}): repair, convert or remove the file.") from error


def _open(path: PathLike) -> Image.Image:
    """Open an image file; `UserError` when its header already tells that it cannot be used."""
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder: give an image file, or use --dataset-type image-directory.")
    try:
        return Image.open(str(path))
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that Pillow can read: convert or remove the file.") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} is too large ({error}). If you trust the file, reduce its size with an image editor first."
        ) from error
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give the path of an image file.") from error
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: how Pillow's parsers report a broken header.
        raise UserError(f"{path} cannot be read ({error}): check its permissions and that it is an image.") from error


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; an image whose EXIF data is damaged stays as it is stored."""
    try:
        turned = image.getexif().get(EXIF_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # Any error of the EXIF parser: a broken tag must not hide an intact picture.
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to RGB.

    Differs from `image.convert("RGB")` where that loses the picture: 16-bit grey would clip to white above 255, and
    alpha would be dropped, showing the arbitrary colours that editors leave under transparent pixels.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):  # "I": what Pillow before 11 makes of a 16-bit PNG.
        values = np.clip(np.asarray(image).astype(np.int32), 0, 0xFFFF) >> 8
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode == "F":  # Floating point TIFF: values up to 1 are shares of white, larger ones are grey levels.
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        values = values * 255 if values.max() <= 1 else values
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")  # There is no direct way from premultiplied grey to RGBA.
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, PAPER)
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image.convert("RGB")
