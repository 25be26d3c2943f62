# SPDX-License-Identifier: Apache-2.0
"""Every command that a page shows is one that the programs take.

Here its options are parsed, without a network; its complete dry run is slow. What stands for something of the reader's,
such as a folder of photographs, is replaced by something small that is there.
"""

import argparse
import atexit
import contextlib
import functools
import importlib
import importlib.util
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from dry_run import dry_run
from shown_commands import ROOT, Shown, commands_of, shown_commands
from videos import make_video

from ipu_utils.base.errors import NotSupportedError
from ipu_utils.config.command_line import Parser
from ipu_utils.config.run_config import load_config
from ipu_utils.launch.sweep_cells import cells

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
SCRIPTS = {"ipu_inference.py": "throughput", "ipu_embedded_inference.py": "embedded"}
TRAINED = ROOT / "tests" / "data" / "trained"
STANDS_FOR = {
    "photographs": str(ROOT / "tests" / "data" / "images"),
    "val2017": str(TRAINED / "images"),
    "instances_val2017.json": str(TRAINED / "annotations.json"),
}
VIDEO = "clip.mp4"  # which no file of the project can stand for
NOT_OURS = ("pip", "venv", "pytest", "-c", "program.py")  # what python is shown to run besides this project
SHOWN = shown_commands()
OF_SCRIPTS = [command for command in SHOWN if command.words[1:] and command.words[1] in SCRIPTS]


class ParsedError(Exception):
    """A program has parsed its options, and is not to do more."""


def check_parses(main, arguments):
    """The parser of a program takes the arguments."""

    def ending(whole):
        def parse_args(self, args=None, namespace=None):
            whole(self, args, namespace)
            raise ParsedError

        return parse_args

    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        for parser in (argparse.ArgumentParser, Parser):
            patch.setattr(parser, "parse_args", ending(parser.parse_args))
        patch.setattr(sys, "argv", ["program", *arguments])
        try:
            main()
        except ParsedError:
            return
        except SystemExit:
            pass
    raise AssertionError(said.getvalue() or "no options were parsed")


def check_program(path, arguments):
    """A file outside ipu_utils takes the arguments, if it parses any."""
    assert path.is_file(), f"there is no {path}"
    if "parse_args" in path.read_text():
        spec = importlib.util.spec_from_file_location(f"shown_{path.stem}", str(path))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        check_parses(module.main, arguments)


def check_make(words):
    """A Makefile has the targets and variables."""
    folder, words = (ROOT / words[1], words[2:]) if words[:1] == ["-C"] else (ROOT, words)
    rules = (folder / "Makefile").read_text()
    makefiles = [ROOT / "Makefile", *(ROOT / "NMS").rglob("Makefile"), *(ROOT / "NMS").glob("*.mk")]
    everything = "".join(path.read_text() for path in makefiles)
    for word in words:
        variable, is_set, _ = word.partition("=")
        if is_set:
            assert re.search(rf"\b{variable}\b", everything), f"no Makefile has a variable {variable}"
        else:
            assert re.search(rf"^{re.escape(word)}:", rules, re.MULTILINE), f"{folder}/Makefile has no target {word}"


def on_a_host(word):
    """A device of the command line; one that is not here is only parsed for."""
    return "cpu" if word == "auto" else word


@functools.lru_cache(maxsize=None)
def video():
    """A video where PyAV is there; else a file that has the name of one, which is as good for parsing."""
    path = Path(tempfile.mkdtemp(prefix="shown-")) / VIDEO
    atexit.register(shutil.rmtree, str(path.parent), ignore_errors=True)
    path.write_bytes(b"")
    return str(make_video(path, 2) if importlib.util.find_spec("av") else path)


