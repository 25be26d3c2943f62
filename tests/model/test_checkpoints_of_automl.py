# SPDX-License-Identifier: Apache-2.0
"""The forms in which AutoML's users have weights beside the published ones: exported, trained from hub, with counters.

All are written by TensorFlow and h5py alone, from the reference implementation's names, shapes and order.
"""

import json
import re
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import reference_formulas

import hparams_config
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.model import checkpoint, checkpoint_files
from ipu_utils.model.checkpoint_match import listed
from tf2.efficientdet_keras import EfficientDetNet

DATA = Path(__file__).resolve().parents[1] / "data"
GOLDEN = np.load(DATA / "golden" / "live-efficientdet-d0-320x192.npz")
CLASS_BIAS = "class_net/class-predict/bias"


def variables_of(name):
    """(name, shape) of the reference's variables, in the order of its weights, and the places of the trainable ones."""
    listed = json.loads((DATA / "variables" / f"{name}.json").read_text())["variables"]
    places = [place for place, (_, _, trainable) in enumerate(listed) if trainable]
    return [(variable, shape) for variable, shape, _ in listed], places


def new_model(name="efficientdet-d0", hparams=""):
    config = hparams_config.get_efficientdet_config(name)
    config.override(hparams)
    model = EfficientDetNet(config=config)
    model.build((None, 64, 64, 3))
    return model


@pytest.fixture(scope="module")
def model():
    return new_model()


@pytest.fixture(scope="module")
def values():
    return checkpoints.live_values(GOLDEN, variables_of("efficientdet-d0")[0])


@pytest.fixture
def blank(model):
    for weight in model.weights:
        weight.assign(tf.fill(weight.shape, 0.5))
    return model


def assert_golden(model):
    class_outputs, box_outputs = model(reference_formulas.photo_input(192, 320, 99), training=False)
    for i, output in enumerate([*class_outputs, *box_outputs]):
        drift = np.abs(output.numpy().ravel()[GOLDEN[f"index_{i}"]] - GOLDEN[f"value_{i}"]).max()
        assert drift < 1e-3 * GOLDEN[f"std_{i}"], f"output {i}"


def counted(values):
    """The names that Keras gives the stem of the third network in a program."""
    stem = re.compile(r"/stem/(conv2d|tpu_batch_normalization)/")
    return {stem.sub(r"/stem_2/\1_2/", name): value for name, value in values.items()}


def all_counted(values):
    """One more in every counter that could be Keras' own: names that are those of other variables."""

    def more(match):
        return f"{match[1]}_{int(match[2] or 0) + 1}/"

    layers = re.compile(r"\b(stem|conv2d|depthwise_conv2d|tpu_batch_normalization)(?:_(\d+))?/")
    return {layers.sub(more, name): value for name, value in values.items()}


HEAD = [("efficientnet-b0/head/conv2d/kernel", np.ones((1, 1, 320, 1280), np.float32))]


def save(values, folder, form):
    unnamed = [(None, value) for value in values.values()]
    if form == "SavedModel":
        return checkpoints.write_saved_model(folder / "exported", unnamed, head=HEAD)
    if form == "SavedModel by TensorFlow":
        return checkpoints.write_saved_model(folder / "exported", unnamed, head=HEAD, whole=True)
    if form in ("SavedModel, trainable variables apart", "SavedModel, trainable variables apart, with names"):
        given = list(values.items()) if "names" in form else unnamed
        trainable = variables_of("efficientdet-d0")[1]
        return checkpoints.write_saved_model(folder / "exported", given, trainable=trainable)
    if form == "SavedModel in another order":
        return checkpoints.write_saved_model(folder / "exported", list(counted(values).items())[::-1], head=HEAD)
    if form == "hub":
        return checkpoints.write_hub_checkpoint(folder, values)
    if form == "hub with counters":
        return checkpoints.write_hub_checkpoint(folder, counted(values))
    names = {"h5 with counters": counted, "h5 with all counters": all_counted}[form](values)
    return checkpoints.write_h5(folder / "model.h5", names)


@pytest.mark.parametrize(
    "form, told",
    [
        ("SavedModel by TensorFlow", "(SavedModel, as saved; matched by order, as all shapes agree)"),
        ("SavedModel, trainable variables apart", "(SavedModel, as saved; matched by order, as all shapes agree)"),
        ("SavedModel, trainable variables apart, with names", "(SavedModel, as saved; matched by name)"),
        ("SavedModel in another order", "(SavedModel, as saved; matched by name, 5 of them without Keras' counters)"),
        ("hub", "(checkpoint trained from a hub module, as saved; matched by name)"),
        ("hub with counters", "matched by name, 5 of them without Keras' counters)"),
        ("h5 with counters", "(h5 file, as saved; matched by name, 5 of them without Keras' counters)"),
        ("h5 with all counters", "(h5 file, as saved; matched by order, as all shapes agree)"),
    ],
)
def test_each_form_gives_the_reference_outputs_and_tells_how_names_were_matched(blank, values, tmp_path, form, told):
    path = save(values, tmp_path, form)
    report = checkpoint.load_weights(blank, path)
    assert report.matched == report.total == len(values)
    assert told in str(report)
    for weight, (name, value) in zip(blank.weights, values.items()):
        np.testing.assert_array_equal(weight, value, err_msg=name)
    assert_golden(blank)


