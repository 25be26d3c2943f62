# SPDX-License-Identifier: Apache-2.0
"""Image files: damaged ones of every format that is read, and of those that only Pillow knows, named as images."""

import io
import random
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
from odd_images import AVIF, AVIF_ON_ITS_SIDE, EPS, HEIC, exif_chunk, png, tiff, xmp_chunk
from PIL import Image

from fuzz.driver import mutated
from ipu_utils.base.errors import UserError
from ipu_utils.data.decode import check_image, formats, read_image, upright_size
from ipu_utils.data.resize import fit_image

RAMP = np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3)
GREY, DEEP = RAMP[..., 0], RAMP.astype(np.uint16) * 256


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _read() -> Dict[str, List[bytes]]:
    """Whole files of the formats that are read, by format; those of Pillow's writers that every release has."""
    rgb = Image.fromarray(RAMP)
    palette = rgb.convert("P")
    frames = {"save_all": True, "append_images": [rgb.rotate(90).convert("P").resize((30, 9))]}
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = {"exif": exif.tobytes()}
    grey16 = GREY.astype(np.uint16) * 257
    tiffs = [
        tiff(GREY.astype(dtype), photometric=number % 2, orientation=1 + number % 8)
        for number, dtype in enumerate(("uint8", "uint16", "int16", "int32", "uint32", "float32") * 2)
    ]
    return {
        "JPEG": [
            _saved(rgb, "JPEG", **turned), _saved(rgb, "JPEG", progressive=True), _saved(rgb.convert("CMYK"), "JPEG"),
            _saved(rgb.convert("L"), "JPEG"), _saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        ],
        "PNG": [
            _saved(rgb, "PNG", **turned), _saved(rgb.convert("RGBA"), "PNG"), _saved(rgb.convert("LA"), "PNG"),
            _saved(palette, "PNG", transparency=0), _saved(palette, "PNG", transparency=bytes(range(250))),
            _saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
            png(grey16, 16), png(grey16, 16, [257]), png(DEEP, 16, DEEP[3, 3]),
            png(GREY % 4, 2, [1]), png(GREY % 2, 1, [0]), png(RAMP, 8, RAMP[5, 6], behind=exif_chunk(6)),
            png(RAMP, 8, before=exif_chunk(72, tag=282), behind=xmp_chunk(8)),
        ],
        "BMP": [_saved(rgb, "BMP"), _saved(palette, "BMP"), _saved(rgb.convert("1"), "BMP"),
                _saved(rgb.convert("RGBA"), "BMP")],
        "GIF": [_saved(palette, "GIF", **frames), _saved(palette, "GIF", transparency=3, interlace=1),
                _saved(rgb.convert("L"), "GIF")],
        "WEBP": [_saved(rgb, "WEBP", **turned), _saved(rgb, "WEBP", lossless=True),
                 _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)])],
        "TIFF": [
            *tiffs, tiff(GREY.astype(np.uint16), bits=12), _saved(rgb, "TIFF", **turned), _saved(palette, "TIFF"),
            _saved(rgb, "TIFF", compression="tiff_lzw", **turned), _saved(rgb.convert("LA"), "TIFF"),
            _saved(rgb, "TIFF", compression="tiff_adobe_deflate"), _saved(rgb, "TIFF", compression="jpeg"),
            _saved(rgb, "TIFF", compression="packbits"), _saved(rgb.convert("1"), "TIFF", compression="group4"),
            _saved(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(90)]), _saved(rgb.convert("CMYK"), "TIFF"),
        ],
        "AVIF": [AVIF, AVIF_ON_ITS_SIDE],
    }  # fmt: skip


def _only_pillow_knows() -> Dict[str, List[bytes]]:
    """Whole files of Pillow's other formats."""
    Image.init()
    found: Dict[str, List[bytes]] = {"EPS": [EPS], "HEIC": [HEIC]}
    for kind in sorted(set(Image.SAVE) - {*_READ, "MPO", "PDF"}):
        for mode in ("RGB", "RGBA", "P", "L", "F", "1"):
            try:
                found.setdefault(kind, []).append(_saved(Image.fromarray(RAMP).convert(mode), kind))
            except Exception:  # no such mode, or no writer
                continue
    return {kind: contents for kind, contents in found.items() if contents}


_READ = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")


class Images:
    """`read_image`, `upright_size` and `fit_image` on damaged files, on noise behind first bytes, on other formats."""

    name = "images"
    MOST_PIXELS = 1 << 20  # Pillow's limit against decompression bombs, set low: the limit is part of the path.

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, self.MOST_PIXELS
        self._read, self._foreign = _read(), _only_pillow_knows()

    def make(self, rng: random.Random) -> Tuple[str, bytes]:
        """(format that the file was made from, the bytes of a file)."""
        pool = self._foreign if rng.random() < 0.1 else self._read
        kind = rng.choice(sorted(pool))
        whole = rng.choice(pool[kind])
        chance = rng.random()
        if chance < 0.1:
            return kind, whole[: rng.randrange(1, 40)] + bytes(rng.randrange(256) for _ in range(rng.randrange(400)))
        return kind, whole if chance < 0.12 else mutated(rng, whole, most=rng.choice((1, 2, 8)))

    def try_out(self, given: Tuple[str, bytes]) -> str:
        """Accepted is an image of the size that was told, fitted into the network's; refused a UserError."""
        kind, content = given
        path = self.folder / "image.jpg"
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check_image(path)
                size = upright_size(path)
                image = read_image(path)
            except UserError as error:
                assert str(path) in str(error), error
                return "refused"
            fitted = fit_image(image, (16, 16))
        assert kind in formats(), f"{kind} was read"
        assert image.dtype == np.uint8 and image.shape == (*size, 3), (image.dtype, image.shape, size)
        assert fitted.image.shape == (16, 16, 3) and np.isfinite(fitted.scale_to_original)
        return "accepted"

    def close(self) -> None:
        """Give Pillow its limit back."""
        Image.MAX_IMAGE_PIXELS = self._limit
        shutil.rmtree(str(self.folder))
