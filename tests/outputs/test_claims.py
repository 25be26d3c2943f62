# SPDX-License-Identifier: Apache-2.0
"""What a run writes is never what it reads, nor what it writes elsewhere: refused before anything is measured."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dry_run import dry_run
from records import outcome, run_config

from hparams_config import get_inference_config
from ipu_utils import compare, run_benchmarks
from ipu_utils.base.console import run_script
from ipu_utils.base.errors import UserError
from ipu_utils.base.image_folder import photographs
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_config import load_config
from ipu_utils.data.sources import describe_left_out, open_source
from ipu_utils.launch import start
from ipu_utils.outputs.claims import Claim, check_apart, identity
from ipu_utils.outputs.picture_names import names_by_batch
from ipu_utils.report.record import make_record, to_json

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "tests" / "data" / "images"
FOLDER = ["--random-weights", "--dataset-type", "image-directory", "--image-path", "in"]


def config(*argv, script="throughput"):
    return load_config([str(word) for word in argv], script, choose_device=lambda word: "cpu")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one of each file that a run may read; the current folder of the test."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        shutil.copy(str(PHOTOGRAPHS / "rocket.jpg"), str(tmp_path / "in" / f"{number}.jpg"))
    (tmp_path / "in" / "broken.png").write_bytes(b"text")
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    (tmp_path / "preset.yml").write_text("efficientdet-base: {}\n")
    (tmp_path / "hparams.yaml").write_text("nms_configs: {iou_thresh: 0.5}\n")
    (tmp_path / "labels.yaml").write_text("1: cat\n")
    (tmp_path / "weights").mkdir()
    for name in ("model.index", "model.data-00000-of-00001"):
        (tmp_path / "weights" / name).write_bytes(b"weights")
    return tmp_path


def content(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


INPUTS = [
    ("a.json", [*FOLDER, "--coco-annotations", "a.json"]),
    ("in/1.jpg", FOLDER),
    ("in/broken.png", FOLDER),
    ("in/2.jpg", ["--random-weights", "--dataset-type", "single-image", "--image-path", "in/2.jpg"]),
    ("preset.yml", ["--random-weights", "--config", "preset.yml"]),
    ("hparams.yaml", ["--random-weights", "--hparams", "hparams.yaml"]),
    ("labels.yaml", ["--random-weights", "--hparams", "label_map=labels.yaml"]),
    ("weights/model.index", ["--model-dir", "weights"]),
    ("weights/model.data-00000-of-00001", ["--model-dir", "weights/model"]),
]
OUTPUTS = ["--results-json", "--results-csv", "--report", "--coco-results"]


@pytest.mark.parametrize("name, arguments", INPUTS, ids=[name for name, _ in INPUTS])
@pytest.mark.parametrize("how", ["itself", "link", "hard link", "another spelling"])
def test_an_output_that_is_an_input_is_refused(place, name, arguments, how):
    path = name
    if how == "link":
        path = "link"
        os.symlink(name, path)
    elif how == "hard link":
        path = "second"
        os.link(name, path)
    elif how == "another spelling":
        path = place / "in" / ".." / "no-such-folder" / ".." / name
    before = content(place)
    for option in OUTPUTS:
        message = f"{option} .* would overwrite .*{Path(name).name}, which the run reads"
        if option == "--results-csv" and name.startswith("in/") and arguments == FOLDER:
            message = "is no table of such runs"  # what a file is not is told before the folder is read
        with pytest.raises(UserError, match=message):
            dry_run(*arguments, option, path)
    assert content(place) == before


def test_an_executable_is_an_input_too(place):
    (place / "x.effdet").write_bytes(b"executable")
    with pytest.raises(UserError, match=r"--report .* would overwrite --exec-file"):
        dry_run("--exec-file", "x.effdet", "--report", "x.effdet", script="embedded")


def test_generated_names_count_as_outputs(place):
    (place / "out").mkdir()
    name = "2.jpg"
    arguments = [*FOLDER, "--output-predictions", "--output-dir", "out"]
    os.symlink("../in/1.jpg", str(place / "out" / name))
    with pytest.raises(UserError, match=f"--output-dir out/{name} would overwrite the image in/1.jpg"):
        dry_run(*arguments)
    (place / "out" / name).unlink()
    os.link("a.json", "out/detections.json")
    with pytest.raises(UserError, match=r"--output-dir out/detections.json would overwrite --coco-annotations a.json"):
        dry_run(*arguments, "--coco-annotations", "a.json")
    (place / "out" / "detections.json").unlink()
    for other in (name, "detections.json"):
        with pytest.raises(UserError, match="are one file"):
            dry_run(*arguments, "--report", f"out/{other}")
    with pytest.raises(UserError, match=r"--contact-sheet in/2.jpg would overwrite the image in/2.jpg"):
        dry_run(*FOLDER, "--contact-sheet", "in/2.jpg")
    with pytest.raises(UserError, match=r"--report .* and --profile-dir .* are one file"):
        dry_run("--random-weights", "--profile-dir", "p", "--report", "p/app.json")
    dry_run(*arguments, "--report", "out/report.html", "--contact-sheet", "out/sheet.png")
    with pytest.raises(UserError, match="are one file"):
        dry_run(*arguments, "--picture-names", "batch", "--report", "out/efficientdet-d0_512_output_b1_img0.jpg")
    dry_run(*FOLDER, "--output-predictions", "--output-dir", "in")
    os.link("in/1.jpg", "in/1-annotated.jpg")  # a name that the run would give
    with pytest.raises(UserError, match=r"--output-dir in/.* would overwrite the image in/1"):
        dry_run(*FOLDER[:-1], "in/[12].jpg", "--output-predictions", "--output-dir", "in")


@pytest.mark.parametrize("one", OUTPUTS)
@pytest.mark.parametrize("there", [False, True])
def test_two_outputs_of_one_file_are_refused(place, one, there):
    if there:
        (place / "x.json").write_text("")
    os.symlink("x.json", "link")
    for other in [option for option in OUTPUTS if option != one]:
        for path in ("x.json", "./in/../x.json", "link"):
            with pytest.raises(UserError, match="are one file, and each would overwrite the other"):
                dry_run(*FOLDER, one, "x.json", other, path)


def test_a_file_is_not_the_folder_of_another(place):
    with pytest.raises(UserError, match=r"--results-json x would be the folder of --report x/r.html, and a file"):
        dry_run("--random-weights", "--results-json", "x", "--report", "x/r.html")
    with pytest.raises(UserError, match=r"--report out would be the folder of --output-dir"):
        dry_run(*FOLDER, "--report", "out", "--output-predictions", "--output-dir", "out")


def test_devices_may_take_several_outputs_and_different_files_do_not_meet(place):
    dry_run(*FOLDER, *(word for option in OUTPUTS[:3] for word in (option, "/dev/null")))
    dry_run(*FOLDER, *(word for option in OUTPUTS for word in (option, f"x{option}")))
    assert identity(Path("/dev/null")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors as Linux has them")
def test_descriptors_and_standard_output_are_files_too(place):
    command = f'"{sys.executable}" {ROOT}/ipu_inference.py --device cpu --random-weights --dry-run'

    def said(arguments):
        done = subprocess.run(["bash", "-c", f"{command} {arguments}"], capture_output=True, text=True)
        return done.returncode, done.stderr

    status, errors = said("--report /dev/fd/7 --results-json x.json 7>> x.json")
    assert status == 2 and "are one file" in errors
    status, errors = said("--report x.html > x.html")
    assert status == 2 and "is the file that standard output goes to" in errors
    assert said("--results-json /dev/stdout >> y.json")[0] == 0
    status, errors = said("--random-weights false --config preset.yml --report /dev/fd/7 7>> preset.yml")
    assert status == 2 and "would overwrite --config" in errors


def test_an_executable_is_not_compiled_over_what_the_run_reads_or_writes(place):
    from ipu_utils.backends.host import kept

    asked = config("--exec-output-dir", "out", "--report", "r.effdet", script="embedded")
    (place / "r.effdet").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"--exec-output-dir r.effdet and --report r.effdet are one file"):
        kept(asked, None, Path("r.effdet"))
    with pytest.raises(UserError, match=r"--exec-output-dir .* would overwrite --hparams"):
        kept(config("--exec-output-dir", "out", "--hparams", "hparams.yaml", script="embedded"), None,
             Path("hparams.yaml"))  # fmt: skip
    assert (place / "r.effdet").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--results-json", "a.json", "--report", "a-2.json"], "are one file"),
        (["--results-csv", "a.json", *FOLDER, "--coco-annotations", "a.json"], "would overwrite --coco-annotations"),
        (["--report", "in/1.jpg", *FOLDER], "would overwrite the image"),
        (["--results-json", "in/x.jpg", *FOLDER], "would overwrite the image"),
        (["--report", "preset.yml", "--config", "preset.yml"], "would overwrite --config"),
        (["--output-predictions", *FOLDER], "every combination would write --output-predictions"),
        (["--profile-dir", "p"], "every combination would write --profile-dir"),
        (["--config", "writes.yml"], "every combination would write --report .* which --config writes.yml asks for"),
    ],
)
def test_a_sweep_overwrites_nothing_either(place, monkeypatch, arguments, message):
    for name in start.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    shutil.copy("in/1.jpg", "in/x-2.jpg")
    (place / "writes.yml").write_text("efficientdet-base: {report: r.html}\n")
    before = content(place)
    with pytest.raises(UserError, match=message):
        start.start("throughput", ["--device", "cpu", "--micro-batch-size", "1,2", *arguments])
    assert content(place) == before


def test_the_page_of_a_comparison_is_not_one_of_its_records(place):
    for name in ("one.json", "two.json"):
        (place / name).write_text(to_json(make_record(run_config(), outcome())))
    before = content(place)
    for name in ("one.json", "two.json"):
        with pytest.raises(UserError, match=f"--report {name} would overwrite the record {name}"):
            compare.main(["one.json", "two.json", "--report", name])
    assert content(place) == before


def test_benchmarks_keep_their_own_file(place, capsys):
    (place / "benchmark_results.json").write_text("generated: {cmd: python -c pass}\n")
    status = run_script(lambda: run_benchmarks.main(["--spec", "benchmark_results.json", "--log-dir", "."]))
    assert status == 2 and "would overwrite --spec" in capsys.readouterr().err
    assert "cmd" in (place / "benchmark_results.json").read_text()


def test_claims_name_what_they_are(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UserError, match=r"--one .*x would overwrite two"):
        check_apart([Claim(tmp_path / "x", "--one")], [Claim(tmp_path / "x", "two")])


def listed(*arguments):
    found = config(*FOLDER, *arguments)
    source = open_source(found.data, (64, 64), 1)
    return [source.name(number) for number in range(source.count)], describe_left_out(source)


@pytest.mark.parametrize("folder", ["in", "in/out", "in/deep/out", "link/out"])
def test_what_runs_have_written_into_the_folder_is_no_photograph(place, folder):
    os.symlink("in", "link")
    out = place / folder
    out.mkdir(parents=True, exist_ok=True)
    names = [*names_by_batch("efficientdet-d0", "512", 2, 1), *names_by_batch("efficientdet-lite3x", "96x64", 3, 2)]
    for name in names:
        shutil.copy("in/1.jpg", str(out / name))
    found, notes = listed("--output-predictions", "--output-dir", folder)
    assert found == ["1.jpg", "2.jpg"] and notes == ["5 pictures that runs have written are left out"]
    assert listed() == (found, notes), "nor for a run that writes none"


def test_pictures_that_a_list_of_detections_names_are_no_photographs(place):
    for folder in ("in", "in/deep"):
        (place / folder).mkdir(exist_ok=True)
        shutil.copy("in/1.jpg", f"{folder}/1-annotated.jpg")
        shutil.copy("in/1.jpg", f'{folder}/caf\u00e9 "1".jpg')
        entries = [{"file": 'a "b".png', "annotated": name} for name in ("1-annotated.jpg", 'caf\u00e9 "1".jpg')]
        lines = ",\n".join(json.dumps({**entry, "detections": []}) for entry in entries)
        (place / folder / "detections.json").write_text(f"[\n{lines}\n]\n")
    shutil.copy("in/1.jpg", "in/deep/3.jpg")
    assert listed() == (["1.jpg", "2.jpg", "deep/3.jpg"], ["4 pictures that runs have written are left out"])
    for text in ("", "{", "[\n{}\n]\n", "\x00" * 100000):
        (place / "in" / "deep" / "detections.json").write_text(text)
        assert len(listed()[0]) == 5
    (place / "in" / "deep" / "detections.json").unlink()
    os.mkfifo(str(place / "in" / "deep" / "detections.json"))  # which nobody ever writes into
    assert len(listed()[0]) == 5


def test_the_whole_folder_of_outputs_is_left_out_where_it_is_inside_and_nothing_where_it_is_not(place):
    (place / "in" / "out").mkdir()
    shutil.copy("in/1.jpg", "in/out/sheet.jpg")
    written = ["--output-predictions", "--output-dir"]
    assert listed(*written, "in/out")[0] == ["1.jpg", "2.jpg"]
    for folder in ("in", ".", "in/o", "elsewhere"):
        assert listed(*written, folder)[0] == ["1.jpg", "2.jpg", "out/sheet.jpg"], folder
    assert listed()[0] == ["1.jpg", "2.jpg", "out/sheet.jpg"]


def test_a_folder_of_nothing_but_results_says_so(place):
    paths = [place / "in" / name for name in names_by_batch("efficientdet-d0", "512", 2, 1)]
    with pytest.raises(UserError, match="holds no photograph, only 2 pictures that runs have written"):
        photographs(paths, place / "in")


def test_a_repeated_image_is_a_photograph(place):
    (place / "in" / "0").mkdir()
    shutil.copy("in/1.jpg", f"in/0/{names_by_batch('efficientdet-d0', '512', 1, 1)[0]}")
    found = config("--random-weights", "--dataset-type", "repeated-image", "--image-path", "in")
    assert found.data.image_path == Path("in/1.jpg")


def test_instances_share_photographs_alone(place):
    shutil.copy("in/1.jpg", f"in/{names_by_batch('efficientdet-d0', '512', 1, 1)[0]}")
    data = DataConfig(dataset_type="image-directory", image_path=Path("in"), share=(1, 2))
    source = open_source(data, (64, 64), 1)
    assert [source.name(number) for number in source.own] == ["2.jpg"] and len(source.files) == 3


def test_saved_hparams_follow_links(place):
    os.symlink("hparams.yaml", "link.yaml")
    get_inference_config("efficientdet-d0").save_to_yaml("link.yaml")
    assert Path("link.yaml").is_symlink() and "num_classes: 90" in (place / "hparams.yaml").read_text()
