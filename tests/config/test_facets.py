# SPDX-License-Identifier: Apache-2.0
"""What options declare about themselves, and that nobody keeps a list of their names besides."""

import ast
from pathlib import Path

import pytest

from ipu_utils.config import facets
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.options import boolean, option
from ipu_utils.config.run_config import load_config
from ipu_utils.config.sections import all_rules, names_where, sweep_axes

ROOT = Path(__file__).resolve().parents[2]
MOST_NAMES = 2  # of options in one literal; three are a list


def test_an_option_cannot_be_declared_without_its_facets():
    with pytest.raises(TypeError, match="facets"):
        option(False, boolean(), "help")
    for left_out in facets.Facets._fields:
        given = {name: getattr(facets.WORK, name) for name in facets.Facets._fields if name != left_out}
        with pytest.raises(TypeError, match=left_out):
            facets.Facets(**given)


def test_every_option_says_everything():
    for name, rule in all_rules().items():
        assert isinstance(rule.facets, facets.Facets), name
        assert rule.facets.read_by and rule.facets.read_by <= facets.EVERYWHERE, name
        assert isinstance(rule.facets.role, facets.Role) and isinstance(rule.facets.sweep, facets.Sweep), name
        assert rule.facets.compiled.devices <= rule.facets.read_by, name


def test_what_takes_part_in_compiling_decides_about_the_work_or_is_told_by_the_record():
    told = (facets.Role.WORK, facets.Role.WORK_ON_IPU, facets.Role.CONTENT)
    for name, rule in all_rules().items():
        assert not rule.facets.compiled.devices or rule.facets.role in told, name


def test_options_answer_the_questions_that_lists_did():
    only_ipu = names_where(lambda found: found.read_by == facets.ON_IPU)
    assert "synthetic" in only_ipu and "skip_execution_report" in only_ipu
    assert "executable_cache_dir" not in only_ipu and "profile_dir" not in only_ipu
    assert names_where(lambda found: not found.in_presets) == ("model_name", "device")
    assert sweep_axes() == ["model_name", "micro_batch_size", "model_precision", "nms_mode", "engine"]
    in_key = names_where(lambda found: found.compiled.by_value and "ipu" in found.compiled.devices)
    assert {"profile_dir", "debug", "benchmark_repeats", "opt_num_io_tiles"} <= set(in_key)
    assert not {"ipu_connection_type", "executable_cache_dir", "seed", "model_dir"} & set(in_key)


def literals(tree):
    """Texts of every tuple, list, set and dictionary's keys that is written out."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = node.keys
        else:
            continue
        yield (
            node.lineno,
            [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)],
        )


def test_no_list_of_option_names_stands_outside_of_their_declarations():
    # A name of one word may be another thing's too: device, seed, report.
    names = {name for name in all_rules() if "_" in name}
    files = [*ROOT.glob("*.py"), *(ROOT / "ipu_utils").rglob("*.py"), *(ROOT / "tf2").glob("*.py")]
    found = []
    for path in files:
        for line, texts in literals(ast.parse(path.read_text())):
            found += [f"{path.name}:{line} {texts}"] if len(names & {*texts}) > MOST_NAMES else []
    assert found == []


def test_the_section_of_the_ipu_holds_what_an_ipu_alone_reads():
    text = build_parser().format_help()
    section = text[text.index("\nIPU:") : text.index("\nbenchmark:")]
    assert "--available-memory-proportion" in section
    assert "--executable-cache-dir" not in section and "--profile-dir" not in section


@pytest.mark.parametrize("device, idle, read", [("cpu", "--synthetic", "--force"), ("gpu", "--force", "--num-streams"),
                                                ("ipu", "--num-streams", "--synthetic")])  # fmt: skip
def test_an_option_that_the_device_does_not_read_is_noted(device, idle, read, tmp_path):
    folders = ["--executable-cache-dir", str(tmp_path / "cache"), "--profile-dir", str(tmp_path / "profile")]
    values = [*folders, idle, *(["2"] if "num" in idle else []), read, *(["2"] if "num" in read else [])]
    config = load_config(["--device", device, *values], choose_device=lambda asked: asked, environ={})
    noted = [note for note in config.notes if "no effect on this device" in note]
    assert noted == [f"no effect on this device ({device}): {idle}."]
