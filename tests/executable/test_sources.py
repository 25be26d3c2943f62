# SPDX-License-Identifier: Apache-2.0
"""A kept executable belongs to the code that made it: which files count, and that each of them does."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipu_utils.executable import cache, sources

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = (cache.NETWORK, cache.LITE, cache.GRAPH, cache.PROGRAM)
OUTSIDE = (
    "ipu_utils/report/html.py",
    "ipu_utils/compare.py",
    "ipu_utils/launch/requests.py",
    "nms_extra.py",
    "README.md",
)


def relative(paths, root=ROOT):
    return {path.relative_to(root).as_posix() for path in paths}


@pytest.fixture
def copy(tmp_path):
    """The project's Python in another place, to edit."""
    for path in [*ROOT.glob("**/*.py"), *ROOT.glob("ipu_configs/*")]:
        name = path.relative_to(ROOT)
        if name.parts[0] not in ("tests", "benchmarks") and not name.parts[0].startswith("."):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(path), str(tmp_path / name))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("builder", BUILDERS)
def test_every_file_of_the_closure_is_in_the_digest_and_no_other_is(copy, builder):
    before = sources.of_modules([builder], copy)
    assert before == sources.of_modules([builder]), "the place of the project does not matter"
    files = sources.closure([builder], copy)
    assert len(files) > 60
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content + b"#\n")
        assert sources.of_modules([builder], copy) != before, path
        path.write_bytes(content)
    for name in OUTSIDE:
        assert name not in relative(files, copy)
        with open(str(copy / name), "a") as file:
            file.write("# edited\n")
    assert sources.of_modules([builder], copy) == before


EDITED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ipu_utils.config.run_config import load_config
from ipu_utils.executable import cache
config = load_config(["--device", "cpu", "--random-weights"], choose_device=lambda asked: "cpu")
names = []
for name in [None, *json.loads(sys.argv[2])]:
    if name is not None:
        path = Path(sys.argv[1], name)
        content = path.read_bytes()
        path.write_bytes(content + b"#")
    header = cache.plan(config, "float32", "float32", "OpenVINO", ("x86_64",))
    names.append(str(cache.cached_file(Path("cache"), header)))
    if name is not None:
        path.write_bytes(content)
print(json.dumps(names))
"""


@pytest.mark.slow
def test_an_edit_is_another_executable_wherever_the_network_is_made(copy):
    """Files that a list by hand had forgotten, and what they have in common: the network's numbers come from them."""
    inside = [
        *("utils.py", "dataloader.py", "object_detection/__init__.py", "object_detection/box_coder.py"),
        *("ipu_utils/__init__.py", "ipu_utils/model/host.py", "ipu_utils/base/keras2.py"),
        *("ipu_utils/config/hparams_rules.py", "ipu_utils/config/run_hparams.py", "ipu_utils/config/trainer_config.py"),
        *("ipu_utils/model/hdf5.py", "ipu_utils/base/archives.py", "ipu_utils/executable/ports.py"),
        *("ipu_utils/nms/anchors.py", "ipu_utils/nms/nms_settings.py", "ipu_utils/base/image_size.py"),
    ]
    outside = ["ipu_utils/report/html.py", "ipu_utils/backends/openvino.py", "ipu_nms.py", "ipu_inference.py"]
    command = [sys.executable, "-c", EDITED, str(copy), json.dumps([*inside, *outside])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=str(copy))
    before, *after = json.loads(done.stdout.decode())
    assert before not in after[: len(inside)] and len(set(after[: len(inside)])) == len(inside)
    assert after[len(inside) :] == [before] * len(outside)


LOADED = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from ipu_utils.config.run_config import load_config
config = load_config(["--device", "cpu", "--random-weights", "--model-name", "efficientdet-lite0", "--image-size", "64",
                      "--hparams", "fpn_cell_repeats=1,box_class_repeats=1"], choose_device=lambda asked: "cpu")
import tempfile
from ipu_utils.executable import cache
header = cache.plan(config, "float32", "float32", "none", ("x86_64",))
before = set(sys.modules)
if sys.argv[2] in (cache.NETWORK, cache.LITE):
    build_network = importlib.import_module(sys.argv[2]).build_network
    with tempfile.TemporaryDirectory() as folder:
        build_network(config, header)[1](folder)
else:
    from ipu_utils.executable.freeze_graph import build_network, freeze_graph
    from ipu_utils.model.host import Host
    hparams = cache.hparams_of(config)
    freeze_graph(build_network(config, hparams, Host("cpu", 2), header)[1], hparams, header)
