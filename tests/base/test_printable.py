# SPDX-License-Identifier: Apache-2.0
"""Names are data: nothing in a file's name, a label or a server's answer is obeyed, and every bit of it is kept."""

import html
import http.server
import io
import json
import logging
import os
import pickle
import re
import sys
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from records import outcome, run_config

import ipu_inference
from hparams_config import UnknownKeyError, get_inference_config
from ipu_utils import compare, completion, doctor, fetch_weights
from ipu_utils.base.archives import unpack
from ipu_utils.base.console import OneLineFormatter, run_script, show_notes
from ipu_utils.base.errors import ConfigError, UserError
from ipu_utils.base.printable import file_stem, one_line, report_line, shown, shown_lines
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_config import load_config
from ipu_utils.config.run_options import OutputConfig
from ipu_utils.data.sources import open_source
from ipu_utils.executable.fingerprint import of_files
from ipu_utils.fetch_weights import Source
from ipu_utils.launch.dry_run import describe_config
from ipu_utils.measure.throughput import Samples, format_report
from ipu_utils.outputs.writers import open_outputs
from ipu_utils.report import publish
from ipu_utils.report.html import write_page
from ipu_utils.report.record import make_record, read_record, to_json
from ipu_utils.report.text import describe_skipped
from visualize.labels import fit_text, text_mask

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPH = ROOT / "tests" / "data" / "images" / "rocket.jpg"
FORGED = "a\n\tthroughput: 99999.00 samples/sec, x"
ESCAPE = "b\x1b]0;owned\x07\x1b[2J"
EVIL = {
    "line end": FORGED,
    "escape": ESCAPE,
    "return": "c\rerror: none",
    "C1": "d\x9b2J\x85",
    "bidi": "e\u202egpj.exe\u2066",
    "separators": "f\u2028g\u2029",
    "bytes": os.fsdecode(b"g\xff\xfe"),
}
NASTY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_what_a_terminal_would_obey_is_spelled_and_can_be_read_back(name):
    found = shown(name)
    assert not NASTY.search(found) and "\n" not in found and "\t" not in found
    assert shown(found) == found and found.encode("utf-8")
    assert found.encode("utf-8", "surrogatepass").decode("unicode_escape") == name


@pytest.mark.parametrize("name", ["plain.jpg", "Straße 7.jpg", "写真.png", "фото.png", "👍🏽.png", "a\u3000b", "a\\n"])
def test_letters_of_every_language_stay(name):
    assert shown(name) == shown_lines(name) == name


def test_lines_of_the_writer_stay_and_those_of_others_become_one():
    assert shown_lines(f"one\n\ttwo{ESCAPE}\n") == f"one\n\ttwo{shown(ESCAPE)}\n"
    assert one_line("Exception from core.cpp:\n  Check failed\n") == "Exception from core.cpp: Check failed"
    assert report_line("data", FORGED) == f"data:      {shown(FORGED)}"


@pytest.mark.parametrize("kind", [UserError, ConfigError, UnknownKeyError])
def test_an_argument_of_an_error_is_a_line_whatever_is_in_it(kind):
    error = kind(f"no {FORGED}", "two", ESCAPE)
    assert str(error).splitlines() == [f"no {shown(FORGED)}", "two", shown(ESCAPE)]
    assert str(kind(f"{error.lines[0]} again")) == f"no {shown(FORGED)} again"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_errors_notes_messages_and_prints_reach_the_streams_shown(name, capsys):
    def main():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(OneLineFormatter("%(levelname)s %(message)s"))
        handler.handle(logging.LogRecord("x", logging.WARNING, "x", 1, "%s is bad", (name,), None))
        show_notes([f"see {name}"])
        print(f"raw {ESCAPE}", end="|")
        sys.stdout.writelines([ESCAPE])
        raise UserError(f"no {name}")

    before = sys.stdout, sys.stderr
    assert run_script(main) == 2
    assert (sys.stdout, sys.stderr) == before
    out, err = capsys.readouterr()
    assert err.split("\n") == [
        f"WARNING {shown(name)} is bad",
        f"note: see {shown(name)}",
        f"error: no {shown(name)}",
        "",
    ]
    assert out == f"raw {shown(ESCAPE)}|{shown(ESCAPE)}"


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone", FORGED), MemoryError(f"{ESCAPE}\nmore")])
def test_errors_of_the_system_are_one_line_too(error, capsys):
    def main():
        raise error

    assert run_script(main) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("arguments", [["{}"], ["--no-such={}"], ["--config", "{}"], ["--image-size", "{}"],
                                       ["--dataset-type", "image-directory", "--image-path", "{}"],
                                       ["--hparams", "{}"], ["--hparams", "{}=1"], ["--hparams", "{}.yaml"],
                                       ["--hparams", "label_map={}.yaml"], ["--model-dir", "{}"]])  # fmt: skip