def runs_of(words):
    """(arguments, configuration) of each run that a command line of a script asks for; none of --help and the like."""
    script = SCRIPTS[words[0]]
    arguments = [str(ROOT / word) if word.startswith("tests/") else STANDS_FOR.get(word, word) for word in words[1:]]
    arguments = [video() if word == VIDEO else word for word in arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            found = cells(arguments, script)
            each = [one.arguments for one in found] if found[0].values else [arguments]
            return [(one, load_config(one, script, choose_device=on_a_host, environ={})) for one in each]
    except SystemExit as ended:
        assert not ended.code, said.getvalue()
        return []


def check(words):
    """Fail unless a command can be typed as it is shown."""
    if words[0] == "make":
        return check_make(words[1:])
    what = words[2] if words[1:2] == ["-m"] else words[1]
    if what in SCRIPTS:
        runs_of(words[1:])
    elif what.startswith("ipu_utils."):
        if what.rpartition(".")[2].islower():  # else it stands for any of them
            assert importlib.util.find_spec(what), f"there is no {what}"
            if words[3:]:  # alone it may be the name of the tool
                check_parses(importlib.import_module(what).main, words[3:])
    elif what == "fuzz":
        check_program(ROOT / "tests" / "fuzz" / "__main__.py", words[3:])
    elif what not in NOT_OURS:
        check_program(ROOT / what, words[2:])


@pytest.mark.parametrize("command", SHOWN, ids=str)
def test_a_command_that_is_shown_parses(command):
    check(command.words)


@pytest.mark.slow
@pytest.mark.parametrize("command", OF_SCRIPTS, ids=str)
def test_the_dry_run_of_a_command_that_is_shown_ends_well(command, monkeypatch, tmp_path):
    script = SCRIPTS[command.words[1]]
    if script == "embedded" and not HAS_OPENVINO:
        pytest.skip("OpenVINO has no release for this Python")
    monkeypatch.chdir(tmp_path)
    for arguments, config in runs_of(command.words[1:]):
        if config.data.dataset_type == "video":
            pytest.importorskip("av", reason="PyAV is not installed: pip install av")
        if config.device.device != "cpu":
            pytest.skip(f"there is no {config.device.device} here")
        if config.data.dataset_type != "generated" and not {"--model-dir", "--random-weights"} & {*arguments}:
            arguments = [*arguments, "--model-name", "efficientdet-lite0", "--model-dir", str(TRAINED)]
        with contextlib.suppress(NotSupportedError):  # a row of a sweep that says so
            assert dry_run(*arguments, script=script)[0] == "dry run: nothing is measured"


PAGE = """
Text with `make demo`, `ipu_inference.py`, `python`, ``python -m ipu_utils.doctor`` and `python benchmarks/nms.py
--rounds 3`, then `eval "$(python -m ipu_utils.completion bash)"`.

```
make setup      # a remark
python ipu_inference.py --model-name d{0,1} \\
    --quiet > report.txt && mpirun -np 2 --bind-to none python ipu_inference.py --pin
    throughput: 20.23 samples/sec
```

1. A list:

       TF_POPLAR_FLAGS=--use_ipu_model python3 ipu_inference.py; pip install x
"""


def test_commands_are_found_in_blocks_and_in_text():
    assert [" ".join(command.words) for command in commands_of(PAGE, "page")] == [
        "make setup",
        "python ipu_inference.py --model-name d0 d1 --quiet",
        "python ipu_inference.py --pin",
        "python3 ipu_inference.py",
        "make demo",
        "python -m ipu_utils.doctor",
        "python benchmarks/nms.py --rounds 3",
        "python -m ipu_utils.completion bash",
    ]
    pages = {command.page for command in SHOWN}
    assert {"README.md", "CONTRIBUTING.md", "docs/DATA.md", "docs/EMBEDDED.md", "docs/IPU.md"} <= pages
    assert len(OF_SCRIPTS) > 10


@pytest.mark.parametrize(
    "text",
    [
        "python ipu_inference.py --model-nam d0",
        "python ipu_inference.py --model-name efficientdet-d9",
        "python ipu_inference.py --image-path no-such-folder",
        "mpirun -np 2 python ipu_inference.py --pinned",
        "python ipu_embedded_inference.py --micro-batch-size 1,x",
        "python -m ipu_utils.compare A.json --fail-if p50>+5%",
        "python -m ipu_utils.compare_precision --image-path x --model-name d9",
        "python -m ipu_utils.no_such_tool",
        "python benchmarks/peers.py --models efficientdet-d0 --precision float64",
        "python benchmarks/no_such.py",
        "make benchmarks",
        "make weights MODLE=efficientdet-d0",
    ],
)
def test_a_mistake_is_noticed(text):
    with pytest.raises(AssertionError):
        check(Shown("page", text.split()).words)
