# SPDX-License-Identifier: Apache-2.0
"""Random weights that give a benchmark something to suppress.

Weights as initialised for training make a useless detector: activations shrink layer by layer, and no anchor, or every
one, scores above the threshold. Here, deterministic by seed,

1. weights are drawn so that the network is nearly linear: activations work around one, where they have a slope, and
   residual branches have half the gain. An untrained network with batch norm is otherwise chaotic; a rounding error,
   let alone another image, changes its outputs beyond recognition;
2. the statistics of every batch norm are taken from a forward pass over two kinds of images, noise and images with the
   statistics of photographs;
3. the anchors of a cell are made to agree on a box, so that boxes overlap as those of a detector do;
4. the class head looks along directions in which the features of one kind of image vary from cell to cell, half of the
   classes for noise and half for photographs, and not along those that tell the levels or the borders apart. Its biases
   are set so that the wanted number of anchors scores above the threshold.
"""

import zlib
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from hparams_config import Config
from ipu_utils.base.keras2 import tf
from ipu_utils.config.normalisation import normalisation_of
from ipu_utils.data.synthetic import noise_image, photo_image
from tf2.anchor_boxes import Anchors
from utils import ImageSize, parse_image_size

GAIN, SHIFT = 0.5, 1.0  # of a batch norm in front of an activation; see 1.
TOP_SCORE = 0.95  # of the best anchor in the calibration images
BOX_SPREAD = 0.25  # standard deviation of the box regressions, in units of an anchor's side
SHARED = 0.98  # of the variance of an output, how much the anchors of one cell have in common
RARE = 0.998  # quantile of the cells at which all classes are made alike
POOL = 8  # of so many random directions one is taken
AWAY_FROM_NOISE = 3.0  # by how many standard deviations the half for photographs lowers the logits of noise
ROUNDING = 0.02  # error of a feature that must not matter: far above bfloat16's on features around one
NOISE, PHOTO = 0, 1  # the two kinds of images, and the halves of the class head that look at them


def randomise(
    model: tf.keras.Model, config: Config, image_size: ImageSize, seed: int = 0, candidates: int = 300
) -> float:
    """Set all variables of an EfficientDetNet to calibrated random values.

    Args:
      model: in float32; its variables are made here if it has none yet.
      config: the model's; nms_configs.score_thresh is the threshold, and the images are normalised as it says.
      image_size: the size at which the model is to run.
      seed: the same seed gives the same values on the same machine and software.
      candidates: how many anchors of an image score above the threshold. At most half of all anchors will.

    Returns:
      How many do on average in an image of noise, as `generated` data is, among those that were calibrated on.
    """
    size = parse_image_size(image_size)
    if not model.weights:
        model.build((None, *size, 3))
    rng = np.random.RandomState(zlib.crc32(b"calibration") ^ seed & 0xFFFFFFFF)
    _draw_weights(model, seed)
    # Four cells across the coarsest level are enough for its statistics; with the largest models more take minutes.
    images = _Images(config, rng, _within(size, 256, 4 * 2**config.max_level), pixels=512**2)
    _calibrate_batch_norm(model, np.concatenate([*images.batches(NOISE), *images.batches(PHOTO)]))
    images = _Images(config, rng, _within(size, 256, 1024), pixels=2 * 512**2)
    # Traced once, run a dozen times: Keras takes longer to call its layers than they take to compute.
    network = tf.function(lambda batch: _features_and_hidden(model, batch), autograph=False)
    passes = [[network(batch) for batch in images.batches(kind)] for kind in (NOISE, PHOTO)]
    features, hidden = (
        [[tf.concat(levels, 0) for levels in zip(*(found[part] for found in kind))] for kind in passes]
        for part in (0, 1)
    )
    _calibrate_boxes(model, config, features)
    head = _ClassHead(model, config, network)
    head.choose_directions(hidden, rng)
    # Small images have few anchors, whose number above a threshold varies more from image to image.
    at_least = 3 if size[0] * size[1] <= 1024**2 else 2
    noise = _Images(config, rng, size, pixels=4 * 512**2, at_least=at_least)
    photos = _Images(config, rng, size, pixels=2 * 512**2)
    maxima = head.maxima(noise.batches(NOISE)), head.maxima(photos.batches(PHOTO))
    return head.choose_biases(maxima, (noise.count, photos.count), candidates)


