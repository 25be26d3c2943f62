# SPDX-License-Identifier: Apache-2.0
"""benchmarks.yml under the rules of Graphcore's examples-utils, written down here a second time and apart from the code
that our own runner has for them; and that the runner decides alike."""

import itertools
import re
from pathlib import Path

import pytest
import yaml

from ipu_utils import run_benchmarks
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.launch import benchmark_spec
from ipu_utils.measure.throughput import Samples, format_report

OWN = Path(__file__).resolve().parents[2] / "benchmarks.yml"
ORIGINALS = {
    "tf2_efficientdet_d0_infer_gen_pod4": ["batchsize_1", "batchsize_2", "batchsize_3"],
    "tf2_efficientdet_d0_max_batch_size_infer_gen_pod4": [f"modelname_d{i}" for i in range(5)],
    "tf2_efficientdet_d0_low_latency_infer_gen_pod4": [f"modelname_d{i}" for i in range(5)],
}
# Variables whose value the reader wants to know before it runs a command that has them.
CLUSTER = ("HOSTS", "IPUOF_VIPU_API_PARTITION_ID", "CLUSTER", "TCP_IF_INCLUDE", "VIPU_CLI_API_HOST")


def commands_of(text, environ, folder=OWN.parent):
    """{name of the variant: command} for a run of the whole file; ValueError where the reader gives up."""
    spec, commands = yaml.safe_load(text), {}
    for name, entry in spec.items():
        entry["benchmark_path"] = str(folder)  # so every top-level value has to be a mapping
        if "options" in name or "_conv" in name:
            continue
        generated = "gen" in name or entry.get("generated")
        synthetic = "synth" in name or entry.get("synthetic")
        if not (generated or synthetic) and "DATASETS_DIR" not in environ:
            raise ValueError(f"{name} requires a dataset")
        parameters = entry.get("parameters", {})
        if isinstance(parameters, list):
            variants = [dict(zip(parameters[0], map(str, row))) for row in parameters[1:]]
        else:
            values = [str(parameters[key]).split(",") for key in parameters]
            variants = [dict(zip(parameters, row)) for row in itertools.product(*values)]
        for variant in variants:
            words = entry["cmd"].format(**variant).split()
            python = "python3" if "python3" in words else "python"
            called = words[words.index(python) + 1]  # ValueError where there is neither word
            command = " ".join(words)
            if called != "-m":
                command = command.replace(called, str(folder / called))
            missing = [variable for variable in CLUSTER if f"${variable}" in command and variable not in environ]
            if missing:
                raise ValueError(f"{name} needs {missing}")
            commands["_".join([name, *(f"{key}_{variant[key]}" for key in sorted(variant))])] = command
    return commands


def test_the_whole_file_runs_without_a_data_set():
    commands = commands_of(OWN.read_text(), {})
    assert len(commands) >= 40
    for command in commands.values():
        words = command.split()
        script = Path(words[words.index("python3") + 1])
        assert script.is_absolute() and script.is_file()
        assert command.count(str(script)) == 1  # the reader replaces every place where the script's name stands
        assert not re.search(r"mpirun.+--np.(\d*) ", command)  # would multiply a throughput that is a sum already
        assert "{" not in command and "--wandb" not in command


def test_without_what_says_so_the_reader_would_want_a_data_set():
    text, line = OWN.read_text(), "  generated: true"
    assert text.count(line) == 1
    with pytest.raises(ValueError, match="efficientdet_ipu_pod4_batch_sizes requires a dataset"):
        commands_of(text.replace(line, "  generated: false"), {})
    assert commands_of(text.replace(line, "  generated: false"), {"DATASETS_DIR": "/data"})


@pytest.mark.parametrize("name", list(ORIGINALS))
def test_the_entries_of_the_original_are_there_with_their_parameters(name):
    variants = [f"{name}_{values}" for values in ORIGINALS[name]]
    commands = commands_of(OWN.read_text(), {})
    assert [key for key in commands if key.startswith(name)] == variants
    for key in variants:
        words = commands[key].split()
        assert "--random-weights" in words and words[words.index("--dataset-type") + 1] == "generated"
        assert ("poprun" in words) != ("low_latency" in name)
        model = "d0" if name.endswith("d0_infer_gen_pod4") else key.rsplit("_", 1)[1]
        assert words[words.index("--model-name") + 1] == f"efficientdet-{model}"


def test_our_runner_makes_the_same_commands():
    ours = {}
    for one in benchmark_spec.read_spec(OWN).values():
        for variant in benchmark_spec.variants(one):
            ours[variant.name] = benchmark_spec.command_of(one, variant)
    theirs = {name: command.replace(f"{OWN.parent}/", "") for name, command in commands_of(OWN.read_text(), {}).items()}
    assert ours == theirs


@pytest.mark.parametrize("samples", [(0.5, 1.0), (0.5,)])
def test_the_report_gives_the_reader_one_number_each(samples):
    text = format_report(Samples(samples, batches_per_call=5, batch_size=2))
    for name, entry in yaml.safe_load(OWN.read_text()).items():
        for metric in entry["data"].values():
            (value,) = re.findall(metric["regexp"], text)
            assert float(value) > 0, name


ENTRIES = {
    "plain": ("", True),
    "generic": ("", False),
    "photosynthesis": ("", False),
    "said": ("generated: true", False),
    "made_on_the_device": ("synthetic: true", False),
    "denied": ("generated: false", True),
}


@pytest.mark.parametrize("name", list(ENTRIES))
def test_our_runner_wants_a_data_set_where_the_reader_does(name, tmp_path, monkeypatch, capsys):
    said, wanted = ENTRIES[name]
    spec = tmp_path / "benchmarks.yml"
    spec.write_text(f"{name}:\n  cmd: python -c 'print(1)'\n  {said}\n")

    def run(*arguments):
        logs = ["--log-dir", str(tmp_path / "logs")]
        return run_script(lambda: run_benchmarks.main(["--spec", str(spec), *logs, *arguments]))

    monkeypatch.delenv("DATASETS_DIR", raising=False)
    assert run("--list") == 0
    assert run() == (2 if wanted else 0)
    error = capsys.readouterr().err
    assert (f"{name}: a data set is needed" in error) == wanted
    assert (tmp_path / "logs").exists() != wanted
    if wanted:
        with pytest.raises(ValueError):
            commands_of(spec.read_text(), {})
        monkeypatch.setenv("DATASETS_DIR", str(tmp_path))
        assert run() == 0
    else:
        commands_of(spec.read_text(), {})


def test_convergence_is_left_out_unless_it_is_asked_for(tmp_path, capsys):
    spec = tmp_path / "benchmarks.yml"
    spec.write_text("a_gen: {cmd: python a.py}\nb_gen_conv: {cmd: python b.py}\n")
    assert list(commands_of(spec.read_text(), {})) == ["a_gen"]
    for names, wanted in (([], "a_gen: python a.py\n"), (["b_gen_conv"], "b_gen_conv: python b.py\n")):
        arguments = ["--benchmark", *names] if names else []
        assert run_benchmarks.main(["--spec", str(spec), "--list", *arguments]) == 0
        assert capsys.readouterr().out == wanted


@pytest.mark.parametrize("value", ["'false'", "1", ""])
def test_whether_data_are_generated_is_true_or_false(value, tmp_path):
    spec = tmp_path / "benchmarks.yml"
    spec.write_text(f"a:\n  cmd: python x\n  generated: {value}\n")
    with pytest.raises(UserError, match="generated must be true or false"):
        benchmark_spec.read_spec(spec)