@pytest.mark.slow
@pytest.mark.parametrize("name", hparams_config.MODEL_NAMES)
def test_every_model_loads_from_each_form(name, tmp_path):
    described, trainable = variables_of(name)
    rng = np.random.RandomState(0)
    values = {variable: np.asarray(rng.rand(*shape), np.float32) for variable, shape in described}
    model = new_model(name)
    unnamed = [(None, value) for value in values.values()]
    for form, path in (
        ("export", checkpoints.write_saved_model(tmp_path / "export", unnamed)),
        ("named", checkpoints.write_saved_model(tmp_path / "named", list(values.items()), trainable=trainable)),
        ("hub", checkpoints.write_hub_checkpoint(tmp_path, values)),
        ("h5", checkpoints.write_h5(tmp_path / "model.h5", all_counted(values))),
    ):
        for weight in model.weights:
            weight.assign(tf.fill(weight.shape, 0.5))
        assert checkpoint.load_weights(model, path).matched == len(values), form
        for weight, value in zip(model.weights, values.values()):
            np.testing.assert_array_equal(weight, value, err_msg=form)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_what_tensorflow_exports_of_a_keras_model_loads_by_its_attributes(tmp_path, whole):
    saved = new_model("efficientdet-lite0")
    rng = np.random.RandomState(1)
    for weight in saved.weights:
        weight.assign(rng.rand(*weight.shape))
    saved(tf.zeros((1, 64, 64, 3)))
    root = saved
    if not whole:
        root = tf.Module()
        root.model = saved
    tf.saved_model.save(root, str(tmp_path / "exported"))
    loaded = new_model("efficientdet-lite0")
    assert "SavedModel, as saved; matched by attribute path" in str(checkpoint.load_weights(loaded, tmp_path))
    for one, other in zip(loaded.weights, saved.weights):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="belongs to no layer"):
        checkpoint.load_weights(new_model("efficientdet-lite0", "fpn_cell_repeats=2"), tmp_path)
    with pytest.raises(UserError, match="num_classes=90 fits"):
        checkpoint.load_weights(new_model("efficientdet-lite0", "num_classes=7"), tmp_path)


def test_a_saved_model_is_found_by_its_folder_the_one_above_and_its_files(values, tmp_path):
    folder = save(values, tmp_path, "SavedModel")
    prefix = folder / "variables" / "variables"
    packed = checkpoints.pack(tmp_path / "exported.tar.gz", folder, "efficientdet-d0")
    for given in (folder, folder / "saved_model.pb", folder / "variables", prefix, f"{prefix}.index"):
        assert checkpoint.find_checkpoint(given) == prefix
        assert prefix.with_suffix(".index") in checkpoint_files.checkpoint_files(Path(given))
    packed.rename(tmp_path.parent / f"{tmp_path.name}.tar.gz")  # else there are two checkpoints
    assert checkpoint.find_checkpoint(tmp_path) == prefix
    assert prefix.with_suffix(".index") in checkpoint_files.checkpoint_files(tmp_path)


def test_an_archive_of_a_saved_model_loads(blank, values, tmp_path):
    folder = save(values, tmp_path, "SavedModel")
    packed = checkpoints.pack(tmp_path / "exported.tar.gz", folder, "efficientdet-d0")
    assert checkpoint.load_weights(blank, packed).matched == len(values)
    np.testing.assert_array_equal(blank.weights[7], list(values.values())[7])


def changed(values, name, value):
    return {key: value if key == name else old for key, old in values.items()}


def is_untouched(model):
    return all((weight.numpy() == 0.5).all() for weight in model.weights)


@pytest.mark.parametrize("form", ["SavedModel", "hub", "h5 with counters"])
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: {k: x for k, x in v.items() if k != CLASS_BIAS}, "missing"),
        (lambda v: changed(v, CLASS_BIAS, np.zeros(7, np.float32)), "has shape [7], expected [810]"),
        (lambda v: changed(v, CLASS_BIAS, np.full(810, np.nan, np.float32)), "values that are not finite"),
        (
            lambda v: {k: x[..., :180] if "class-predict" in k and x.shape[-1] == 810 else x for k, x in v.items()},
            "--hparams num_classes=20 fits it",
        ),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_changed(blank, values, tmp_path, form, change, message):
    path = save(change(values), tmp_path, form)
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(blank, path)
    assert message in str(error.value)
    assert is_untouched(blank)


