# SPDX-License-Identifier: Apache-2.0
"""Outputs that would destroy something, places that are no plain files, and names that would be obeyed."""

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Sequence

from reliability.case import Case, Outcome, Stage
from reliability.runner import ROOT, command_of, here, in_process_of_its_own

RUN = ["--exec-file", "{executable}", "--num-repeats", "2"]
FOLDER = [*RUN, "--dataset-type", "image-directory", "--image-path", "{folder}/in"]
PICTURE = (ROOT / "tests" / "data" / "images" / "rocket.jpg").read_bytes()
FORGED = "a\n\tthroughput: 99999.00 samples"  # a folder, so that "/sec, x.jpg" completes the report's line
ESCAPE = "b\x1b]0;owned\x07\x1b[2J.jpg"


def _set(folder: Path) -> None:
    """Two photographs and annotations of them."""
    (folder / "in").mkdir()
    for number in (1, 2):
        (folder / "in" / f"{number}.jpg").write_bytes(PICTURE)
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    os.symlink("a.json", str(folder / "link"))


def _refused(given: str, arguments: Sequence[str], *words: str) -> Case:
    """Nothing that is there changes, and nothing comes to it."""
    before: Dict[str, Any] = {}

    def state(folder: Path) -> Dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def prepare(folder: Path) -> None:
        _set(folder)
        before[str(folder)] = state(folder)

    def check(stage: Stage) -> None:
        assert state(stage.folder) == before[str(stage.folder)] and (stage.folder / "link").is_symlink()

    return Case(given, arguments, 2, words, "embedded", prepare, check=check, needs=["executable"])


