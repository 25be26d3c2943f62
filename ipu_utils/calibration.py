# SPDX-License-Identifier: Apache-2.0
"""Random weights that give a benchmark something to suppress.

Weights as initialised for training make a useless detector: activations shrink layer by layer, and no anchor, or every
one, scores above the threshold. Here, deterministic by seed,

1. weights are drawn so that the network is nearly linear: activations work around one, where they have a slope, and
   residual branches have half the gain. An untrained network with batch norm is otherwise chaotic; a rounding error, let
   alone another image, changes its outputs beyond recognition;
2. the statistics of every batch norm are taken from a forward pass over noise and images with the statistics of photographs;
3. box regressions get a small spread, so that the boxes of neighbouring anchors overlap as those of a detector do;
4. the class head looks along directions in which the features of one kind of image vary from cell to cell, half of its
   outputs for noise and half for photographs, and not along those that tell the levels, the borders or the two kinds
   apart. Its biases are set so that the wanted number of anchors scores above the threshold.
"""

import zlib
from dataclasses import dataclass
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from hparams_config import Config
from ipu_utils.keras2 import tf
from tf2.anchor_boxes import Anchors
from utils import ImageSize, parse_image_size

GAIN, SHIFT = 0.5, 1.0  # of a batch norm in front of an activation; see 1.
TOP_SCORE = 0.95  # of the best anchor in the calibration images
BOX_SPREAD = 0.25  # standard deviation of the box regressions, in units of an anchor's side
SHARED = 0.98  # of the variance of an output, how much the anchors of one cell have in common
AWAY_FROM_NOISE = 3.0  # by how many standard deviations the half for photographs lowers the logits of noise
ROUNDING = 0.02  # error of a feature that must not matter: far above bfloat16's on features around one
NOISE, PHOTO = 0, 1  # the two kinds of images, and the halves of the class head that look at them


@dataclass(frozen=True)
class CalibrationReport:
    """What the random weights give on the images that they were calibrated on, in float32."""

    candidates_mean: float  # anchors above the score threshold in an image of noise, as `generated` data is
    photo_candidates_mean: float  # the same in an image with the statistics of a photograph
    score_threshold: float
    seed: int