def test_more_variables_than_the_network_has_are_not_ignored(blank, values, tmp_path):
    more = [*((None, value) for value in values.values()), (None, np.zeros(3, np.float32))]
    with pytest.raises(UserError, match=r"model/variables/709/.* belongs to no layer"):
        checkpoint.load_weights(blank, checkpoints.write_saved_model(tmp_path / "more", more))
    cell = {**values, "fpn_cells/cell_3/fnode0/op_after_combine5/bn/gamma": np.zeros(64, np.float32)}
    for path in (
        checkpoints.write_hub_checkpoint(tmp_path, cell),
        checkpoints.write_saved_model(tmp_path / "cell", list(cell.items())),
        checkpoints.write_h5(tmp_path / "cell.h5", counted(cell)),
    ):
        with pytest.raises(UserError, match="belongs to no layer"):
            checkpoint.load_weights(blank, path)
    assert is_untouched(blank)


def test_order_does_not_help_where_names_contradict(blank, values, tmp_path):
    names = list(values)

    def swapped(text):
        return text.replace("cell_0", "cell_9").replace("cell_1", "cell_0").replace("cell_9", "cell_1")

    # Cells 0 and 1 have the same shapes, and a head is called something else, so that names alone do not do.
    moved = {swapped(name).replace("box_net", "box_head"): values[name] for name in names}
    kinds = {name.replace("gamma", "beta") if "beta" not in name else name.replace("beta", "gamma"): value
             for name, value in values.items()}  # fmt: skip
    kinds = {f"our_{name}": value for name, value in kinds.items()}
    for given in (moved, kinds):
        with pytest.raises(UserError, match="missing"):
            checkpoint.load_weights(blank, checkpoints.write_h5(tmp_path / "model.h5", given))
    assert is_untouched(blank)


def test_two_models_in_one_checkpoint_are_ambiguous(blank, values, tmp_path):
    made = [tf.Variable(value) for value in values.values()]
    two = tf.train.Checkpoint(
        student=tf.train.Checkpoint(variables=made), teacher=tf.train.Checkpoint(variables=list(map(tf.Variable, made)))
    )
    (tmp_path / "lists" / "variables").mkdir(parents=True)
    two.write(str(tmp_path / "lists" / "variables" / "variables"))
    twice = {**counted(values), **{name.replace("stem_2", "stem_1"): x for name, x in counted(values).items()}}
    (tmp_path / "names").mkdir()
    checkpoints.write_h5(tmp_path / "names" / "model.h5", twice)
    for folder in ("lists", "names"):
        with pytest.raises(UserError, match="ambiguous"):
            checkpoint.load_weights(blank, tmp_path / folder)
    assert is_untouched(blank)


def test_of_several_lists_that_with_all_variables_of_the_network_is_meant():
    def keys(root, count):
        return [f"{root}/variables/{number}/.ATTRIBUTES/VARIABLE_VALUE" for number in range(count)]

    shapes = {key: (1,) for root, count in (("backbone", 2), ("model", 3), ("outer", 4)) for key in keys(root, count)}
    assert listed(shapes, 3) == keys("model", 3)


def test_an_incomplete_network_is_not_made_whole_by_another_below_a_name(blank, tmp_path):
    paths = checkpoint.object_keys(blank)
    values = dict(zip(paths, blank.get_weights()))
    written = {**{f"teacher/{path}": value + 1 for path, value in values.items()}, **values}
    del written[paths[1]]
    written["_CHECKPOINTABLE_OBJECT_GRAPH"] = tf.constant(b"")  # an object-based one, which says nothing of its objects
    names, tensors = zip(*written.items())
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "both"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    with pytest.raises(UserError, match=re.escape(paths[1].split("/.ATTRIBUTES")[0])):
        checkpoint.load_weights(blank, tmp_path)
    assert is_untouched(blank)


@pytest.mark.slow
def test_a_student_and_its_teacher_in_one_checkpoint_are_ambiguous(blank, tmp_path):
    tf.train.Checkpoint(student=blank, teacher=new_model()).write(str(tmp_path / "both"))
    with pytest.raises(UserError, match="ambiguous"):
        checkpoint.load_weights(blank, tmp_path)
    assert is_untouched(blank)


def test_a_published_checkpoint_with_a_counted_stem_gives_its_averages(blank, values, tmp_path):
    raw = {name: value + 1 for name, value in counted(values).items()}
    checkpoints.write_tf1_checkpoint(tmp_path, raw, averages=counted(values))
    report = checkpoint.load_weights(blank, tmp_path)
    assert report.variable_set == "averaged" and "5 of them without Keras' counters" in report.how
    for weight, value in zip(blank.weights, values.values()):
        np.testing.assert_array_equal(weight, value)
