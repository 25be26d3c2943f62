# SPDX-License-Identifier: Apache-2.0
"""Every model in every published form: what was saved is what is loaded, and what is changed is named."""

import json
import re
from pathlib import Path

import checkpoints
import golden_network
import numpy as np
import pytest

import hparams_config
from ipu_utils.base.errors import UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.model import checkpoint
from ipu_utils.model.checkpoint_mismatch import Misfit, guess
from tf2.efficientdet_keras import EfficientDetNet

DATA = Path(__file__).resolve().parents[1] / "data"
FORMS = ("names", "objects", "h5")
QUICK = ("efficientdet-d0", "efficientdet-lite0")
MODELS = [
    name if name == "efficientdet-lite0" else pytest.param(name, marks=pytest.mark.slow)
    for name in hparams_config.MODEL_NAMES
]


def new_model(name):
    model = EfficientDetNet(config=hparams_config.get_efficientdet_config(name))
    model.build((None, 64, 64, 3))
    return model


def published(name):
    """The formulas' value of every variable that the reference implementation has, in its order."""
    if name in QUICK:
        return golden_network.live(name).weights()
    variables = json.loads((DATA / "variables" / f"{name}.json").read_text())["variables"]
    return checkpoints.formula_weights((variable, shape) for variable, shape, _ in variables)


def save(model, values, folder, form):
    """Write a checkpoint of one form; the names of the first form come from the values, not from the model."""
    if form == "names":
        raw = {name: value + 1 for name, value in values.items()}
        return checkpoints.write_tf1_checkpoint(folder, raw, averages=values)
    for weight, value in zip(model.weights, values.values()):
        weight.assign(value)
    folder.mkdir()
    path = folder / ("model.h5" if form == "h5" else "model")
    model.save_weights(str(path))
    return path


def assert_golden(model, name):
    golden = golden_network.live(name)
    class_outputs, box_outputs = model(golden.input(), training=False)
    golden.assert_equal([*class_outputs, *box_outputs])


@pytest.mark.parametrize("name", MODELS)
def test_every_form_gives_back_all_variables_and_the_reference_outputs(name, tmp_path):
    model, values = new_model(name), published(name)
    for form in FORMS:
        path = save(model, values, tmp_path / form, form)
        for weight in model.weights:
            weight.assign(tf.fill(weight.shape, 0.5))
        report = checkpoint.load_weights(model, path.parent)
        assert report.matched == report.total == len(values)
        for weight, (variable, value) in zip(model.weights, values.items()):
            assert weight.name.split(":")[0] == variable
            np.testing.assert_array_equal(weight, np.float32(value), err_msg=f"{form}: {variable}")
        if name in QUICK:  # Of the others there are no reference outputs; variables decide them.
            assert_golden(model, name)


def rewritten(path, form, change):
    """Read a saved checkpoint's tensors, let `change` alter the dictionary, and write it again in the same form."""
    if form == "h5":
        import h5py

        with h5py.File(str(path), "r+") as file:
            change(file["box_net"])
        return
    reader = tf.train.load_checkpoint(str(path))
    tensors = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}
    change(tensors)
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


BIAS = {
    "names": "box_net/box-predict/bias/ExponentialMovingAverage",
    "objects": f"box_net/boxes/bias{checkpoint.VALUE}",
    "h5": "box_net/box-predict/bias:0",
}


def remove(tensors, key):
    del tensors[key]


def rename(tensors, key):
    tensors[key.replace("bias", "bias_1")] = np.array(tensors[key])
    del tensors[key]


def reshape(tensors, key):
    del tensors[key]
    tensors[key] = np.zeros(7, np.float32)


def spoil(tensors, key):
    del tensors[key]
    tensors[key] = np.full(36, np.nan, np.float32)


@pytest.fixture(scope="module")
def lite():
    return new_model("efficientdet-lite0"), published("efficientdet-lite0")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "change, problem",
    [
        (remove, "is missing"),
        (rename, "is missing"),
        (reshape, "has shape [7], expected [36]"),
        (spoil, "holds values that are not finite"),
    ],
)
def test_a_variable_that_is_missing_renamed_reshaped_or_spoilt_is_named(lite, tmp_path, form, change, problem):
    model, values = lite
    path = save(model, values, tmp_path / form, form)
    rewritten(path, form, lambda tensors: change(tensors, BIAS[form]))
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(model, path)
    assert f"{BIAS[form].split(':')[0]} {problem}" in str(error.value)
    assert path.name in str(error.value)


def shapes_of(name, form):
    """Keys and shapes of a published model's checkpoint, from the reference's lists, without building it."""
    described = json.loads((DATA / "variables" / f"{name}.json").read_text())
    if form == "names":
        return {variable: tuple(shape) for variable, shape, _ in described["variables"]}
    # Which shape belongs to which key is known to Keras alone; the guess reads that of one key.
    filters = hparams_config.get_efficientdet_config(name).fpn_num_filters
    return dict.fromkeys(described["object_checkpoint_keys"], (1, 1, filters, 810))


@pytest.mark.parametrize("form", ["names", "objects"])
@pytest.mark.parametrize("name", hparams_config.MODEL_NAMES)
def test_the_model_that_a_checkpoint_is_of_is_told(name, form):
    other = hparams_config.get_efficientdet_config(
        "efficientdet-d0" if name == "efficientdet-d7x" else "efficientdet-d7x"
    )
    text = guess(other, shapes_of(name, form), Misfit(["a", "b"], ["a"], []))
    assert text.startswith("It looks like ") and name in text.replace(":", "").split()
    if form == "names" and name not in ("efficientdet-d6", "efficientdet-d7"):  # Those two have the same variables.
        assert text == f"It looks like {name}: check --model-name."


@pytest.mark.parametrize("part", ["fpn_cells/", r"class_net/class-\d+/", "class_net/class-0-bn-", "class-predict"])
def test_a_checkpoint_without_one_of_the_parts_that_tell_its_model_is_told_by_its_backbone(part):
    shapes = {key: shape for key, shape in shapes_of("efficientdet-d0", "names").items() if not re.search(part, key)}
    text = guess(hparams_config.get_efficientdet_config("efficientdet-d3"), shapes, Misfit(["a", "b"], ["a"], []))
    assert text.startswith("It was saved with the backbone efficientnet-b0, not efficientnet-b3")