def _device(folder: Path) -> None:
    os.mknod(str(folder / "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _still_a_device(stage: Stage) -> None:
    assert stat.S_ISCHR((stage.folder / "null").stat().st_mode)


def _link(folder: Path) -> None:
    (folder / "far").mkdir()
    (folder / "far" / "a.json").write_text("old")
    os.symlink("far/a.json", str(folder / "a.json"))


def _still_a_link(stage: Stage) -> None:
    assert (stage.folder / "a.json").is_symlink()
    assert "statistics" in json.loads((stage.folder / "far" / "a.json").read_text())


def _through_a_pipe(stage: Stage) -> Outcome:
    """The reader comes when the run is over."""
    path = stage.folder / "pipe"
    os.mkfifo(str(path))
    with open(str(stage.folder / "got.json"), "wb") as got:
        reader = subprocess.Popen(["cat", str(path)], stdout=got)
    outcome = here("embedded", stage.filled(stage.case.arguments), {})
    reader.wait(60)
    assert stat.S_ISFIFO(path.stat().st_mode)
    return outcome


def _by_a_descriptor(stage: Stage) -> Outcome:
    """What `--results-json >(program)` and `7>file` make of a path."""
    command = command_of("embedded", stage.filled(stage.case.arguments))
    return in_process_of_its_own(["bash", "-c", 'exec "$@" 7>>"$0"', str(stage.folder / "got.json"), *command], {})


def _got(stage: Stage) -> None:
    assert "statistics" in json.loads((stage.folder / "got.json").read_text())


def _twice(stage: Stage) -> Outcome:
    """Three runs write into a folder below the one that they read."""
    for _ in range(3):
        outcome = here("embedded", stage.filled(stage.case.arguments), {})
    return outcome


def _two_pictures(stage: Stage) -> None:
    (folder,) = {path.parent for path in stage.folder.rglob("detections.json")}
    assert len(json.loads((folder / "detections.json").read_text())) == 2


def _cut_table(stage: Stage) -> Outcome:
    arguments, path = stage.filled(stage.case.arguments), stage.folder / "a.csv"
    here("embedded", arguments, {})
    path.write_bytes(path.read_bytes()[:-1])
    return here("embedded", arguments, {})


def _three_lines(stage: Stage) -> None:
    rows = list(csv.reader((stage.folder / "a.csv").read_text().splitlines()))
    assert len(rows) == 3 and len({len(row) for row in rows}) == 1


def _evil_names(folder: Path) -> None:
    (folder / "in" / FORGED).mkdir(parents=True)
    for path in (folder / "in" / FORGED / "sec, x.jpg", folder / "in" / ESCAPE):
        path.write_bytes(b"junk")
    (folder / "in" / "1.jpg").write_bytes(PICTURE)


def _one_throughput(outcome: Outcome) -> Outcome:
    both = outcome.out + outcome.err
    assert "\x1b" not in both and "\x07" not in both
    assert [line for line in both.splitlines() if line.startswith("\tthroughput: ")][1:] == []
    return outcome


def _shown(stage: Stage) -> Outcome:
    return _one_throughput(here("embedded", stage.filled(stage.case.arguments), {}))


def _bytes(folder: Path) -> None:
    name = os.path.join(os.fsencode(str(folder)), b"in\xff")
    os.mkdir(name)
    with open(os.path.join(name, b"\xfe1.jpg"), "wb") as file:
        file.write(PICTURE)
    (folder / "out").mkdir()


def _all_outputs(stage: Stage) -> Outcome:
    name = os.fsdecode(b"in\xff")
    wanted = [word.replace("{folder}/in", f"{stage.folder}/{name}") for word in stage.case.arguments]
    return here("embedded", stage.filled(wanted), {})


def _all_there(stage: Stage) -> None:
    out = stage.folder / "out"
    assert json.loads((out / "r.json").read_text())["configuration"]["image_path"] == os.fsdecode(
        os.path.join(os.fsencode(str(stage.folder)), b"in\xff")
    )
    assert json.loads((out / "detections.json").read_text())[0]["file"] == os.fsdecode(b"\xfe1.jpg")
    assert "in\\udcff" in (out / "r.html").read_text(encoding="utf-8") and (out / "sheet.png").stat().st_size
    assert json.loads((out / "c.json").read_text())[0]["image_id"] == 1


def _written(given: str, arguments: Sequence[str], prepare: Callable, check: Callable, **more: Any) -> Case:
    more = {"needs": ["executable", "linux"], "words": ["throughput"], **more}
    return Case(given, arguments, 0, script="embedded", prepare=prepare, check=check, **more)


def _nothing(folder: Path) -> None:
    """Nothing to prepare."""


def _benchmarks(stage: Stage) -> Outcome:
    """Two entries; what is put in the second one's place is the case's first argument."""
    first = "../first: {generated: true, cmd: python -c 'print(5)', data: {t: {regexp: (5)}}}"
    path = stage.folder / "b.yml"
    path.write_text(f"{first}\nsecond: {{generated: true, {stage.case.arguments[0]}}}\n")
    command = [sys.executable, "-m", "ipu_utils.run_benchmarks", "--spec", str(path)]
    return in_process_of_its_own([*command, "--log-dir", str(stage.folder / "logs")], {})


def _nothing_has_run(stage: Stage) -> None:
    assert [path.name for path in stage.folder.iterdir()] == ["b.yml"]


def _first_is_kept(stage: Stage) -> None:
    results = json.loads((stage.folder / "logs" / "benchmark_results.json").read_text())
    assert [result["results"] for result in results] == [{"t": 5}, {"t": None}]
    assert sorted(path.name for path in stage.folder.iterdir()) == ["b.yml", "logs"]


LONG = "{folder}/" + "n" * 255
ANNOTATED = [*FOLDER, "--coco-annotations", "{folder}/a.json"]
CASES = [
    Case(
        "benchmarks of which the second has an open quote", ['cmd: "python \'x"'], 2, ["second: cmd", "quotation"],
        run=_benchmarks, check=_nothing_has_run,
    ),
    Case(
        "benchmarks of which the second finds no finite number",
        ["cmd: python -c 'print(1e999)', data: {t: {regexp: (.*)}}"], 1, ["FAILED: not found"],
        run=_benchmarks, check=_first_is_kept,
    ),
    _refused("COCO results over the annotations", [*ANNOTATED, "--coco-results", "{folder}/a.json"], "overwrite"),
    _refused("a record over the annotations, by a link", [*ANNOTATED, "--results-json", "{folder}/link"], "overwrite"),
    _refused("a page over a photograph", [*FOLDER, "--report", "{folder}/in/1.jpg"], "would overwrite the image"),
    _refused(
        "a contact sheet over a photograph",
        [*FOLDER, "--contact-sheet", "{folder}/in/2.jpg"],
        "--contact-sheet",
        "would overwrite the image",
    ),
    _refused(
        "a record and a page of one name",
        [*RUN, "--results-json", "{folder}/x", "--report", "{folder}/in/../x"],
        "are one file",
    ),
    _written(
        "a record onto a device, as root", [*RUN, "--results-json", "{folder}/null"], _device, _still_a_device,
        needs=["executable", "root", "linux"],
    ),
    _written("a record onto a link", [*RUN, "--results-json", "{folder}/a.json"], _link, _still_a_link),
    _written(
        "a record into a named pipe", [*RUN, "--results-json", "{folder}/pipe"], _nothing, _got, run=_through_a_pipe
    ),
    _written(
        "a record into what the shell opened", [*RUN, "--results-json", "/dev/fd/7"], _nothing, _got,
        run=_by_a_descriptor,
    ),
    _written(
        "a record of a name of 255 bytes",
        [*RUN, "--results-json", LONG],
        _nothing,
        lambda stage: json.loads((stage.folder / ("n" * 255)).read_text()),
    ),
    Case(
        "a record into a pipe that nobody opened for the run",
        [*RUN, "--results-json", "/dev/fd/50"],
        2,
        ["--results-json /dev/fd/50 cannot be written (Bad file descriptor)"],
        "embedded",
        needs=["executable", "linux"],
    ),
    _written(
        "three runs with --output-dir in the folder of the images",
        [*FOLDER, "--output-predictions", "--output-dir", "{folder}/in"],
        _set,
        _two_pictures,
        run=_twice,
        words=["2 pictures that runs have written are left out"],
    ),
    _written(
        "three runs with --output-dir below the folder of the images",
        [*FOLDER, "--output-predictions", "--output-dir", "{folder}/in/out"],
        _set,
        _two_pictures,
        run=_twice,
    ),
    _written(
        "a table whose last row has no end of line",
        [*RUN, "--results-csv", "{folder}/a.csv"],
        _nothing,
        _three_lines,
        run=_cut_table,
    ),
    Case(
        "files whose names are a line of the report and commands of a terminal",
        FOLDER,
        3,
        ["skipped:   2 files", "a\\n\\tthroughput: 99999.00 samples/sec, x.jpg", "b\\x1b]0;owned\\x07\\x1b[2J.jpg"],
        "embedded",
        _evil_names,
        run=_shown,
        needs=["executable", "linux"],
    ),
    _written(
        "a folder and a file whose names are no UTF-8, and every output",
        [
            *FOLDER, "--results-json", "{folder}/out/r.json", "--report", "{folder}/out/r.html",
            "--results-csv", "{folder}/out/t.csv", "--coco-results", "{folder}/out/c.json",
            "--contact-sheet", "{folder}/out/sheet.png", "--output-predictions", "--output-dir", "{folder}/out",
        ],
        _bytes,
        _all_there,
        run=_all_outputs,
        words=["/in\\udcff)"],
    ),
]  # fmt: skip
