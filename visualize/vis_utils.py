# SPDX-License-Identifier: Apache-2.0
"""Draw detections into pictures with Pillow."""

import colorsys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from visualize.labels import Color, Rectangle, draw_label, fit_text, font_size, free_spot

_HUES = 30
_SHADES = ((0.85, 0.95), (0.9, 0.6), (0.45, 1.0))  # (saturation, value): strong, dark, pale
_AGNOSTIC_COLOR = (255, 140, 0)


def class_color(class_id: int) -> Color:
    """Return the colour (red, green, blue) of a class, the same in every picture and run; 90 in a row are different."""
    lap, step = divmod(int(class_id), _HUES)
    saturation, value = _SHADES[lap % len(_SHADES)]
    # 11 of 30 hues further for the next class: neighbours in the list of classes are far apart in colour.
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(step * 11 % _HUES / _HUES, saturation, value))


def scaled_thickness(thickness: int, image_size: Tuple[int, int]) -> int:
    """Return the thickness of lines in a picture (width, height): at least `thickness`, and more in large pictures."""
    return max(thickness, round(max(image_size) / 400)) if thickness > 0 else 0


class _Drawing(NamedTuple):
    """A box to draw and its label in two parts."""

    box: Rectangle
    color: Color
    name: str
    score: str


def _pixels(
    ymin: float, xmin: float, ymax: float, xmax: float, image_size: Tuple[int, int], normalized: bool
) -> Optional[Rectangle]:
    """Return the part of a box inside the picture in whole pixels, at least one; None when there is none."""
    width, height = image_size
    corners = np.array([xmin, ymin, xmax, ymax], np.float64)
    if normalized:
        corners *= (width, height, width, height)
    if not np.isfinite(corners).all():
        return None
    left, right = sorted((corners[0], corners[2]))
    top, bottom = sorted((corners[1], corners[3]))
    if right < 0 or bottom < 0 or left > width or top > height:
        return None
    left, top = (int(min(max(value, 0), size - 1)) for value, size in ((left, width), (top, height)))
    right, bottom = (int(np.ceil(min(max(value, 0), size))) for value, size in ((right, width), (bottom, height)))
    return Rectangle(left, top, max(right, left + 1), max(bottom, top + 1))


def _draw(image: Image.Image, drawings: Sequence[_Drawing], thickness: int):
    """Draw boxes, then labels over all boxes; the first end up on top and choose their labels' places."""
    pen = ImageDraw.Draw(image)
    for item in reversed(drawings):
        left, top, right, bottom = item.box
        line = min(thickness, (min(right - left, bottom - top) + 1) // 2)
        if line > 0:
            pen.rectangle([left, top, right - 1, bottom - 1], outline=item.color, width=line)
    size, taken, labels = font_size(*image.size), [], []
    for item in drawings:
        place = _place(item, size, taken, image.size)
        if place is not None:
            text, letters, spot = place
            taken.append(spot)
            labels.append((text, letters, spot, item.color))
    for label in reversed(labels):
        draw_label(image, *label)


def _place(
    item: _Drawing, size: int, taken: List[Rectangle], image_size: Tuple[int, int]
) -> Optional[Tuple[str, int, Rectangle]]:
    """Return (text, letter size, spot) of a label, or None.

    Where the whole label would hide others, its score stands alone; where not even that has room, the box has no label:
    two labels over each other say less than one.
    """
    if not (item.name or item.score):
        return None
    text, letters = fit_text(item.name, item.score, size, image_size[0])
    spot = free_spot(text, letters, item.box, taken, image_size)
    if spot is None and item.name and item.score:
        text, letters = fit_text("", item.score, size, image_size[0])
        spot = free_spot(text, letters, item.box, taken, image_size)
    return None if spot is None else (text, letters, spot)


def draw_bounding_box_on_image(
    image: Image.Image,
    ymin: float,
    xmin: float,
    ymax: float,
    xmax: float,
    color: Union[str, Color] = "red",
    thickness: int = 4,
    display_str_list: Sequence[str] = (),
    use_normalized_coordinates: bool = True,
):
    """Draw one box and its labels into a picture.

    Args:
      image: RGB, changed in place.
      ymin, xmin, ymax, xmax: in shares of the picture, 0 to 1, or in pixels without `use_normalized_coordinates`.
      color: (red, green, blue) or a name that Pillow knows.
      thickness: of the lines in pixels, 0 for none.
      display_str_list: texts, each on its own line.
    """
    box = _pixels(ymin, xmin, ymax, xmax, image.size, use_normalized_coordinates)
    if box is None:
        return
    color = ImageColor.getrgb(color)[:3] if isinstance(color, str) else tuple(color)
    _draw(image, [_Drawing(box, color, text, "") for text in display_str_list or [""]], thickness)


def draw_bounding_box_on_image_array(image: np.ndarray, *args, **kwargs):
    """As `draw_bounding_box_on_image`, into an array, uint8 [H, W, 3]."""
    picture = Image.fromarray(image)
    draw_bounding_box_on_image(picture, *args, **kwargs)
    np.copyto(image, np.asarray(picture))


def visualize_boxes_and_labels_on_image_array(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: Optional[np.ndarray],
    category_index: Dict[int, Dict[str, Any]],
    *,
    use_normalized_coordinates: bool = False,
    max_boxes_to_draw: Optional[int] = 20,
    min_score_thresh: float = 0.5,
    agnostic_mode: bool = False,
    line_thickness: int = 4,
    groundtruth_box_visualization_color: str = "black",
    skip_boxes: bool = False,
    skip_scores: bool = False,
    skip_labels: bool = False,
) -> np.ndarray:
    """Draw detections with name and percentage into an image.

    Args:
      image: uint8 [H, W, 3], changed in place.
      boxes: [N, 4], corners (ymin, xmin, ymax, xmax) in pixels, or in shares with `use_normalized_coordinates`. What
        lies outside the image is cut off.
      classes: [N], from 1 on. A class that `category_index` does not have is called "class <id>".
      scores: [N], 0 to 1; None: boxes are ground truth, all are drawn and none is labelled.
      category_index: {class id: {"name": ...}}.
      max_boxes_to_draw: the best ones are drawn; None for all.
      min_score_thresh: scores must be greater.
      agnostic_mode: one colour for all, no names.
      line_thickness: least thickness of the lines in pixels; grows with the image.
      skip_boxes, skip_scores, skip_labels: leave these out.

    Returns:
      `image`.
    """
    if not len(boxes):
        return image
    picture = Image.fromarray(image)
    order = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    drawings = []
    for i in order:
        box = _pixels(*boxes[i], picture.size, use_normalized_coordinates)
        if box is None or (scores is not None and not scores[i] > min_score_thresh):
            continue
        if scores is None:
            drawings.append(_Drawing(box, ImageColor.getrgb(groundtruth_box_visualization_color)[:3], "", ""))
            continue
        class_id = int(classes[i])
        named = not (skip_labels or agnostic_mode)
        name = str(category_index.get(class_id, {}).get("name") or f"class {class_id}") if named else ""
        score = "" if skip_scores else f"{100 * float(scores[i]):.0f}%"
        drawings.append(_Drawing(box, _AGNOSTIC_COLOR if agnostic_mode else class_color(class_id), name, score))
    thickness = 0 if skip_boxes else scaled_thickness(line_thickness, picture.size)
    _draw(picture, drawings[:max_boxes_to_draw], thickness)
    np.copyto(image, np.asarray(picture))
    return image
