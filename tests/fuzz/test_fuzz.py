# SPDX-License-Identifier: Apache-2.0
"""A few seconds of what `make reliability` does for long, and what it found."""

import ast
import os
import random
import subprocess
import sys

import pytest

from fuzz import driver
from fuzz.driver import fuzz, mutated, random_of
from fuzz.surfaces import SURFACES
from ipu_utils.base.errors import ConfigError
from ipu_utils.base.safe_yaml import load_yaml
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.config.run_options import OutputConfig

COUNTS = {"arguments": 250, "yaml": 400, "hparams": 400, "images": 400, "executables": 500,
          "annotations": 150, "records": 120, "benchmarks": 200,
          "label-maps": 300, "archives": 300, "checkpoints": 150}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SURFACES))
def test_random_inputs_are_accepted_or_refused_and_nothing_else(name):
    surface = SURFACES[name]()
    try:
        outcome = fuzz(surface, COUNTS[name], seed=2)
    finally:
        surface.close()
    assert not outcome.findings, outcome.findings
    assert outcome.inputs == COUNTS[name]
    assert outcome.words["accepted"] and outcome.words["refused"], "the inputs are all alike"


def test_an_input_depends_on_surface_seed_and_number_alone():
    surface = SURFACES["yaml"]()
    try:
        made = [surface.make(random_of("yaml", 1, 7)) for _ in range(2)]
        others = [surface.make(random_of("yaml", *numbers)) for numbers in ((2, 7), (1, 8))]
    finally:
        surface.close()
    assert made[0] == made[1] and made[0] not in others


def test_a_finding_is_kept_once_with_its_input():
    class Broken:
        name = "broken"

        def make(self, rng: random.Random) -> bytes:
            return mutated(rng, b"some text")

        def try_out(self, given: bytes) -> str:
            if len(given) % 2:
                raise KeyError("odd")
            return "accepted"

    outcome = fuzz(Broken(), 50, seed=0)
    assert len(outcome.findings) == 1 and "KeyError: 'odd'" in outcome.findings[0].what
    assert len(outcome.findings[0].given) % 2 and outcome.words["found before"] > 1


def test_an_input_without_end_is_a_finding(monkeypatch):
    class Endless:
        name = "endless"

        def make(self, rng: random.Random) -> None:
            return None

        def try_out(self, given: None) -> str:
            while True:
                pass

    monkeypatch.setattr(driver, "HANG_SECONDS", 0.2)
    outcome = fuzz(Endless(), 1, seed=0)
    assert "Hang: no end after 0.2 s" in outcome.findings[0].what


def test_native_code_without_end_ends_the_process_and_names_the_input():
    code = """if True:
        import hashlib
        from fuzz import driver
        driver.NATIVE_SECONDS = 1
        class Endless:
            name = "endless"
            def make(self, rng): return rng.random()
            def try_out(self, given):
                if given > 0.9:
                    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)
                return "accepted"
        driver.fuzz(Endless(), 100, seed=0)
        """
    first = next(number for number in range(100) if random_of("endless", 0, number).random() > 0.9)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1 and f" in input_{first}\n" in run.stderr, run.stderr


def test_memory_that_stays_or_goes_is_a_finding():
    code = """if True:
        from fuzz import driver
        driver.LARGE_MIB = 32
        class Kept:
            name, kept = "kept", []
            def make(self, rng): return None
            def try_out(self, given):
                self.kept.append(b"x" * (2 << 20))
                return "accepted"
        class Large(Kept):
            def try_out(self, given):
                if not self.kept:
                    self.kept.append(len(b"x" * (100 << 20)))
                return "accepted"
        for surface in (Kept, Large):
            findings = driver.fuzz(surface(), 25, 0).findings
            print(*((found.number, found.what.split(" MiB more")[0]) for found in findings))
            Kept.kept.clear()
        """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # The peak of a process is at first that of the one which it was forked from: a small one.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code]
    run = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert not run.stderr
    kept, large = (ast.literal_eval(line) for line in run.stdout.splitlines())
    assert kept[0] == 20 and 32 < int(kept[1]) < 60
    assert large[0] == 0 and 32 < int(large[1]) < 110


FOUND = {
    "hparams": [
        "image_size=\u00b2",  # a digit, but no number
        "7\x1d=1",
        "nms_configs=None",
        "grad_checkpoint=" + "9" * 5000,
        "a={[]: 1}",
        "num_classes={0}",
        "9" * 5000 + "=1",
    ],
    "yaml": ["!!timestamp x: 1", "a: !!timestamp x", "a: 2001-99-99"],
}


@pytest.mark.parametrize("text", FOUND["hparams"], ids=range(len(FOUND["hparams"])))
def test_hparams_that_once_ended_in_a_traceback_are_refused(text):
    with pytest.raises(ConfigError):
        hparams_of(ModelConfig(hparams=text))


@pytest.mark.parametrize("text", FOUND["yaml"], ids=range(len(FOUND["yaml"])))
def test_yaml_that_once_ended_in_a_traceback_is_refused(text, tmp_path):
    path = tmp_path / "a.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot be used as YAML"):
        load_yaml(path)


@pytest.mark.parametrize("given", ["~nobody-of-that-name/x", "a" * 300, "b/" + "a" * 300, "a\0b"], ids=range(4))
def test_paths_that_once_ended_in_a_traceback_are_refused(given):
    with pytest.raises(ConfigError, match="--output-dir"):
        OutputConfig(output_dir=given)
