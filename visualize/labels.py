# SPDX-License-Identifier: Apache-2.0
"""Text on pictures that stays readable at any picture size, and where to put it."""

import functools
from typing import Iterator, List, NamedTuple, Optional, Tuple

from PIL import Image, ImageDraw, ImageFont

from ipu_utils.base.printable import shown

_SMALLEST_FONT, _LARGEST_FONT = 11, 96  # pixels; below, letters run into each other
_LAST_RESORT_FONT = 8  # for a text that would not fit otherwise
_MOST_LETTERS = 200  # of a name: a longer one is cut before it is measured, which takes time and memory
_BITMAP_FONT_HEIGHT = 11  # of Pillow's built-in bitmap font, the only one where FreeType is missing

Color = Tuple[int, int, int]


class Rectangle(NamedTuple):
    """Whole pixels; right and bottom are one beyond the last."""

    left: int
    top: int
    right: int
    bottom: int

    def meets(self, other: "Rectangle") -> bool:
        """Do the two share a pixel?"""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def font_size(width: int, height: int) -> int:
    """Return the letter size in pixels for a picture: a fixed share of it, never unreadably small, never most of it."""
    share = round(0.022 * (width * height) ** 0.5)
    return max(_LAST_RESORT_FONT, min(max(share, _SMALLEST_FONT), _LARGEST_FONT, height // 4))


@functools.lru_cache(maxsize=None)
def _load_font(size: int) -> Tuple[ImageFont.ImageFont, int]:
    """Return (font, factor by which its letters have to be enlarged)."""
    try:
        font = ImageFont.load_default(size)  # Pillow 10.1 or later
    except TypeError:
        font = ImageFont.load_default()
    if isinstance(font, getattr(ImageFont, "FreeTypeFont", ())):
        return font, 1
    return font, max(1, round(size / _BITMAP_FONT_HEIGHT))


@functools.lru_cache(maxsize=1024)
def text_mask(text: str, size: int) -> Image.Image:
    """Return the text as a grey picture, white on black, cut to its width; all texts of one size are equally high."""
    font, factor = _load_font(size)
    if factor > 1 or not isinstance(font, getattr(ImageFont, "FreeTypeFont", ())):
        text = text.encode("ascii", "replace").decode()  # The bitmap font has no other letters.
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("|Ag")
    mask = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font)
    return mask if factor == 1 else mask.resize((mask.width * factor, mask.height * factor), Image.NEAREST)


def fit_text(name: str, score: str, size: int, width: int) -> Tuple[str, int]:
    """Return (text, letter size) of a label that is at most `width` pixels wide, if there is one.

    Letters get smaller first, then the name is cut, then left out: the score comes last. A label is one line.
    """
    if len(name) > _MOST_LETTERS:
        name = f"{name[:_MOST_LETTERS]}.."
    name = shown(name)
    full = f"{name}: {score}" if name and score else name or score
    for smaller in range(size, _LAST_RESORT_FONT - 1, -1):
        if _label_size(full, smaller)[0] <= width:
            return full, smaller
    fits, too_long = 0, len(name)
    while too_long - fits > 1:
        length = (fits + too_long) // 2
        short = _label_size(_cut(name, length, score), _LAST_RESORT_FONT)[0] <= width
        fits, too_long = (length, too_long) if short else (fits, length)
    return (_cut(name, fits, score) if fits else score or name[:1]), _LAST_RESORT_FONT


def _cut(name: str, length: int, score: str) -> str:
    return f"{name[:length]}.. {score}".rstrip()


def _margin(size: int) -> int:
    return max(1, size // 6)


def _label_size(text: str, size: int) -> Tuple[int, int]:
    """Return (width, height) in pixels of the text with its margin."""
    mask, margin = text_mask(text, size), _margin(size)
    return mask.width + 2 * margin, mask.height + 2 * margin


def free_spot(
    text: str, size: int, box: Rectangle, taken: List[Rectangle], image_size: Tuple[int, int]
) -> Optional[Rectangle]:
    """Return where a label goes: inside the picture, at or in its box, over no other label; None without such a place.

    Args:
      text, size: of the label.
      box: the detection.
      taken: labels placed before.
      image_size: (width, height).
    """
    for spot in _spots(text, size, box, image_size):
        if not any(spot.meets(other) for other in taken):
            return spot
    return None


def place_label(text: str, size: int, box: Rectangle, taken: List[Rectangle], image_size: Tuple[int, int]) -> Rectangle:
    """As `free_spot`, but over other labels where there is no other place."""
    spot = free_spot(text, size, box, taken, image_size)
    return next(_spots(text, size, box, image_size)) if spot is None else spot


def _spots(text: str, size: int, box: Rectangle, image_size: Tuple[int, int]) -> Iterator[Rectangle]:
    """Places for a label, the best first: along the left edge of its box from above it on, then at the right one."""
    (width, height), (image_width, image_height) = _label_size(text, size), image_size
    left, right = box.left, box.right - width
    above, inside, low, below = box.top - height, box.top, box.bottom - height, box.bottom
    wishes = [(left, above), (left, inside), (left, below), (left, low), (right, above), (right, inside)]
    wishes += [(right, below), (right, low), *((left, inside + row * height) for row in range(1, 6))]
    wishes += [(x, inside + row * height) for x in (box.right, left - width) for row in range(-1, 3)]
    for x, y in wishes:
        # A spot above the picture is moved down into the box's first rows: "inside" by another way.
        x, y = max(0, min(x, image_width - width)), max(0, min(y, image_height - height))
        yield Rectangle(x, y, x + width, y + height)


def draw_label(image: Image.Image, text: str, size: int, spot: Rectangle, color: Color):
    """Fill the spot with the colour and write the text in black or white, whichever contrasts more."""
    image.paste(color, tuple(spot))
    red, green, blue = color
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
    margin = _margin(size)
    image.paste(ink, (spot.left + margin, spot.top + margin), text_mask(text, size))
