# SPDX-License-Identifier: Apache-2.0
"""Do the tests notice when a line of the code is wrong? Changes single lines, one at a time, and runs their tests.

    pip install universalmutator
    python benchmarks/mutation.py --output mutation.jsonl

The changes are those of the package universalmutator, for Python and for C++. Of every area's lines that can be changed
a sample is drawn with a fixed seed, and of every line one change. Left out is what no behaviour depends on (comments,
docstrings, annotations, texts of errors and of the log), what does not compile, and in Python what makes up a name,
which any test would notice. Everything happens in a copy of the tree; the native libraries must have been built. A
change is noticed when a test fails, when the process dies, or when it takes several times the processor time that the
tests take otherwise. Results are appended as they come, one JSON object a line; a second run goes on where the first
ended, and `--table` prints what is there.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from mutation_areas import AREAS, Area
    from mutation_changes import ROOT, Change, candidates
    from publish import tell

    from ipu_utils.base.console import run_script
    from ipu_utils.base.errors import MissingPackageError, UserError
    from ipu_utils.base.start_notices import held_back

SEED = 13
# What a run of tests is forked from, to import it once. No operation may have run before a fork.
PRELOADED = ("numpy", "pytest", "tensorflow", "tf_keras", "pycocotools.cocoeval", "PIL.Image", "yaml", "h5py")


def _run_limited(child: Any, cpu_seconds: int, log: Path) -> Tuple[int, float]:
    """Exit status and processor seconds of a function in a fork with its own group and its output in `log`.

    It is stopped after `cpu_seconds` on the processor and, as a deadlock takes none, a while later in any case.
    """
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
            os._exit(child())
        finally:
            os._exit(70)
    deadline = time.monotonic() + 2 * cpu_seconds + 60
    done = 0
    try:
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
            if time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.05)
    finally:
        if not done:  # interrupted: its group is its own, Ctrl-C is not for it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


class Runner:
    """Runs tests in a copy of the tree."""

    def __init__(self, tree: Path, log: Path):
        self.tree, self.log = tree, log
        self._expected: Dict[str, float] = {}  # processor seconds of a test file, unchanged
        self._prepared: Set[str] = set()  # names of areas
        self._changed: Optional[Area] = None  # whose change is still in the native libraries

    def _pytest(self, test: str) -> int:
        import pytest

        os.chdir(self.tree)
        # What this program has imported of the project is not what is tested: that is the copy's.
        for name in [name for name in sys.modules if name.split(".")[0] == "ipu_utils"]:
            del sys.modules[name]
        sys.path[:0] = [str(self.tree), str(self.tree / "tests"), str(self.tree / "tests" / "support")]
        options = [
            f"--basetemp={self.tree.parent / 'pytest'}",
            "-x",
            "-q",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-c",
            ".pytest.ini",
        ]
        return int(pytest.main([*options, test]))

    def _command(self, *command: str) -> int:
        return subprocess.run(command, cwd=self.tree, stdout=2).returncode

    def build(self, area: Area) -> bool:
        """Whether the sources compile."""
        return not area.make or not _run_limited(
            lambda: min(1, self._command("make", *area.make, f"PYTHON={sys.executable}")), 3600, self.log
        )[0]  # fmt: skip

    def prepare(self, area: Area) -> None:
        """Builds for an area and measures its tests before anything is changed; they must pass."""
        if area.name in self._prepared:
            return
        self._prepared.add(area.name)
        if not self.build(area):
            raise UserError(f"{area.name}: does not build without any change, see {self.log}")
        for test in area.tests:
            status, self._expected[test] = _run_limited(lambda test=test: self._pytest(test), 3600, self.log)
            if status:
                raise UserError(f"{test} fails without any change, see {self.log}")

    def passes(self, area: Area, change: Change) -> bool:
        """Whether all tests of the area pass, in time; those named after the changed file run first."""
        tests = sorted(area.tests, key=lambda test: Path(change.file).stem not in test)
        return not any(
            _run_limited(lambda test=test: self._pytest(test), int(3 * self._expected[test]) + 30, self.log)[0]
            for test in tests
        )

    def outcome(self, area: Area, change: Change) -> str:
        """'noticed', 'survived', or 'invalid' for what does not compile."""
        if self._changed and not area.make:
            self.build(self._changed)
            self._changed = None
        path = self.tree / change.file
        original = path.read_text()
        lines = original.splitlines(keepends=True)
        lines[change.line - 1] = change.after
        path.write_text("".join(lines))
        try:
            if area.command:
                # Tests of C++ alone; without the program the change did not compile.
                program = self.tree / "NMS/tests/build/test_host"
                program.unlink(missing_ok=True)
                status, _ = _run_limited(lambda: min(1, self._command(*area.command)), 60, self.log)
                if status:
                    return "noticed" if program.exists() else "invalid"
            self._changed = area if area.make else None
            if not self.build(area):
                return "invalid"
            return "survived" if self.passes(area, change) else "noticed"
        finally:
            path.write_text(original)


def run(areas: Sequence[Area], seed: int, output: Path) -> None:
    """Tries changes area by area in turn, so that a run that is cut short has tried some of each."""
    os.environ.update(
        TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3", PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1",
        TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1",
    )  # fmt: skip
    sys.dont_write_bytecode = True
    with held_back():
        for name in PRELOADED:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    done = {(r["area"], r["file"], r["line"], r["after"]): r["outcome"] for r in records(output)}
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", "tmp")
        )
        runner = Runner(tree, output.with_suffix(".log"))
        queues: Dict[str, Iterator[Change]] = {area.name: candidates(area, seed) for area in areas}
        left = {area.name: area.count for area in areas}
        while any(left.values()):
            for area in areas:
                change = next(queues[area.name], None) if left[area.name] else None
                if change is None:
                    left[area.name] = 0
                    continue
                outcome = done.get((area.name, change.file, change.line, change.after))
                if outcome is None:
                    runner.prepare(area)
                    outcome = runner.outcome(area, change)
                    with output.open("a") as file:
                        file.write(json.dumps({"area": area.name, **change._asdict(), "outcome": outcome}) + "\n")
                    tell(f"{area.name}, {left[area.name]} left: {change.file}:{change.line} {outcome}")
                left[area.name] -= outcome != "invalid"


def records(output: Path) -> List[Dict[str, Any]]:
    """The results in a file, every change once."""
    lines = output.read_text().splitlines() if output.is_file() else []
    found = [json.loads(line) for line in lines]
    return list({(r["area"], r["file"], r["line"], r["after"]): r for r in found}.values())


def table(output: Path) -> str:
    """The figures of a file of results, and every change that no test noticed, as Markdown."""
    found = [record for record in records(output) if record["outcome"] != "invalid"]
    rows = ["| area | changes | noticed |", "| --- | ---: | ---: |"]
    for name in [*dict.fromkeys(record["area"] for record in found), "all"]:
        here = [record["outcome"] for record in found if name in (record["area"], "all")]
        rows.append(f"| {name} | {len(here)} | {here.count('noticed')} |")
    survivors = [record for record in found if record["outcome"] == "survived"]
    rows += [
        "",
        *(f"* {r['file']}:{r['line']}\n  `{r['before'].strip()}`\n  `{r['after'].strip()}`" for r in survivors),
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="file of results, one JSON object a line")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the sample (default {SEED})")
    parser.add_argument("--areas", nargs="+", choices=[area.name for area in AREAS], help="only these")
    parser.add_argument("--table", action="store_true", help="print the results that are there, run nothing")
    arguments = parser.parse_args()
    areas = [area for area in AREAS if not arguments.areas or area.name in arguments.areas]
    if not arguments.table:
        if importlib.util.find_spec("universalmutator") is None:
            how = missing_packages.pip_install("universalmutator")
            raise MissingPackageError(f"the changes come from the Python package universalmutator: run {how}.")
        run(areas, arguments.seed, arguments.output.resolve())
    print(table(arguments.output))


if __name__ == "__main__":
    sys.exit(run_script(main))