def _features_and_hidden(model: tf.keras.Model, images: tf.Tensor) -> Tuple[List[tf.Tensor], List[tf.Tensor]]:
    """What the heads get, and what the last convolution of the class head gets; lists over levels."""
    features = model.features(images)
    return features, model.class_net.hidden(features)


def _within(size: Tuple[int, int], least: int, most: int) -> Tuple[int, int]:
    return tuple(int(np.clip(side, least, most)) for side in size)


class _Images:
    """Normalised images of either kind, float32, as many as have `pixels` together, from `at_least` to eight."""

    def __init__(
        self, config: Config, rng: np.random.RandomState, size: Tuple[int, int], pixels: int, at_least: int = 1
    ):
        self._config, self._size = config, size
        area = size[0] * size[1]
        self._step = max(1, 512**2 // area)  # images in a batch: memory is bounded by a quarter of a million pixels
        self.count = int(np.clip(pixels // area, at_least, 8))
        self._seeds = rng.randint(2**31, size=self.count)

    def batches(self, kind: int) -> Iterator[np.ndarray]:
        """Yield [N, height, width, 3], `count` images together."""
        for first in range(0, self.count, self._step):
            yield np.stack([self._one(kind, seed) for seed in self._seeds[first : first + self._step]])

    def _one(self, kind: int, seed: int) -> np.ndarray:
        image = (noise_image, photo_image)[kind](*self._size, seed).astype(np.float32)
        mean, deviation = np.float32(normalisation_of(self._config))
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
    """Return the kernel [height, width, in, out] that makes the outputs, be the convolution separable or not."""
    return convolution.pointwise_kernel if hasattr(convolution, "pointwise_kernel") else convolution.kernel


class _ClassHead:
    """The last convolution of the class head, with outputs (anchor, class) of which half look at each kind of image."""

    def __init__(self, model: tf.keras.Model, config: Config, network: Callable):
        self._network, self._predictor = network, model.class_net.predictor
        self._anchors, self._classes = len(config.aspect_ratios) * config.num_scales, config.num_classes
        self._threshold = config.nms_configs.score_thresh or 0.0

    def _kinds(self) -> np.ndarray:
        """Return which kind of image every output looks at, [anchors, classes]: every other class, or anchor."""
        anchors, classes = np.mgrid[: self._anchors, : self._classes]
        return (classes if self._classes > 1 else anchors) % 2

    def choose_directions(self, hidden: Sequence[Sequence[tf.Tensor]], rng: np.random.RandomState):
        """Set kernel and bias so that all outputs of a half are as likely to give a large logit.

        In the kind of image that an output looks at its logits have variance 1, and 0 at the rare end.

        Args:
          hidden: for each kind a list over levels of what the last convolution gets, [N, H_l, W_l, filters].
        """
        kernel = _last_kernel(self._predictor)
        depthwise = getattr(self._predictor, "depthwise_kernel", None)
        if depthwise is not None:
            hidden = [[tf.nn.depthwise_conv2d(m, depthwise, [1, 1, 1, 1], "SAME") for m in maps] for maps in hidden]
        maps = [[m.numpy().astype(np.float64) for m in levels] for levels in hidden]
        values = np.zeros((self._anchors, self._classes, kernel.shape[-2]))
        biases = np.zeros((self._anchors, self._classes))
        samples = [_sample(levels) for levels in maps]
        for kind, (basis, offset) in enumerate(_views(maps)):
            outputs = self._kinds() == kind
            shared = rng.standard_normal((POOL * self._classes, basis.shape[1])) / np.sqrt(basis.shape[1])
            if kind == PHOTO:
                shared = shared[_quietest(shared @ basis.T + offset, samples[PHOTO], samples[NOISE])]
            shared = shared[: self._classes]
            own = rng.standard_normal((self._anchors, self._classes, basis.shape[1])) / np.sqrt(basis.shape[1])
            mixed = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
            directions = (mixed @ basis.T + offset)[outputs]  # [outputs of this half, filters]
            logits = samples[kind] @ directions.T
            deviations = np.maximum(logits.std(0), 1e-6)
            values[outputs] = directions / deviations[:, None]
            biases[outputs] = -np.quantile(logits, RARE, axis=0) / deviations
        full = np.zeros(kernel.shape, np.float32)
        full[tuple(side // 2 for side in kernel.shape[:2])] = values.reshape(-1, kernel.shape[-2]).T
        kernel.assign(full)
        self._predictor.bias.assign(biases.reshape(-1).astype(np.float32))

    def maxima(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Return the largest logit of every anchor of all images among the outputs of either half, [2, N]."""
        found, kinds = [], self._kinds()
        for images in batches:
            for feature in self._network(images)[1]:
                logits = self._predictor(feature).numpy().reshape(-1, self._anchors, self._classes)
                halves = [np.where(kinds == half, logits, -np.inf).max(-1) for half in (NOISE, PHOTO)]
                found.append(np.stack(halves).reshape(2, -1))
        return np.concatenate(found, axis=1)

    def choose_biases(self, maxima: Sequence[np.ndarray], images: Tuple[int, int], candidates: int) -> float:
        """Scale and shift the logits of both halves to the wanted number of candidates; return that in noise.

        Args:
          maxima: for each kind of image what `maxima` returned.
          images: how many images of each kind that were.
        """
        # Beyond these a threshold has no useful logit; candidates are counted with the true one.
        level = _logit(float(np.clip(self._threshold, 1e-3, 0.99)))
        scales, shifts = np.ones(2), np.zeros(2)

        def fit(half, logits, edge):
            scales[half] = max(_logit(TOP_SCORE) - level, 0.1) / max(logits.max() - edge, 0.1)
            shifts[half] = level - scales[half] * edge

        wanted = [min(candidates * count, logits.shape[1] // 2) for count, logits in zip(images, maxima)]
        if np.isfinite(maxima[PHOTO][PHOTO]).all():
            # As many as wanted if what it finds in noise stays small, down to a third of that if not.
            here, there = maxima[PHOTO][PHOTO], maxima[NOISE][PHOTO]
            most, least = _edge(here, wanted[PHOTO]), _edge(here, wanted[PHOTO] // 3)
            edge = np.clip(_edge(there, wanted[NOISE] // 6), most, least)
            fit(PHOTO, here, max(edge, _edge(there, wanted[NOISE] // 4)))
        others = maxima[NOISE][PHOTO] * scales[PHOTO] + shifts[PHOTO] > level
        rest = maxima[NOISE][NOISE][~others]
        fit(NOISE, rest, _edge(rest, wanted[NOISE] - np.count_nonzero(others)))

        kernel, bias = _last_kernel(self._predictor), self._predictor.bias
        scale, shift = (values[self._kinds()].reshape(-1).astype(np.float32) for values in (scales, shifts))
        kernel.assign(kernel * scale)
        bias.assign(bias * scale + shift)
        logits = (maxima[NOISE] * scales[:, None] + shifts[:, None]).max(0)
        return float(np.count_nonzero(logits > _logit(self._threshold)) / images[NOISE])


def _edge(values: np.ndarray, wanted: int) -> float:
    """Return a number that `wanted` of the values exceed; of none, one just above the largest."""
    descending = np.sort(values)[::-1]
    wanted = min(max(wanted, 0), len(descending) - 1)
    return float((descending[wanted - 1] + descending[wanted]) / 2 if wanted else descending[0] + 1e-3)


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        return -np.inf if probability <= 0 else np.inf
    return float(np.log(probability) - np.log1p(-probability))


def _sample(levels: Sequence[np.ndarray]) -> np.ndarray:
    """Return at most some eight thousand of the cells, [K, C]."""
    cells = np.concatenate([_inner(level) for level in levels])
    return cells[:: 1 + len(cells) // 8192]


def _quietest(directions: np.ndarray, cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the order of the directions by how far the rare end of the other kind lies below that of their own.

    Args:
      directions: [D, C]. cells, others: [K, C], of the kind that the directions are for and of the other one.
    """
    # In float64, or with copies for the quantiles, this would be the peak of memory of a whole run.
    directions, cells, others = (array.astype(np.float32) for array in (directions, cells, others))
    logits = cells @ directions.T
    deviations = logits.std(0)
    margin = np.quantile(logits, RARE, axis=0, overwrite_input=True)
    del logits
    margin -= np.quantile(others @ directions.T, RARE, axis=0, overwrite_input=True)
    return np.argsort(-margin / np.maximum(deviations, 1e-6), kind="stable")


def _views(maps: Sequence[Sequence[np.ndarray]]) -> Tuple[Tuple[np.ndarray, np.ndarray], ...]:
    """Return for each kind of image where its features vary most and nothing else varies.

    Args:
      maps: for each kind a list over levels of [N, H_l, W_l, C].

    Returns:
      (basis, offset) of each: [C, K], directions, so that over the cells of the kind features times a column have a
      variance of one; [C], to be added to all of them.
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
    return (for_noise, np.zeros_like(away)), (for_photo, away)


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
