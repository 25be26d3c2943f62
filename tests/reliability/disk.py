# SPDX-License-Identifier: Apache-2.0
"""Places where nothing can be written, or not everything."""

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any, Callable, List, Sequence

from reliability.case import MODEL, Case, Outcome, Stage
from reliability.during import act_during
from reliability.privileges import give_up_root_powers
from reliability.runner import ROOT, after, command_of, here, in_process_of_its_own

RUN = ["--exec-file", "{executable}", "--num-repeats", "3"]
PICTURES = [*RUN, "--output-predictions", "--output-dir"]
FULL = "No space left on device"


def _small_disk() -> None:
    """No file may grow beyond 4 kB: the write that crosses it fails as on a full disk."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def _read_only(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o555)


def _file(folder: Path) -> None:
    (folder / "out").write_text("mine")


def _untouched(stage: Stage) -> None:
    assert (stage.folder / "out").read_text() == "mine"


def _nothing_left(stage: Stage) -> None:
    left = sorted(path.name for path in (stage.folder / "out").iterdir())
    assert not [name for name in left if name.startswith(".") or name.endswith(".part") or name == "detections.json"], (
        left
    )


def _deep_folder(folder: Path) -> None:
    (folder / "out").mkdir()


def _on_small_disk(size: int) -> Callable[[Stage], Outcome]:
    """Play the case with a file system of so many bytes at {folder}/out, which holds what is in {folder}/seed.

    The file system is of this process alone and goes with it; what it held is in {folder}/kept afterwards.
    """
    script = (
        'mount -t tmpfs -o size=$0 none "$1/out" && cp -r "$1/seed/." "$1/out" || exit 99; folder=$1; shift; "$@"; '
        'status=$?; cp -r "$folder/out/." "$folder/kept"; exit $status'
    )

    def run(stage: Stage) -> Outcome:
        for name in ("out", "seed", "kept"):
            (stage.folder / name).mkdir(exist_ok=True)
        command = command_of(stage.case.script, stage.filled(stage.case.arguments))
        own = ["bash", "-c", script, str(size), str(stage.folder), *command]
        return in_process_of_its_own([*NAMESPACE, *own], dict(stage.case.environ))

    return run


# A mount namespace for this process alone; one who is not root needs a user namespace around it.
NAMESPACE = ["unshare", "--mount", *([] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["--map-root-user"])]


def _kept(*names: str) -> Callable[[Stage], None]:
    """Nothing but complete files with such endings is left."""

    def check(stage: Stage) -> None:
        left = sorted(path.name for path in (stage.folder / "kept").rglob("*") if path.is_file())
        assert all(name.endswith(names) and not name.startswith(".") for name in left) if names else not left, left
        assert all(path.stat().st_size for path in (stage.folder / "kept").rglob("*") if path.is_file()), left

    return check


def _pictures_kept(stage: Stage) -> None:
    from ipu_utils.data.decode import read_image

    _kept(".jpg", ".json")(stage)
    pictures = list((stage.folder / "kept").rglob("*.jpg"))
    for path in pictures:
        read_image(path)
    (list_file,) = (stage.folder / "kept").rglob("*.json")
    listed = {entry["annotated"] for entry in json.loads(list_file.read_text())}
    assert listed and listed <= {path.name for path in pictures}


def _almost_full_table(folder: Path, executable: str) -> None:
    """A table of such runs that leaves a few bytes of its page of 4096."""
    path = folder / "seed" / "a.csv"
    path.parent.mkdir()
    arguments = ["--exec-file", executable, "--num-repeats", "3", "--results-csv", str(path)]
    assert here("embedded", arguments, {}).status == 0
    head, row = path.read_bytes().splitlines(keepends=True)
    rows = (4096 - len(head)) // len(row)
    path.write_bytes(head + row * rows)


def _appended(stage: Stage) -> Outcome:
    _almost_full_table(stage.folder, stage.values["executable"])
    return _on_small_disk(4096)(stage)


def _same_table(stage: Stage) -> None:
    before, after_it = ((stage.folder / name / "a.csv").read_bytes() for name in ("seed", "kept"))
    assert before == after_it


def _small(given: str, arguments: Sequence[str], words: List[str], size: int, check: Callable, **more: Any) -> Case:
    more = {"needs": ["executable", "tmpfs"], "run": _on_small_disk(size), **more}
    return Case(given, arguments, 2, [FULL, "free space", *words], "embedded", check=check, **more)


NUMBERED = ["--dataset-type", "image-directory", "--image-path", "{folder}/in"]


def _numbered_images(folder: Path) -> None:
    (folder / "in").mkdir()
    for number, path in enumerate(sorted((ROOT / "tests" / "data" / "images").glob("*.png")), 1):
        shutil.copy(str(path), str(folder / "in" / f"{number:012d}.png"))


def _whole_images(stage: Stage) -> None:
    """The file is what it should be, and holds every detection of the images that found room, the first at least."""
    found = json.loads((stage.folder / "kept" / "a.json").read_text())
    images = [entry["image_id"] for entry in found]
    assert images and set(images) < {1, 2, 3} and min(map(images.count, set(images))) > 10, images


def _removed_while_running(stage: Stage) -> Outcome:
    """Remove the folder of the pictures when requests are measured."""
    out = stage.folder / "out"
    arguments = stage.filled([*PICTURES, str(out), "--num-repeats", "100"])
    return act_during("measuring", "embedded", arguments, lambda run: shutil.rmtree(str(out)), 0).outcome


TMPFS = [
    _small(
        "a file system of 64 kB, and pictures",
        [*PICTURES, "{folder}/out/pictures", "--num-repeats", "12"],
        ["--output-dir"],
        65536,
        _pictures_kept,
    ),
    _small(
        "a file system of 4 kB, and a contact sheet",
        [*RUN, "--contact-sheet", "{folder}/out/a.png"],
        ["--contact-sheet"],
        4096,
        _kept(),
    ),
    _small(
        "a file system of 16 kB, and results in COCO's form",
        [*RUN, *NUMBERED, "--coco-results", "{folder}/out/a.json"],
        ["--coco-results"],
        16384,
        _whole_images,
        prepare=_numbered_images,
    ),
    _small(
        "a file system of 4 kB, and a record",
        [*RUN, "--results-json", "{folder}/out/a.json"],
        ["--results-json"],
        4096,
        _kept(),
    ),
    _small("a file system of 4 kB, and a page", [*RUN, "--report", "{folder}/out/a.html"], ["--report"], 4096, _kept()),
    _small(
        "a table on a file system with no room for one more row",
        [*RUN, "--results-csv", "{folder}/out/a.csv"],
        ["--results-csv"],
        4096,
        _same_table,
        run=_appended,
    ),
    _small(
        "a sweep whose records find no room",
        [*RUN, "--micro-batch-size", "1,01", "--results-json", "{folder}/out/a.json"],
        ["--results-json", "images/s"],
        4096,
        _kept(),
    ),
    _small(
        "a file system of 64 kB, and an executable",
        [*MODEL, "--exec-output-dir", "{folder}/out"],
        ["--exec-output-dir"],
        65536,
        _kept(),
        needs=["openvino", "tmpfs"],
        slow=True,
    ),
    _small(
        "a file system of 64 kB, and a cache of executables",
        [*MODEL, "--executable-cache-dir", "{folder}/out"],
        ["--executable-cache-dir"],
        65536,
        _kept(),
        needs=["openvino", "tmpfs"],
        slow=True,
    ),
]

CASES = [
    *TMPFS,
    Case(
        "--output-dir is removed while the run lasts",
        PICTURES,
        2,
        ["cannot be written", "No such file or directory", "--output-dir", "partial results of 100"],
        "embedded",
        _deep_folder,
        run=_removed_while_running,
        needs=["executable"],
    ),
    Case(
        "no permission to write into --output-dir",
        [*PICTURES, "{folder}/out"],
        2,
        ["--output-dir", "cannot be written to (Permission denied)"],
        "embedded",
        _read_only,
        run=after(give_up_root_powers),
        needs=["executable", "linux"],
    ),
    Case(
        "--output-dir is a file",
        [*PICTURES, "{folder}/out"],
        2,
        ["--output-dir", "cannot be written to"],
        "embedded",
        _file,
        check=_untouched,
        needs=["executable"],
    ),
    Case(
        "--output-dir below a file",
        [*PICTURES, "{folder}/out/deep"],
        2,
        ["--output-dir", "cannot be written to"],
        "embedded",
        _file,
        check=_untouched,
        needs=["executable"],
    ),
    Case(
        "the disk is full when pictures are written",
        [*PICTURES, "{folder}/out"],
        2,
        ["cannot be written", "--output-dir"],
        "embedded",
        _deep_folder,
        run=after(_small_disk),
        check=_nothing_left,
        needs=["executable", "linux"],
    ),
    Case(
        "the disk is full when an executable is written",
        [*MODEL, "--exec-output-dir", "{folder}/out"],
        2,
        ["cannot be written", "TMPDIR"],
        "embedded",
        _deep_folder,
        run=after(_small_disk),
        check=_nothing_left,
        needs=["openvino", "linux"],
        slow=True,
    ),
    Case(
        "the disk is full when a record is written",
        [*RUN, "--results-json", "{folder}/out/a.json"],
        2,
        ["cannot be written", "--results-json"],
        "embedded",
        _deep_folder,
        run=after(_small_disk),
        check=_nothing_left,
        needs=["executable", "linux"],
    ),
    Case(
        "--results-json is a folder",
        [*RUN, "--results-json", "{folder}"],
        2,
        ["is a folder"],
        "embedded",
        needs=["executable"],
    ),
    Case(
        "--exec-output-dir is a file",
        [*MODEL, "--exec-output-dir", "{folder}/out"],
        2,
        ["--exec-output-dir"],
        "embedded",
        _file,
        check=_untouched,
        needs=["openvino"],
    ),
]
