# SPDX-License-Identifier: Apache-2.0
"""Command lines, presets, hparams and executables: inputs and the functions they go into."""

import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import random
from pathlib import Path
from typing import Any, List, Tuple

import hparams_config
from fuzz import file_surfaces
from fuzz.benchmark_surface import Benchmarks
from fuzz.driver import mutated
from fuzz.image_files import Images
from fuzz.in_folder import InFolder
from fuzz.json_surfaces import CocoAnnotations, Records
from fuzz.texts import WORDS, bent, word
from ipu_utils.base.errors import ConfigError
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.preset_files import CONFIG_DIR, read_preset
from ipu_utils.config.run_config import load_config, options_dict
from ipu_utils.config.run_hparams import hparams_of
from ipu_utils.config.sections import all_rules
from ipu_utils.executable import file

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ("POPLAR_ENGINE_OPTIONS", "TF_POPLAR_FLAGS")
ENGINE_OPTIONS = ("{}", "[]", '{"autoReport.all": "true", "autoReport.directory": "x"}', '{"a": 1', '{"a": null}', "0",
                  '{"debug.instrument": true}', "--use_synthetic_data --executable_cache_path=x", "flags")  # fmt: skip


class CommandLines:
    """`load_config` on command lines and Poplar's variables of either script, on a host and on an IPU."""

    name = "arguments"

    def __init__(self) -> None:
        self._flags, self._words = {}, {}
        for script in ("throughput", "embedded"):
            actions = build_parser(script)._actions
            left_out = ("--help", "--list-devices", "--version")  # They look at the machine, and print pages.
            names = [action.option_strings[-1] for action in actions if action.option_strings[-1] not in left_out]
            self._flags[script] = names
            texts = [str(action.metavar) for action in actions]
            self._words[script] = sorted({choice for text in texts for choice in text.split("|") if "|" in text})

    def make(self, rng: random.Random) -> Any:
        """(script, arguments, environment, device that `auto` finds)."""
        script = rng.choice(sorted(self._flags))
        arguments: List[str] = []
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5, 9))):
            flag = rng.choice(self._flags[script])
            flag = bent(rng, flag) if rng.random() < 0.1 else flag
            value = word(rng, self._words[script])
            arguments += rng.choice(
                ([flag, value], [f"{flag}={value}"], [flag], [value]) if rng.random() < 0.2 else ([flag, value],)
            )
        environ = {name: rng.choice(WORDS + ENGINE_OPTIONS) for name in VARIABLES if rng.random() < 0.2}
        return script, arguments, environ, rng.choice(("cpu", "gpu", "ipu"))

    def try_out(self, given: Any) -> str:
        """Accepted is a configuration that can be recorded, refused is status 2 with one `error:` at the end."""
        script, arguments, environ, found = given
        printed = io.StringIO()
        try:
            with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
                config = load_config(arguments, script, lambda asked: found if asked == "auto" else asked, environ)
            json.dumps(options_dict(config))
            return "accepted"
        except SystemExit as stop:
            if stop.code == 0 and any(argument.startswith("-h") or argument == "--help" for argument in arguments):
                return "accepted"
            assert stop.code == 2, f"status {stop.code}"
            assert "error: " in printed.getvalue(), printed.getvalue()
            return "refused"

    def close(self) -> None:
        """Nothing was made."""