print(json.dumps([sys.modules[name].__file__ for name in set(sys.modules) - before
                  if getattr(sys.modules[name], "__file__", None)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("builder", [cache.NETWORK, cache.LITE, cache.GRAPH])
def test_whatever_building_a_network_loads_is_in_the_closure(builder):
    done = subprocess.run([sys.executable, "-c", LOADED, str(ROOT), builder], stdout=subprocess.PIPE, check=True)
    loaded = {Path(name).resolve() for name in json.loads(done.stdout.decode().splitlines()[-1])}
    ours = {path for path in loaded if ROOT in path.parents and ".venv" not in path.parts}
    assert len(ours) > 20 and ours <= set(sources.closure([builder]))


def whole(text, package):
    """What a module imports, by the tree of all of it."""

    def executed(node):
        yield node
        only_types = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in node.orelse if only_types else ast.iter_child_nodes(node):
            yield from executed(child)

    found = set()
    for node in executed(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the project has no relative imports"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.add(ast.literal_eval(node.args[0]))
    return found


COMPUTED = re.compile(r'import_module\((?!")')  # a name that is computed, which is refused


@pytest.mark.skipif(sys.version_info < (3, 9), reason="ast.unparse")
def test_the_quick_look_finds_what_the_whole_tree_has():
    files = [
        path for folder in ("*.py", "ipu_utils/**/*.py", "tf2/*.py", "backbone/*.py") for path in ROOT.glob(folder)
    ]
    compared = 0
    for path in files:
        text, package = path.read_text(), ".".join(path.relative_to(ROOT).parts[:-1])
        if not COMPUTED.search(text):
            found, expected = sources.imports(text, package), whole(text, package)
            assert found >= expected and len(found - expected) < 3, path  # a docstring may look like a statement
            compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    "text, names",
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("from a import (\n    b,  # with a remark\n    c as d,\n)", {"a", "a.b", "a.c"}),
        ("def f():\n    from a import b\n", {"a", "a.b"}),
        ("if x: import a\n", {"a"}),
        ("import a; import b\n", {"a", "b"}),
        ("from a \\\n    import b\n", {"a", "a.b"}),
        ("import \\\n    a\n", {"a"}),
        ("try:\n    import a\nexcept ImportError:\n    import b  # instead\n", {"a", "b"}),
        ("from . import a\nfrom .b import c\nfrom .. import d\n", {"p.q", "p.q.a", "p.q.b", "p.q.b.c", "p", "p.d"}),
        ("importlib.import_module('a.b').create()\n", {"a.b"}),
        ("from importlib import import_module as i, import_module\nimport_module(name='.a')",
         {"importlib", "importlib.import_module", "p.q.a"}),
        ("__import__('a')\n", {"a"}),
        ('"""\nimport what is a\n"""\n# import b\nx = "import c"\n\'\'\'from d import e\'\'\'\n', set()),
        ("import a  # and ; import b\nfrom c import (  # (d\n    d,\n)\n", {"a", "c", "c.d"}),
        ("def f(): import a\n", {"a"}),
        ("with a: from b import c\n", {"b", "b.c"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b\n", {"b"}),
        ("if typing.TYPE_CHECKING:\n    from a import b\nimport c\n", {"c"}),
    ],
)  # fmt: skip
def test_imports_are_found_however_they_are_written(text, names):
    assert sources.imports(text, "p.q") == names


def test_a_name_that_is_computed_is_an_error():
    with pytest.raises(sources.UnknownImportError, match="line 2 imports a module whose name is computed"):
        sources.imports("import importlib\nimportlib.import_module(f'a.{b}')\n")


def test_packages_modules_in_functions_and_cycles_belong_to_a_closure(tmp_path):
    texts = {
        "a.py": "def f():\n    import p.q.m\n",
        "p/__init__.py": "import b\n",
        "p/q/__init__.py": "",
        "p/q/m.py": "from ..r import s\nimport a\nimport numpy\n",
        "p/r.py": "s = 1\n",
        "p/s.py": "",
        "b.py": "from p import t\n",
        "p/t.py": "",
        "c.py": "import a\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert relative(sources.closure(["a"], tmp_path), tmp_path) == set(texts) - {"c.py", "p/s.py"}
    assert sources.closure(["absent", "os.path"], tmp_path) == []


def test_a_file_that_is_renamed_or_takes_the_place_of_a_package_is_noticed(tmp_path):
    (tmp_path / "a.py").write_text("import yaml\n")
    before = sources.of_modules(["a"], tmp_path)
    (tmp_path / "yaml.py").write_text("")  # stands before the installed one
    assert sources.of_modules(["a"], tmp_path) != before
    os.rename(str(tmp_path / "yaml.py"), str(tmp_path / "other.py"))
    assert sources.of_modules(["a"], tmp_path) == before
