# SPDX-License-Identifier: Apache-2.0
"""What is suggested for an option that does not exist: the one that was meant, never another that shares letters."""

import pytest

from ipu_utils.config.closeness import option_meant
from ipu_utils.config.command_line import build_parser


def error_of(capsys, *argv):
    """The first line of what the throughput script says of options that it does not take."""
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(list(argv))
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[0]


def said_of(capsys, *argv):
    """The message behind the words that it repeats."""
    start, found, said = error_of(capsys, *argv).partition(f"unrecognized arguments: {' '.join(argv)}.")
    assert found and start == "error: "
    return said.strip()


@pytest.mark.parametrize(
    "typed",
    [
        "--num-workers", "--num-gpus", "--num-cores", "--num-batches", "--num-samples", "--num-instances",
        "--image-width", "--model-version", "--list-models", "--list-engines", "--max-seconds", "--skip-nms",
        "--speed", "--port", "--restart", "--device-id", "--random", "--io", "--log", "--sorce", "--x",
    ],
)  # fmt: skip
def test_another_word_gets_none(typed, capsys):
    assert said_of(capsys, typed, "x") == ""


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("--cofnig", "--config"),
        ("--nmu-repeats", "--num-repeats"),
        ("--num_repeat", "--num-repeats"),
        ("--imagepath", "--image-path"),
        ("--image-szie", "--image-size"),
        ("--microbatch-size", "--micro-batch-size"),
        ("--output-predicitons", "--output-predictions"),
        ("--model-precison", "--model-precision"),
        ("--enigne", "--engine"),
        ("--devise", "--device"),
        ("--sede", "--seed"),
        ("--seeed", "--seed"),
        ("--quite", "--quiet"),
        ("--partials", "--partials-precision"),
        ("--sheet", "--contact-sheet"),
        ("--candidates", "--random-candidates"),
        ("--warm-up", "--warmup"),
    ],
)
def test_a_slip_of_the_finger_or_a_part_gets_the_option(typed, meant, capsys):
    assert said_of(capsys, typed, "x") == f"Did you mean '{meant}'?"


@pytest.mark.parametrize(
    "typed, ours",
    [
        ("--image-dir", "--image-path photos"),
        ("--dataset-path", "--image-path photos"),
        ("--model-path", "--model-dir photos"),
        ("--models", "--model-name NAME"),
        ("--precisions", "--model-precision PRECISION"),
        ("--random-seed", "--seed N"),
        ("--results-html", "--report photos"),
        ("--report-json", "--results-json photos"),
    ],
)
def test_what_others_call_an_option_is_answered_with_ours(typed, ours, capsys):
    assert said_of(capsys, typed, "photos") == f"{typed} is {ours} here."


def test_every_option_is_found_with_two_of_its_letters_swapped_or_one_left_out():
    known = [flag for flag in build_parser()._option_string_actions if flag.startswith("--")]
    for flag in known:
        for at in range(3, len(flag) - 1):
            if "-" in flag[at : at + 2]:
                continue
            swapped = flag[:at] + flag[at + 1] + flag[at] + flag[at + 2 :]
            assert option_meant(swapped, known) == flag, swapped
            if len(flag) > 6:
                shorter = flag[:at] + flag[at + 1 :]
                assert option_meant(shorter, known) == flag, shorter


@pytest.mark.parametrize(
    "argv, said",
    [
        ("--exec_file x", "Did you mean '--exec-file' of ipu_embedded_inference.py?"),
        ("--mesure end-to-end", "Did you mean '--measure' of ipu_embedded_inference.py?"),
        ("--num-workers 1 --exec-file x", "--exec-file is an option of ipu_embedded_inference.py."),
        (
            "--cofnig a --mesure b",
            "For --cofnig: did you mean '--config'? For --mesure: did you mean '--measure' of "
            "ipu_embedded_inference.py?",
        ),
        (
            "--exec-file x --imgsz 64",
            "--exec-file is an option of ipu_embedded_inference.py. --imgsz is --image-size 64 here.",
        ),
    ],
)  # fmt: skip
def test_each_unknown_option_is_looked_up_in_the_other_script_too(argv, said, capsys):
    assert said_of(capsys, *argv.split()) == said


@pytest.mark.parametrize(
    "flag, word, said",
    [
        ("--output-predictions", "d1", "Did you mean --model-name efficientdet-d1?"),
        ("--random-weights", "lite0", "Did you mean --model-name efficientdet-lite0?"),
        ("--dry-run", "tests/data/trained/images", "--image-path"),
    ],
)
def test_a_word_behind_a_switch_is_told_as_the_word_that_it_is(flag, word, said, capsys):
    message = error_of(capsys, flag, word)
    assert f"{flag} must be one of true" in message and f"or have no value; got '{word}'." in message
    assert said in message.partition("got ")[2]
