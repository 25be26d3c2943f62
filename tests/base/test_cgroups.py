# SPDX-License-Identifier: Apache-2.0
"""Limits of containers, read from folders that look like the /proc and /sys of one."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ipu_utils.base import cgroups, hardware
from ipu_utils.base.cgroups import memory_left, quota_cores
from ipu_utils.report import instances

ROOT = Path(__file__).resolve().parents[2]
UNIFIED = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n"


@pytest.fixture
def machine(tmp_path):
    """Writes files below a folder: machine({"sys/fs/cgroup/cpu.max": "max 100000"}) returns the folder."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def version_1(group, files, controllers="cpu,cpuacct", mounted="/", point="/sys/fs/cgroup/cpu,cpuacct"):
    """A machine with one hierarchy of version 1; files by path below the mount point."""
    return {
        "proc/self/cgroup": f"9:name=systemd:/x\n4:{controllers}:{group}\n0::/\n",
        "proc/self/mountinfo": f"33 31 0:30 {mounted} {point} rw,relatime - cgroup cgroup rw,{controllers}\n",
        **{f"{point.lstrip('/')}/{name}": text for name, text in files.items()},
    }


def version_2(group, files, mounted="/"):
    """The same of version 2."""
    return {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": UNIFIED.replace(" / ", f" {mounted} ", 1),
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }


@pytest.mark.parametrize(
    "text, cores",
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # a part of a core counts as one
        ("100001 100000\n", 2),
        ("10000 100000\n", 1),
        ("1000 1000000\n", 1),
        ("400000 50000\n", 8),
        ("", None),
        ("junk\n", None),
        ("-1 100000\n", None),
        ("100000 0\n", None),
        ("9" * 5000 + " 1\n", None),
    ],
)
def test_a_quota_of_version_2_is_rounded_up_and_at_least_one_core(machine, text, cores):
    assert quota_cores(machine(version_2("/", {"cpu.max": text}))) == cores


@pytest.mark.parametrize(
    "quota, period, cores",
    [("-1", "100000", None), ("250000", "100000", 3), ("1000", "100000", 1), ("50000", "0", None), ("", "", None)],
)
def test_a_quota_of_version_1_is_rounded_up_and_at_least_one_core(machine, quota, period, cores):
    files = {"d/cpu.cfs_quota_us": f"{quota}\n", "d/cpu.cfs_period_us": f"{period}\n"}
    assert quota_cores(machine(version_1("/d", files))) == cores


def test_the_smallest_quota_on_the_way_up_counts(machine):
    files = {"cpu.max": "300000 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000", "x/cpu.max": "1 9"}
    assert quota_cores(machine(version_2("/a/b", files))) == 2


def test_the_smallest_quota_on_the_way_up_counts_in_version_1(machine):
    limits = {"": -1, "a/": 400000, "a/b/": 900000, "other/": 1000}
    files = {f"{group}cpu.cfs_quota_us": f"{quota}\n" for group, quota in limits.items()}
    files.update({f"{group}cpu.cfs_period_us": "100000\n" for group in limits})
    assert quota_cores(machine(version_1("/a/b", files))) == 4


def test_a_path_of_outside_is_read_below_the_group_that_is_mounted(machine):
    files = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}
    assert quota_cores(machine(version_1("/docker/1f", files, mounted="/docker/1f"))) == 2
    inner = {"in/cpu.cfs_quota_us": "100000", "in/cpu.cfs_period_us": "100000"}
    assert quota_cores(machine(version_1("/docker/1f/in", {**files, **inner}, mounted="/docker/1f"))) == 1


@pytest.mark.parametrize("group", ["/../../elsewhere", "/not/there", "/"])
def test_a_path_that_cannot_be_seen_leaves_the_group_at_the_mount(machine, group):
    assert quota_cores(machine(version_2(group, {"cpu.max": "100000 100000"}))) == 1