def noise_image(height: int, width: int, seed: int) -> np.ndarray:
    """Return uint8 [height, width, 3], every value as likely."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def photo_image(height: int, width: int, seed: int) -> np.ndarray:
    """Return uint8 [height, width, 3] with the statistics of a photograph: things of all sizes in front of each other.

    Source: the dead leaves model; Lee, Mumford and Huang, Occlusion models for natural images (IJCV 41, 2001). The number
    of things of a size falls with its third power.
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
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def randomise(
    model: tf.keras.Model, config: Config, image_size: ImageSize, seed: int = 0, candidates: int = 300
) -> CalibrationReport:
    """Set all variables of an EfficientDetNet to calibrated random values.

    Args:
      model: in float32; its variables are made here if it has none yet.
      config: the model's; nms_configs.score_thresh is the threshold, and the images are normalised as it says.
      image_size: the size at which the model is to run.
      seed: the same seed gives the same values on the same machine and software.
      candidates: how many anchors of an image score above the threshold. At most half of all anchors will.
    """
    size = parse_image_size(image_size)
    if not model.weights:
        model.build((None, *size, 3))
    rng = np.random.RandomState(zlib.crc32(b"calibration") ^ seed & 0xFFFFFFFF)
    _draw_weights(model, seed)
    small = _calibration_size(size, config.max_level)
    images = _Images(config, rng.randint(2**31), small, count=2 if max(small) < 512 else 1)
    _calibrate_batch_norm(model, np.concatenate([images.of(NOISE), images.of(PHOTO)]))
    features = [model.features(images.of(kind)) for kind in (NOISE, PHOTO)]
    _calibrate_boxes(model, config, features)
    head = _ClassHead(model, config)
    head.choose_directions([model.class_net.hidden(maps) for maps in features], rng)
    # Small images have few anchors, whose number above a threshold varies more.
    images = _Images(config, rng.randint(2**31), size, count=int(np.clip(4 * 512**2 // (size[0] * size[1]), 2, 8)))
    maxima = [head.maxima(images, kind) for kind in (NOISE, PHOTO)]
    return head.choose_biases(maxima, candidates, images.count, seed)


def _calibration_size(size: Tuple[int, int], max_level: int) -> Tuple[int, int]:
    """Return a size at which statistics are taken: the model's own within limits.

    Smaller, the coarsest maps would have too few cells for statistics; larger, the largest models would take minutes.
    """
    least, most = 256, 4 * 2**max_level
    return tuple(int(np.clip(side, least, most)) for side in size)


class _Images:
    """Normalised images of both kinds, float32 [count, height, width, 3] each."""

    def __init__(self, config: Config, seed: int, size: Tuple[int, int], count: int):
        self._config, self._seed, self._size, self.count = config, seed, size, count

    def of(self, kind: int) -> np.ndarray:
        return np.stack([self.one(kind, i) for i in range(self.count)])

    def batches(self, kind: int) -> Iterator[np.ndarray]:
        """Yield the same in batches of at most a quarter of a million pixels, or of one image."""
        step = max(1, 512**2 // (self._size[0] * self._size[1]))
        for first in range(0, self.count, step):
            yield np.stack([self.one(kind, i) for i in range(first, min(first + step, self.count))])

    def one(self, kind: int, number: int) -> np.ndarray:
        make, seed = (noise_image, photo_image)[kind], (self._seed + number) % 2**32
        image = make(*self._size, seed).astype(np.float32)
        if self._config.scale_range:
            return image / np.float32(127.5) - 1
        mean, deviation = np.float32(self._config.mean_rgb), np.float32(self._config.stddev_rgb)
        return (image - mean) / deviation


def _draw_weights(model: tf.keras.Model, seed: int):
    for weight in model.weights:
        name = weight.name.split(":")[0]
        rng = np.random.Generator(np.random.PCG64([seed & 0xFFFFFFFF, zlib.crc32(name.encode())]))
        noise = np.asarray(rng.standard_normal(tuple(weight.shape), dtype=np.float32))
        weight.assign(tf.cast(_initial_value(name, noise), weight.dtype))
    for block in model.backbone.blocks:
        # No activation follows, and a skip adds up what all blocks of a stage give.
        norm = block.last_norm
        norm.beta.assign(norm.beta - SHIFT)


def _initial_value(name: str, noise: np.ndarray) -> np.ndarray:
    leaf = name.split("/")[-1]
    if leaf == "depthwise_kernel":  # [height, width, channels, 1]
        height, width = noise.shape[:2]
        kernel = noise * np.float32(0.5 / np.sqrt(height * width))
        kernel[height // 2, width // 2] += 1  # Mostly the cell itself: a border has fewer neighbours to tell it apart.
        return kernel
    if leaf in ("kernel", "pointwise_kernel"):  # [height, width, in, out]
        kernel = noise * np.float32(np.sqrt(1.0 / np.prod(noise.shape[:3])))
        if "/stem/" in name:
            # Less colour than contrast: what is smooth in a photograph would drown what noise can show.
            kernel -= np.float32(0.7) * kernel.mean((0, 1), keepdims=True)
        return kernel * np.float32(0.1) if "/se/" in name else kernel
    if leaf == "gamma":
        return (1 + 0.1 * noise) * np.float32(1.0 if "/stem/" in name else GAIN)
    if leaf == "beta":
        return 0.1 * noise + np.float32(0.0 if "/stem/" in name else SHIFT)
    if leaf == "moving_variance" or leaf.startswith("WSM"):
        return np.ones_like(noise)
    return np.zeros_like(noise)


def _calibrate_batch_norm(model: tf.keras.Model, images: np.ndarray):
    """Set all moving statistics to those of one batch.

    In training mode every batch norm normalises by the statistics of the batch, so one pass in which the moving ones
    forget their past gives what each layer would see if all before it had them already.
    """
    norms = [layer for layer in model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        model(tf.constant(images), training=True)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
    for norm in norms:
        if norm.built:
            # A map of few cells may give a channel next to no variance, by which others would be blown up.
            variance = norm.moving_variance.numpy()
            norm.moving_variance.assign(np.maximum(variance, 0.05 * variance.mean() + 1e-6))


def _calibrate_boxes(model: tf.keras.Model, config: Config, features: Sequence[Sequence[tf.Tensor]]):
    """Make the anchors of a cell agree on a box that varies from cell to cell, as those around an object do."""
    predictor = model.box_net.predictor
    kernel = _last_kernel(predictor)
    by_anchor = kernel.numpy().reshape(*kernel.shape[:-1], -1, 4)
    mixed = np.sqrt(SHARED) * by_anchor[..., :1, :] + np.sqrt(1 - SHARED) * by_anchor
    kernel.assign(mixed.reshape(kernel.shape))
    outputs = [out.numpy() for maps in features for out in model.box_net(maps)]
    outputs = np.concatenate([out.reshape(-1, by_anchor.shape[-2], 4) for out in outputs]).astype(np.float64)
    scale = BOX_SPREAD / np.maximum(outputs.std((0, 1)), 1e-6)  # [4]
    bias = -outputs.mean(0) * scale  # [anchors of a cell, 4]
    bias[:, 2:] -= _log_sides(config)  # What takes an anchor to the mean size of all.
    kernel.assign((mixed * scale).reshape(kernel.shape).astype(np.float32))
    predictor.bias.assign(bias.reshape(-1).astype(np.float32))


def _log_sides(config: Config) -> np.ndarray:
    """Return the logarithms of height and width of the anchors of a cell, less their means, [anchors of a cell, 2]."""
    shape = (config.min_level, config.max_level, config.num_scales, config.aspect_ratios, config.anchor_scale)
    boxes = Anchors(*shape, image_size=2**config.max_level).boxes[: config.num_scales * len(config.aspect_ratios)]
    sides = np.log(boxes[:, 2:] - boxes[:, :2])
    return sides - sides.mean(0)


def _last_kernel(convolution: tf.keras.layers.Layer) -> tf.Variable:
    return (
        getattr(convolution, "pointwise_kernel", None)
        if hasattr(convolution, "pointwise_kernel")
        else convolution.kernel
    )


class _ClassHead:
    """The last convolution of the class head, with outputs (anchor, class) of which half look at each kind of image."""

    def __init__(self, model: tf.keras.Model, config: Config):
        self._model, self._predictor = model, model.class_net.predictor
        self._anchors, self._classes = len(config.aspect_ratios) * config.num_scales, config.num_classes
        self._threshold = config.nms_configs.score_thresh or 0.0

    def _kinds(self) -> np.ndarray:
        """Return which kind of image every output looks at, [anchors, classes]: every other class, or anchor."""
        anchors, classes = np.mgrid[: self._anchors, : self._classes]
        return (classes if self._classes > 1 else anchors) % 2

    def choose_directions(self, hidden: Sequence[Sequence[tf.Tensor]], rng: np.random.RandomState):
        """Set kernel and bias so that logits have mean 0 and, in the kind of image they look at, variance 1.

        Args:
          hidden: for each kind a list over levels of what the last convolution gets, [N, H_l, W_l, filters].
        """
        kernel = _last_kernel(self._predictor)
        depthwise = getattr(self._predictor, "depthwise_kernel", None)
        if depthwise is not None:
            maps = [[tf.nn.depthwise_conv2d(m, depthwise, [1, 1, 1, 1], "SAME") for m in levels] for levels in hidden]
        else:
            maps = hidden
        maps = [[m.numpy().astype(np.float64) for m in levels] for levels in maps]
        values = np.zeros((self._anchors, self._classes, kernel.shape[-2]))
        for kind, (basis, offset) in enumerate(_views(maps)):
            shared = rng.standard_normal((1, self._classes, basis.shape[1]))
            own = rng.standard_normal((self._anchors, self._classes, basis.shape[1]))
            mixed = (np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own) / np.sqrt(basis.shape[1])
            values = np.where((self._kinds() == kind)[..., None], mixed @ basis.T + offset, values)
        values = values.reshape(-1, kernel.shape[-2]).T  # [filters, anchors * classes]
        means = [m.reshape(-1, m.shape[-1]).mean(0) for levels in maps for m in levels[:1]]
        full = np.zeros(kernel.shape, np.float32)
        full[tuple(side // 2 for side in kernel.shape[:2])] = values
        kernel.assign(full)
        self._predictor.bias.assign((-np.mean(means, 0) @ values).astype(np.float32))

    def maxima(self, images: _Images, kind: int) -> np.ndarray:
        """Return the largest logit of every anchor among the outputs of either half, [2, images * N]."""
        found, kinds = [], self._kinds()
        for batch in images.batches(kind):
            features = self._model.features(batch)
            for feature in self._model.class_net.hidden(features):
                logits = self._predictor(feature).numpy().reshape(-1, self._anchors, self._classes)
                halves = [np.where(kinds == half, logits, -np.inf).max(-1) for half in (NOISE, PHOTO)]
                found.append(np.stack(halves).reshape(2, -1))
        return np.concatenate(found, axis=1)

    def choose_biases(self, maxima: Sequence[np.ndarray], candidates: int, images: int, seed: int) -> CalibrationReport:
        """Scale and shift the logits of both halves to the wanted number of candidates.

        Args:
          maxima: for each kind of image what `maxima` returned.
          images: how many images of a kind that were.
        """
        # Beyond these a threshold has no useful logit; the report counts with the true one.
        level = _logit(np.clip(self._threshold, 1e-3, 0.99))
        scales, shifts = np.ones(2), np.zeros(2)
        for half in (PHOTO, NOISE):
            logits = maxima[half][half]
            wanted = min(candidates * images, maxima[half].shape[1] // 2)
            if half == NOISE:  # What the other half finds in noise counts as well.
                others = maxima[NOISE][PHOTO] * scales[PHOTO] + shifts[PHOTO] > level
                logits, wanted = logits[~others], max(0, wanted - np.count_nonzero(others))
            logits = np.sort(logits[np.isfinite(logits)])[::-1]
            if not len(logits):
                continue
            edge = _edge(logits, wanted)
            if half == PHOTO:  # It may find a sixth of what is wanted in noise, not more.
                edge = max(edge, _edge(np.sort(maxima[NOISE][PHOTO])[::-1], wanted // 6))
            span = max(logits[0] - edge, 0.1)
            scales[half] = max(_logit(TOP_SCORE) - level, 0.1) / span
            shifts[half] = level - scales[half] * edge
        kernel, bias = _last_kernel(self._predictor), self._predictor.bias
        scale, shift = (values[self._kinds()].reshape(-1).astype(np.float32) for values in (scales, shifts))
        kernel.assign(kernel * scale)
        bias.assign(bias * scale + shift)
        with np.errstate(divide="ignore"):
            exact = _logit(self._threshold)
        counts = [
            np.count_nonzero((kind * scales[:, None] + shifts[:, None]).max(0) > exact) / images for kind in maxima
        ]
        return CalibrationReport(counts[NOISE], counts[PHOTO], self._threshold, seed)


def _edge(descending: np.ndarray, wanted: int) -> float:
    """Return a value that `wanted` of the sorted values exceed."""
    wanted = min(wanted, len(descending) - 1)
    return float((descending[wanted - 1] + descending[wanted]) / 2 if wanted else descending[0] + 1e-3)


def _logit(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))


class _View(NamedTuple):
    """Where one half of the class head looks."""

    basis: np.ndarray  # [C, K], directions; over the cells of its kind features times a column have a variance of one
    offset: np.ndarray  # [C], added to all of its outputs


def _views(maps: Sequence[Sequence[np.ndarray]]) -> Tuple[_View, _View]:
    """Return for each kind of image where its features vary most and nothing else varies.

    Args:
      maps: for each kind a list over levels of [N, H_l, W_l, C].
    """
    noise_near, noise_far = _variations(maps[NOISE])
    photo_near, photo_far = _variations(maps[PHOTO])
    noise, photo = noise_near + noise_far, photo_near + photo_far
    means = np.stack([[_inner(level).mean(0) for level in levels] for levels in maps])  # [2, levels, C]
    between = means.mean(1)
    levels = _scatter((means - between[:, None]).reshape(-1, means.shape[-1])) + ROUNDING**2 * np.eye(means.shape[-1])
    kinds = _scatter(between - between.mean(0))
    borders = _scatter(np.concatenate([_borders(level) for levels in maps for level in levels]))
    for_noise = _best_ratio(noise_near, photo + 4 * noise_far + levels + kinds + borders, max(1, len(borders) // 3))
    # Noise varies as much as photographs in most directions, so these look along few, and away from noise as a whole.
    for_photo = _best_ratio(photo, noise + levels + 0.3 * borders, min(3, len(borders)))
    apart = between[PHOTO] - between[NOISE]
    away = np.linalg.solve(noise + photo + levels + 0.1 * borders, apart)
    away *= AWAY_FROM_NOISE / max(away @ apart, 1e-12)
    return _View(for_noise, np.zeros_like(away)), _View(for_photo, away)


def _best_ratio(signal: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """Return `count` columns v with the largest v' signal v / v' other v, each scaled to v' signal v = 1."""
    lower = np.linalg.inv(np.linalg.cholesky(other))
    _, vectors = np.linalg.eigh(lower @ signal @ lower.T)  # Ascending.
    columns = (lower.T @ vectors)[:, -count:]
    return columns / np.sqrt(np.einsum("ik,ij,jk->k", columns, signal, columns))


def _scatter(rows: np.ndarray) -> np.ndarray:
    return rows.T @ rows / max(1, len(rows))


def _inner(level: np.ndarray) -> np.ndarray:
    """Return the cells [K, C] that are not at the border, or all where there would be none."""
    inner = level[:, 1:-1, 1:-1] if min(level.shape[1:3]) > 2 else level
    return inner.reshape(-1, level.shape[-1])


def _borders(level: np.ndarray) -> np.ndarray:
    """Return by how much the mean of each side and each corner differs from that of the inner cells, [8, C]."""
    if min(level.shape[1:3]) < 3:
        return np.zeros((0, level.shape[-1]))
    places = [(slice(1, -1), end) for end in (0, -1)] + [(end, slice(1, -1)) for end in (0, -1)]
    places += [(one, other) for one in (0, -1) for other in (0, -1)]
    means = [level[(slice(None), *place)].reshape(-1, level.shape[-1]).mean(0) for place in places]
    return np.stack(means) - _inner(level).mean(0)


def _variations(levels: Sequence[np.ndarray], block: int = 4) -> Tuple[np.ndarray, np.ndarray]:
    """Return the covariances within and between blocks of cells, means over the levels that have blocks."""
    near, far = [], []
    for level in levels:
        inner = level[:, 1:-1, 1:-1]
        rows, columns = inner.shape[1] // block, inner.shape[2] // block
        if rows * columns < 4:
            continue
        inner = inner[:, : rows * block, : columns * block]
        blocks = inner.reshape(len(inner), rows, block, columns, block, -1)
        means = blocks.mean((2, 4), keepdims=True)
        near.append(_scatter((blocks - means).reshape(-1, inner.shape[-1])))
        centred = means.reshape(-1, inner.shape[-1])
        far.append(_scatter(centred - centred.mean(0)))
    return np.mean(near, 0), np.mean(far, 0)
