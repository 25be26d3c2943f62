# SPDX-License-Identifier: Apache-2.0
"""Images out of a seed: noise, and images with the statistics of photographs. No TensorFlow."""

import numpy as np

from ipu_utils.data.sources import ImageSource


def noise_image(height: int, width: int, seed: int) -> np.ndarray:
    """Return uint8 [height, width, 3], every value as likely."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def photo_image(height: int, width: int, seed: int) -> np.ndarray:
    """Return uint8 [height, width, 3] with the statistics of a photograph: things of all sizes in front of each other.

    Source: the dead leaves model; Lee, Mumford and Huang, Occlusion models for natural images (IJCV 41, 2001). The
    number of things of a size falls with its third power.
    """
    rng = np.random.RandomState(seed)
    image = np.broadcast_to(rng.uniform(0, 255, 3), (height, width, 3)).copy()
    side = max(height, width)
    largest, smallest = 0.5, 3.0 / side
    sizes = side * (smallest**-2 + rng.rand(400) * (largest**-2 - smallest**-2)) ** -0.5
    for size in np.sort(sizes)[::-1]:
        centre, radius = rng.uniform(0, (height, width)), np.maximum(size * rng.uniform(0.5, 1.5, 2), 1.0)
        grey, tint, slope, is_round = rng.normal(115, 60), rng.normal(0, 30, 3), rng.normal(0, 0.2, 2), rng.rand() < 0.5
        rows = slice(*np.clip([centre[0] - radius[0], centre[0] + radius[0] + 1], 0, height).astype(int))
        columns = slice(*np.clip([centre[1] - radius[1], centre[1] + radius[1] + 1], 0, width).astype(int))
        y = (np.arange(rows.start, rows.stop)[:, None] - centre[0]) / radius[0]
        x = (np.arange(columns.start, columns.stop)[None] - centre[1]) / radius[1]
        shading = (1 + slope[0] * y + slope[1] * x)[..., None]
        inside = ((y * y + x * x < 1) if is_round else np.ones(y.shape[:1] + x.shape[1:], bool))[..., None]
        patch = image[rows, columns]
        patch[...] = np.where(inside, (grey + tint) * shading, patch)
    return np.rint(np.clip(image + rng.normal(0, 6, image.shape), 0, 255)).astype(np.uint8)


class SyntheticImages(ImageSource):
    """Both kinds by turns, of the network's own size: what random weights are made from, and calibrated on."""

    def _name(self, image_id: int) -> str:
        return f"synthetic-{image_id:04d}"

    def _original(self, image_id: int) -> np.ndarray:
        return (photo_image if image_id % 2 else noise_image)(*self.image_size, seed=image_id)