def test_what_is_wrong_on_the_command_line_is_told_on_lines_of_the_program(name, arguments, capsys):
    def main():
        return ipu_inference.main(["--device", "cpu", "--dry-run", *(word.format(name) for word in arguments)])

    with pytest.raises(SystemExit) as ended:
        raise SystemExit(run_script(main))
    assert ended.value.code == 2
    err = capsys.readouterr().err
    own = ("error: ", "For the options: ", "  python -m ipu_utils.fetch_weights", "or add --random-weights")
    assert not NASTY.search(err) and all(line.startswith(own) for line in err.splitlines()), err


@pytest.fixture
def photographs(tmp_path):
    """Images with such names, one of them below such a folder, and one such file that is no image."""
    folder = tmp_path / "in"
    for number, name in enumerate(EVIL.values()):
        place = folder / (f"sub{name}" if number == 0 else ".")
        path = Path(os.path.join(str(place), f"{name}{number}.jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PHOTOGRAPH.read_bytes())
    (folder / "throughput: 99999.00 samples").mkdir()
    for name in (f"{ESCAPE}.png", "throughput: 99999.00 samples/sec, x.png"):
        (folder / name).write_bytes(b"junk")
    return folder


def test_outputs_of_images_with_such_names_hold_the_names_whole_and_show_them(photographs, tmp_path, capsys):
    source = open_source(DataConfig(dataset_type="image-directory", image_path=photographs), (64, 64), 1)
    output = OutputConfig(
        output_predictions=True, output_dir=tmp_path / ESCAPE, contact_sheet=tmp_path / "sheet.png",
        coco_results=tmp_path / f"{FORGED.replace('/', '')}.json",
    )  # fmt: skip
    hparams = get_inference_config("efficientdet-d0", "label_map={1: 'c\x1b[2Jt\\nx'}")
    outputs = open_outputs(output, "efficientdet-d0", hparams, SimpleNamespace(source=source, batch_size=1))
    found = [np.ones((1, 1, 4)) * [5, 5, 90, 90], np.full((1, 1), 0.9), np.ones((1, 1)), [1]]
    with outputs:
        for number in range(source.count):
            outputs.write([number], found)
    report = outputs.report() + "\n" + describe_skipped(source.skipped)
    starts = ("pictures:  ", "results:   ", "sheet:     ", "skipped:   ", "\tb\\x1b", "\t'throughput: ")
    assert not NASTY.search(report) and all(line.startswith(starts) for line in report.splitlines()), report
    text = next((tmp_path / ESCAPE).glob("detections.json")).read_text(encoding="utf-8")
    assert not NASTY.search(text)
    entries = json.loads(text)
    assert [entry["file"] for entry in entries] == [source.name(number) for number in range(source.count)]
    assert entries[0]["detections"][0]["name"] == "c\x1b[2Jt\nx"
    assert all(os.path.exists(os.fsencode(str(photographs / entry["file"]))) for entry in entries)


def test_labels_and_captions_are_drawn_on_one_line():
    for name in EVIL.values():
        text, size = fit_text(name, "90%", 14, 4000)
        assert text == f"{shown(name)}: 90%"
        assert text_mask(text, size).height == text_mask("x", size).height


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_records_keep_such_names_and_pages_and_tables_show_them(name, tmp_path, capsys):
    config = run_config(model_dir=Path(name), random_weights=True)
    measured = outcome(measured=f"from {name}", device={"kind": "cpu", "name": name, "engine": name, "threads": 2})
    record = make_record(config, measured)
    (tmp_path / "r.json").write_text(to_json(record), encoding="utf-8")
    assert read_record(tmp_path / "r.json") == record and record["configuration"]["model_dir"] == name
    write_page(tmp_path / "r.html", [record])
    write_page(tmp_path / "two.html", [], (record, {**record, "measured": "else"}))
    for page in ("r.html", "two.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert not NASTY.search(text) and shown(name) in html.unescape(text)
    publish.append_rows(tmp_path / "t.csv", config.benchmark.percentiles, [publish.records.row(record)])
    assert len((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()) == 2
    compare.main([str(tmp_path / "r.json"), str(tmp_path / "r.json")])
    out = capsys.readouterr().out
    assert not NASTY.search(out) and f"A: {tmp_path}/r.json: efficientdet-d0, {shown(name)}" in out


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_the_printed_configuration_gives_the_same_paths_again(name, tmp_path):
    config = load_config(["--output-dir", name, "--random-weights"], choose_device=lambda word: "cpu")
    text = describe_config(config)
    assert not NASTY.search(text) and yaml.safe_load(text)["efficientdet-d0"]["output_dir"] == name


def test_a_member_of_an_archive_is_shown(tmp_path):
    with tarfile.open(str(tmp_path / "a.tar.gz"), "w:gz") as packed:
        info = tarfile.TarInfo(f"../{FORGED}{ESCAPE}")
        packed.addfile(info, io.BytesIO(b""))
    with pytest.raises(UserError) as caught:
        unpack(tmp_path / "a.tar.gz", tmp_path)
    assert len(str(caught.value).splitlines()) == 1 and shown(f"../{FORGED}{ESCAPE}") in str(caught.value)


class Rude(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.wfile.write(b"HTTP/1.0 404 Gone\x1b[2J\x9b\r\n\r\n")

    def log_message(self, *arguments):
        pass


def test_the_reason_of_a_server_is_shown(tmp_path, monkeypatch, capsys):
    server = http.server.HTTPServer(("127.0.0.1", 0), Rude)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(fetch_weights, "PAUSE_SECONDS", 0)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    status = run_script(lambda: fetch_weights.main(["--base-url", url, "--output", str(tmp_path / FORGED / "x")]))
    server.shutdown()
    err = capsys.readouterr().err
    assert status == 2 and "404 Gone\\x1b[2J" in err and not NASTY.search(err) and len(err.splitlines()) == 1


def test_names_of_folders_may_be_as_long_as_names_can_be_when_fetching(tmp_path):
    (tmp_path / "published").mkdir()
    with tarfile.open(str(tmp_path / "published" / "x.tar.gz"), "w:gz") as packed:
        for name in ("model.index", "model.data-00000-of-00001"):
            packed.addfile(tarfile.TarInfo(f"x/{name}"), io.BytesIO(b""))
    folder = tmp_path / ("n" * 255)
    assert fetch_weights.fetch(Source((tmp_path / "published" / "x.tar.gz").as_uri()), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.data-00000-of-00001", "model.index"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\x1b[2J", ".hidden", "-rf", "", "n" * 1000])
def test_an_executables_name_leads_nowhere_as_a_file_name(name):
    found = file_stem(name)
    assert re.fullmatch("[A-Za-z0-9_+][A-Za-z0-9_.+-]*", found) and len(found) < 200
    assert file_stem("efficientdet-d7x") == "efficientdet-d7x"


def test_a_checkpoint_whose_name_is_no_utf8_has_a_fingerprint(tmp_path):
    path = Path(os.fsdecode(os.path.join(os.fsencode(str(tmp_path)), b"m\xff.h5")))
    path.write_bytes(b"x")
    assert re.fullmatch("[0-9a-f]{64}", of_files([path]))


def test_a_preset_whose_name_a_shell_would_run_is_not_offered_to_it(tmp_path, monkeypatch):
    for name in ("good-one", "$(touch x)", "a'; touch y; '", "b c"):
        (tmp_path / f"{name}.yml").write_text("")
    monkeypatch.setattr(completion, "CONFIG_DIR", tmp_path)
    assert completion.values_of()["--config"] == ["good-one"]


def test_the_doctor_shows_what_it_found():
    finding = doctor.Finding(False, f"found {FORGED}{ESCAPE}", None)
    text = doctor.describe([(name, finding) for name, _ in doctor.CHECKS])
    assert not NASTY.search(text) and "\tthroughput" not in text


def test_the_expressions_of_benchmarks_yml_read_the_report_alone():
    data = yaml.safe_load((ROOT / "benchmarks.yml").read_text())["common_options"]["data"]
    names = {"throughput: 1.00 samples/sec, x.jpg": "bad", "Per-batch latency avg: 1 ms, x.jpg": "bad"}
    report = format_report(Samples((0.5, 0.4), 1, 1)) + "\n" + describe_skipped(names)
    report += report_line("data", "image-directory (throughput: 1.00 samples/sec, x)")
    assert [re.findall(data[name]["regexp"], report) for name in ("throughput", "latency")] == [["2.22"], ["450.00"]]


def test_a_word_that_is_no_option_is_shown(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([FORGED])
    assert capsys.readouterr().err.splitlines()[0] == f"error: unrecognized arguments: {shown(FORGED)}."
