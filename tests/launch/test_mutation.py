# SPDX-License-Identifier: Apache-2.0
"""benchmarks/mutation.py on a tree of one module and one test, whose changes are known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# In a process of its own: it forks, and its forks import the tree's package, which has the name of ours.
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mutation
from mutation_areas import Area
from mutation_changes import Change
tree = Path(sys.argv[2])
area = Area("area", ("ipu_utils/value.py",), 1, ("tests/test_value.py",))
runner = mutation.Runner(tree, tree.parent / "log")
runner.prepare(area)
changes = [Change("ipu_utils/value.py", line, "", after) for line, after in json.loads(sys.argv[3])]
print(json.dumps([runner.outcome(area, change) for change in changes]))
"""

pytestmark = pytest.mark.skipif(sys.version_info < (3, 9), reason="the program asks for Python 3.9")


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    for name in ("ipu_utils", "tests/support"):
        (folder / name).mkdir(parents=True)
    (folder / "ipu_utils" / "__init__.py").write_text("")
    (folder / "ipu_utils" / "value.py").write_text("SEEN = 1\nUNSEEN = 1\n")
    (folder / "tests" / "test_value.py").write_text(
        "from ipu_utils import value\n\n\ndef test_seen():\n    assert value.SEEN == 1\n"
    )
    (folder / ".pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers =\n    slow: x\n")
    return folder


def outcomes(tree, *changes):
    command = [sys.executable, "-c", PROGRAM, str(ROOT / "benchmarks"), str(tree), json.dumps(changes)]
    done = subprocess.run(command, cwd=str(tree), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_change_of_the_tree_is_noticed_where_a_test_reads_it(tree):
    source = (tree / "ipu_utils" / "value.py").read_text()
    changes = [(1, "SEEN = 2\n"), (2, "UNSEEN = 2\n"), (1, "SEEN = 1  # as before\n")]
    assert outcomes(tree, *changes) == ["noticed", "survived", "survived"]
    assert (tree / "ipu_utils" / "value.py").read_text() == source


def test_tests_that_fail_without_any_change_are_told(tree):
    (tree / "ipu_utils" / "value.py").write_text("SEEN = 0\n")
    with pytest.raises(AssertionError, match=r"tests/test_value\.py fails without any change"):
        outcomes(tree)
