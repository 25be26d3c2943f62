# SPDX-License-Identifier: Apache-2.0
"""What the report says of weights, when a run finds what another one compiled."""

import pytest

from ipu_utils.model.weights_text import from_here, looked_for_here, of_checkpoint, of_random


@pytest.mark.parametrize("path", ["tmp/d0/model", "/a (copy)/b; c (d)/model", "a\nb (x)/m", "x from y (z, w)"])
def test_the_place_of_weights_is_that_of_the_present_run(path):
    first = of_checkpoint(7, 9, path, "TensorFlow 1 checkpoint, averaged")
    wanted = "7 of 9 variables from new (1)/model (TensorFlow 1 checkpoint, averaged)"
    assert from_here(first, "new (1)/model") == wanted
    assert (
        from_here(f"{first}; AdvProp by its path", "new (1)/model", "; its path says x") == f"{wanted}; its path says x"
    )


def test_words_of_another_form_say_the_place_alone():
    assert from_here("as before", "here") == "those in here"


def test_the_place_where_a_checkpoint_was_looked_for_is_that_of_the_present_run():
    plain, there = of_random(3, 299.7), of_random(3, 299.7, "tmp/a (b)")
    assert plain == "random, seed 3, calibrated to 300 candidates an image"
    assert there == f"{plain} (no checkpoint in tmp/a (b))"
    for text in (plain, there):
        assert looked_for_here(text) == plain
        assert looked_for_here(text, "tmp/c") == f"{plain} (no checkpoint in tmp/c)"