class Presets(InFolder):
    """`read_preset` on damaged presets and on random YAML."""

    name = "yaml"
    VALUES = ("1", "2", "0.5", "true", "half", "cpu", "generated", "64", "'64x96'", "best-class", "x")
    PIECES = (
        "efficientdet-d0:", "efficientdet-base:", "  host:", "  num-repeats: 3", "  micro_batch_size: [1]", "&a", "*a",
        "<<: *a", "- ", "? ", "!!python/object/apply:os.system ['true']", "!!binary aGk=", "!!timestamp 2001-01-01",
        "!!set {a, b}", "!!float x", "!!int 0b", "%YAML 9.9", "---", "...", "{a: {b: c}}", "[[[[", "\t", "2001-99-99",
        "0o777777777777777777777", "1:99:99", "=", "<<", ".inf", ".nan", "|", ">", "'", '"', '"\\x0"', "\ufeff", "\x00",
        "\x85",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._whole = [path.read_bytes() for path in sorted(CONFIG_DIR.glob("*.yml"))]
        self._options = sorted(all_rules())

    def make(self, rng: random.Random) -> bytes:
        """The bytes of a file."""
        kind = rng.random()
        if kind < 0.2:
            whole = rng.choice(self._whole)
            start = rng.randrange(len(whole))
            return mutated(rng, whole[start : start + 1500])
        if kind < 0.6:  # right but for a value, if at all
            options = rng.sample(self._options, rng.randrange(1, 4))
            lines = [f"  {name}: {word(rng, self.VALUES)}\n" for name in options]
            return "".join(["efficientdet-d0:\n", *lines]).encode("utf-8", "replace")
        lines = []
        for _ in range(rng.randrange(1, 12)):
            piece = rng.choice(self.PIECES) if rng.random() < 0.8 else word(rng)
            lines.append(" " * rng.choice((0, 0, 1, 2, 4)) + piece + rng.choice(("\n", "\n", " ", "")))
        return "".join(lines).encode("utf-8", "surrogateescape" if rng.random() < 0.5 else "replace")

    def try_out(self, given: bytes) -> str:
        """Accepted is a mapping of options, refused a ConfigError."""
        path = self.folder / "preset.yml"
        path.write_bytes(given)
        try:
            assert isinstance(read_preset(str(path), "efficientdet-d0").host, dict)
            return "accepted"
        except ConfigError:
            return "refused"


class Hparams(InFolder):
    """`hparams_of` on texts and on YAML files of changes."""

    name = "hparams"

    def __init__(self) -> None:
        super().__init__()
        config = hparams_config.get_inference_config("efficientdet-d0").as_dict()
        inner = [f"nms_configs.{key}" for key in config["nms_configs"]]
        self._keys = [*config, *inner, "label_map.1", "backbone_config.x", "fpn_config.nodes", "use_bfloat16"]

    def make(self, rng: random.Random) -> Tuple[bool, str]:
        """(is it a file?, text)."""
        as_file = rng.random() < 0.3
        pairs = []
        for _ in range(rng.randrange(1, 6)):
            key = word(rng) if rng.random() < 0.15 else rng.choice(self._keys)
            key = bent(rng, key) if rng.random() < 0.1 else key
            value = (
                rng.choice(("1", "[1, 2]", "(1, 2)", "{1: 'a'}", "a*b*c", "True", "1e-3", "-5", "'x'"))
                if rng.random() < 0.5
                else word(rng)
            )
            pairs.append(f"{key}: {value}\n" if as_file else f"{key}={value}")
        text = "".join(pairs) if as_file else ",".join(pairs)
        return as_file, bent(rng, text) if rng.random() < 0.3 else text

    def try_out(self, given: Tuple[bool, str]) -> str:
        """Accepted is a configuration that JSON can hold, refused a ConfigError."""
        as_file, text = given
        try:
            if as_file:
                path = self.folder / "changes.yaml"
                path.write_bytes(text.encode("utf-8", "surrogateescape" if "\udcff" in text else "replace"))
                text = str(path)
            hparams_of(ModelConfig(hparams=text)).to_json()
            return "accepted"
        except ConfigError:
            return "refused"


class Executables(InFolder):
    """`read_executable` on damaged files, and on files whose checksums are right but whose header is not."""

    name = "executables"
    NETWORK = bytes(range(256))
    VALUES = (
        None,
        True,
        0,
        1,
        -1,
        2**40,
        1e308,
        "",
        "x",
        "float32",
        [],
        [1],
        [64, 64],
        {},
        {"a": 1},
        [[]],
        {"min_level": 3},
    )

    def __init__(self) -> None:
        super().__init__()
        self._path = self.folder / "a.effdet"
        header = file.Header(
            "efficientdet-d0", (64, 96), 1, "uint8", "float32", (123.675, 116.28, 103.53), 90,
            {"min_level": 3, "max_level": 7, "num_scales": 3, "aspect_ratios": [1.0, 2.0, 0.5], "anchor_scale": 4.0},
            "best-class", {"method": "hard", "iou_thresh": None, "score_thresh": 0.4}, {1: "person"}, "float32",
            "random", True, {"weights": "a" * 64}, "OpenVINO 1.2.3", ("x86_64", "avx2"),
        )  # fmt: skip
        file.write_executable(self._path, header, self.NETWORK)
        self._whole = self._path.read_bytes()
        described = dataclasses.asdict(header)
        self._described = json.loads(json.dumps(described))
        self._described["network"] = {"size": len(self.NETWORK), "sha256": hashlib.sha256(self.NETWORK).hexdigest()}

    def make(self, rng: random.Random) -> bytes:
        """The bytes of a file."""
        if rng.random() < 0.4:
            return mutated(rng, self._whole)
        described = json.loads(json.dumps(self._described))
        for _ in range(rng.randint(1, 3)):
            groups = [described.get(name) for name in ("network", "anchors", "nms_configs", "label_map")]
            inside = rng.choice([described, *(group for group in groups if isinstance(group, dict))])
            key = rng.choice([*inside, word(rng)]) if inside else word(rng)
            if rng.random() < 0.2:
                inside.pop(key, None)
            else:
                inside[key] = copy.deepcopy(rng.choice(self.VALUES))
        text = json.dumps(described).encode("ascii")
        if rng.random() < 0.2:
            text = mutated(rng, text)
        return file.seal(text) + self.NETWORK

    def try_out(self, given: bytes) -> str:
        """Accepted is a header whose anchors, outputs and NMS can be made; refused is an ExecutableError."""
        from ipu_utils.executable.ports import output_names
        from tf2.anchor_boxes import Anchors
        from tf2.nms_settings import nms_settings

        self._path.write_bytes(given)
        try:
            header = file.read_executable(self._path).header
        except file.ExecutableError:
            return "refused"
        output_names(header)
        nms_settings(header.nms_configs)
        assert len(Anchors(**header.anchors, image_size=header.image_size).boxes)
        return "accepted"


KINDS = (
    CommandLines,
    Presets,
    Hparams,
    Images,
    Executables,
    CocoAnnotations,
    Records,
    Benchmarks,
    *file_surfaces.KINDS,
)
SURFACES = {surface.name: surface for surface in KINDS}