def test_a_mount_point_with_a_space_is_found(machine):
    files = version_1("/", {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}, point="/mnt/my groups")
    files["proc/self/mountinfo"] = files["proc/self/mountinfo"].replace("my groups", "my\\040groups")
    assert quota_cores(machine(files)) == 3


@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_the_usual_places_are_read_where_proc_tells_nothing(machine, name):
    folder = f"sys/fs/cgroup/{name}"
    found = machine({f"{folder}/cpu.cfs_quota_us": "100000\n", f"{folder}/cpu.cfs_period_us": "100000\n"})
    assert quota_cores(found) == 1


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert quota_cores(tmp_path) is None and memory_left(tmp_path) is None


def test_a_quota_bounds_the_cores_and_never_adds_any(machine):
    allowed = hardware.allowed_cores()
    for quota in (1, allowed, allowed + 3):
        root = machine(version_2("/", {"cpu.max": f"{quota * 100000} 100000"}))
        assert hardware.usable_cores(root) == min(quota, allowed)
        assert hardware.quota_threads(root) == (quota if quota < allowed else None)


def test_memory_of_version_2_counts_files_that_can_be_dropped_as_left(machine):
    files = {"a/memory.max": "1000\n", "a/memory.current": "700\n", "memory.max": "5000\n", "memory.current": "4500\n"}
    assert memory_left(machine(version_2("/a", files))) == 300
    assert memory_left(machine({"sys/fs/cgroup/a/memory.stat": "anon 500\ninactive_file 200\n"})) == 500
    assert memory_left(machine({"sys/fs/cgroup/memory.current": "4990\n"})) == 10, "the group above is fuller"


def test_memory_of_version_1_counts(machine):
    files = {
        "memory.limit_in_bytes": f"{2**63 - 4096}\n",
        "memory.usage_in_bytes": "99999\n",
        "d/memory.limit_in_bytes": "2000\n",
        "d/memory.usage_in_bytes": "900\n",
        "d/memory.stat": "inactive_file 0\ntotal_inactive_file 100\n",
    }
    found = machine(version_1("/d", files, "memory", point="/sys/fs/cgroup/memory"))
    assert memory_left(found) == 1200


def test_both_versions_beside_each_other_both_count(machine):
    files = version_1("/d", {"d/cpu.cfs_quota_us": "500000", "d/cpu.cfs_period_us": "100000"})
    files["proc/self/mountinfo"] += UNIFIED.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files["sys/fs/cgroup/unified/cpu.max"] = "300000 100000"
    assert quota_cores(machine(files)) == 3


def test_instances_share_the_quota_of_their_container(monkeypatch):
    class Several(instances.Instances):
        count = 2

        def gather_objects(self, value):
            return [value, value]

    processors = len(instances.usable())
    monkeypatch.setattr(cgroups, "quota_cores", lambda: None)
    assert instances.fair_threads(Several()) == max(1, processors // 2)
    monkeypatch.setattr(cgroups, "quota_cores", lambda: 1)
    assert instances.fair_threads(Several()) == 1


GROUP = Path("/sys/fs/cgroup/cpu")
CODE = """
import os, sys
sys.path.insert(0, sys.argv[1])
open(sys.argv[2] + "/cgroup.procs", "w").write(str(os.getpid()))
from ipu_utils.base import hardware
from ipu_utils.base.openvino_api import properties
print(hardware.usable_cores(), properties("float32", None).get("INFERENCE_NUM_THREADS", hardware.allowed_cores()))
"""


@pytest.mark.skipif(not os.access(str(GROUP / "cpu.cfs_quota_us"), os.W_OK), reason="no control groups to write to")
def test_a_process_under_a_quota_of_the_kernel_takes_no_more_than_that():
    folder = GROUP / f"test-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        (folder / "cpu.cfs_quota_us").write_text("100000")
        command = [sys.executable, "-c", CODE, str(ROOT), str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout.split() == ["1", "1"]
    finally:
        folder.rmdir()
