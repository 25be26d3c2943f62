# SPDX-License-Identifier: Apache-2.0
"""The HTML page: what is on it, that nothing in a record can break out of its text, and how a real browser takes it."""

import copy
import html
import itertools
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from records import outcome, publish, run_config

from ipu_utils import compare
from ipu_utils.base.console import run_script
from ipu_utils.measure.requests import RequestTimes, samples_of
from ipu_utils.measure.throughput import Samples, pool
from ipu_utils.report import charts
from ipu_utils.report import record as records
from ipu_utils.report.html import PUBLISHED_AP, write_page
from ipu_utils.report.publish import publisher
from ipu_utils.report.sweep_table import SweepRow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jinja2",)
VOID = {"meta"}  # others that end themselves do so with a slash


class Page(HTMLParser):
    """Reads a page; an element that is closed wrongly is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.source, self.open, self.tags, self.attributes, self.words = text, [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def rows(self, column):
        """Texts of the cells of the table that has such a column, its heading first."""
        found = [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
                 for row in re.findall(r"<tr>(.*?)</tr>", self.source)]  # fmt: skip
        start = next(number for number, row in enumerate(found) if column in row)
        table = itertools.takewhile(lambda row: len(row) == len(found[start]), found[start:])
        return [[html.unescape(cell) for cell in row] for row in table]

    @property
    def text(self):
        return "|".join(word for word in self.words if word.strip())


def make(samples=None, **changes):
    return records.make_record(run_config(), outcome(samples, **changes))


def noisy(count, seed=0):
    return Samples(tuple((0.05 * (1 + 0.1 * np.random.RandomState(seed).rand(count))).tolist()), 1, 1)


def sweep_records():
    found = []
    for index, name in enumerate(["d0", "d1", "d7x", "lite0"]):
        record = make(noisy(20, index))
        record["model"]["name"] = f"efficientdet-{name}"
        record["statistics"]["images_per_second"]["mean"] /= 1 + index
        found.append(record)
    return found


def page(tmp_path, *found, comparison=None):
    path = tmp_path / "page.html"
    write_page(path, list(found), comparison)
    text = path.read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", ""), "a page that needs no network names no address"
    return Page(text)


def test_a_run_is_told_in_numbers_and_pictures(tmp_path):
    read = page(tmp_path, make(noisy(100)))
    assert read.tags.count("svg") == 3
    for words in (
        "throughput",
        "from here to there",
        "p99",
        "random weights",
        "input wait",
        "best-class",
        "TensorFlow",
    ):
        assert words in read.text
    assert read.tags.count("circle") == 100


@pytest.mark.parametrize(
    "record",
    [
        make(Samples((0.5,), 1, 1)),
        make(Samples((0.5,) * 30, 1, 1)),
        make(stages={}),
        make(pool([noisy(5), noisy(7, 1)])),
        make(samples_of(RequestTimes((0.01, 0.02), (0.01, 0.03)), 1, alone=False)),
        make(Samples(tuple(0.001 * 10**i for i in range(7)), 1, 1)),
        make(objects={"candidates": None, "detections": 0.0, "images": 0}),
    ],
    ids=["one sample", "all equal", "no stages", "two instances", "requests", "seven powers of ten", "no outputs"],
)
def test_unusual_runs_have_a_page_too(tmp_path, record):
    read = page(tmp_path, record)
    assert "nan" not in read.text and "inf" not in re.sub("interval|inference", "", read.text)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_of_a_few_samples_the_page_gives_no_interval_either(tmp_path, count):
    text = page(tmp_path, make(Samples((0.5,) * count, 1, 1))).text
    assert ("too few samples for an interval" in text) == (count < 5) and ("95% interval" in text) == (count >= 5)


def test_an_unstable_run_is_marked(tmp_path):
    assert "UNSTABLE: tail: p99 is 9.0 times p50" in page(tmp_path, make(Samples((0.1,) * 20 + (0.9,), 1, 1))).text


def test_what_unstable_means_stands_once_on_each_kind_of_page(tmp_path):
    steady, unstable = make(), make(Samples((0.1,) * 20 + (0.9,), 1, 1))
    for found, compared in [([unstable], None), ([unstable, unstable], None), ([], (unstable, unstable))]:
        text = page(tmp_path, *found, comparison=compared).text
        assert text.count("measure again, longer") == 1 and text.index("tail: p99") < text.index("measure again")
    for found, compared in [([steady], None), ([steady, steady], None), ([], (steady, steady))]:
        assert "measure again" not in page(tmp_path, *found, comparison=compared).text


def test_what_a_record_says_stays_text(tmp_path):
    record = make()
    record["command"] = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>']
    record["measured"] = "</p><h1>&amp;"
    read = page(tmp_path, record)
    assert "script" not in read.tags and "img" not in read.tags and read.tags.count("h1") == 1
    assert "<script>alert(1)</script>" in read.text and "</p><h1>&amp;" in read.text


def test_a_sweep_shows_throughput_against_published_accuracy(tmp_path):
    read = page(tmp_path, *sweep_records())
    titles = [word for word in read.words if "images/s, published AP" in word]
    wanted = [f"published AP {PUBLISHED_AP[f'efficientdet-{name}']}" for name in ("d7x", "d1", "d0")]
    assert [text.split("images/s, ")[1] for text in titles] == wanted  # the slowest first
    assert not any("lite0" in text for text in titles)  # no published number: not drawn there, but in the bars
    assert "lite0" in read.text and "not measured here" in read.text


def test_a_sweep_of_anything_else_is_labelled_by_what_varies_too(tmp_path):
    found = [copy.deepcopy(make()) for _ in range(2)]
    found[1]["nms"]["mode"] = "multi-class"
    read = page(tmp_path, *found)
    for mode in ("best-class", "multi-class"):
        assert f"Configuration: d0 batch 2 float auto {mode}" in read.text
        assert read.rows("model")[0][:6] == ["", "model", "batch", "precision", "engine", "nms mode"]
        assert [row[5] for row in read.rows("model")[1:]] == ["best-class", "multi-class"]


def failed_sweep():
    """Three combinations of a sweep over precisions and NMS modes: one ran, one failed, one did not run."""
    record = make(Samples((0.1,) * 20 + (0.9,), 1, 1), accuracy={"AP": 0.25, "images": 3})
    record["executable"].update(origin="kept", bytes=17_460_000, compile_seconds=None)
    record["machine"]["own_peak_memory_mib"] = 400
    record["agreement"] = {"is_reference": False, "detections": 8, "found_again": 7, "iou_above": 0.5, "images": 2}
    expected = {"model": "efficientdet-d1", "batch": "2", "precision": "half", "engine": "litert"}
    swept = [{"model_precision": word, "nms_mode": "multi-class"} for word in ("fp32", "fp16", "bf16")]
    return [
        SweepRow(swept[0], record),
        SweepRow(swept[1], None, "FAILED (status 2): no <half> here", expected),
        SweepRow(swept[2], None, "not run"),
    ]


def test_every_row_of_a_sweep_says_what_it_is_and_why_it_has_no_numbers(tmp_path):
    rows = failed_sweep()
    write_page(tmp_path / "page.html", [rows[0].record], rows=rows)
    read = Page((tmp_path / "page.html").read_text())
    unstable = "UNSTABLE: tail: p99 is 9.0 times p50"
    assert read.rows("model") == [
        ["", "model", "batch", "precision", "engine", "nms mode", "status", "images/s", "mean, ms a batch",
         "p50, ms a batch", "p99, ms a batch", "compile, s", "file, MB", "memory, MB", "agreement", "AP"],
        ["1", "efficientdet-d0", "1", "float", "auto", "multi-class", unstable, "7.24", "138.10", "100.00", "900.00",
         "kept", "17.5", "419", "0.875", "0.2500"],
        ["2", "efficientdet-d1", "2", "half", "litert", "multi-class", "FAILED (status 2): no <half> here",
         *["-"] * 9],
        ["3", "-", "-", "bf16", "-", "multi-class", "not run", *["-"] * 9],
    ]  # fmt: skip
    assert "agreement: share of ref's detections" in read.text
    assert "2 of 3 combinations have no numbers" in read.text
    assert "d1 batch 2 half litert multi-class: FAILED (status 2): no <half> here" in read.text
    banner = "random weights: the speed is real, the detections mean nothing"
    assert read.text.index(banner) < read.text.index("All combinations")


def test_a_page_names_the_rows_with_random_weights_where_not_all_have_them(tmp_path):
    trained, random = make(noisy(20)), make(noisy(20))
    trained["weights"]["random"] = False
    write_page(tmp_path / "page.html", [trained, random], rows=[SweepRow({}, trained), SweepRow({}, random)])
    text = Page((tmp_path / "page.html").read_text()).text
    assert text.count("random weights: the speed is real") == 2  # with its own configuration, too
    assert text.index("row 2: random weights: the speed") < text.index("All combinations")


def test_a_sweep_without_any_numbers_has_a_page_that_says_why(tmp_path):
    write_page(tmp_path / "page.html", [], rows=failed_sweep()[1:])
    read = Page((tmp_path / "page.html").read_text())
    assert len(read.rows("model")) == 3 and "svg" not in read.tags and "random weights" not in read.text


def test_what_a_latency_is_of_stands_beside_it(tmp_path):
    record = make(noisy(20))
    text = page(tmp_path, record).text
    assert text.count("latency, ms a batch") == 2 and "ms a batch; 20 samples" in text
    record["configuration"]["script"] = "embedded"
    text = page(tmp_path, record).text
    assert "ms a batch" not in text and text.count("latency, ms a request") == 2


def test_percentiles_of_two_samples_are_not_called_different(tmp_path):
    read = page(tmp_path, comparison=(make(noisy(2)), make(Samples((0.9, 0.91), 1, 1))))
    lines = read.rows("unit")
    assert {row[1] for row in lines[2:]} == {"ms a batch"} and {row[5] for row in lines[1:]} == {""}
    assert "2 and 2 samples: no interval where they are too few to tell a difference" in read.text
    read = page(tmp_path, comparison=(make(noisy(200)), make(noisy(200, 1))))
    assert [row[0] for row in read.rows("unit") if row[5]][-1] == "latency p99" and "no interval" not in read.text


def test_a_comparison_has_both_and_what_differs(tmp_path):
    first, second = make(noisy(30)), make(noisy(40, 1))
    second["device"]["name"] = "another"
    read = page(tmp_path, comparison=(first, second))
    assert "device.name" in read.text and "cpu (a, 2 threads) / another" in read.text
    assert {value for tag, name, value in read.attributes if tag == "circle" and name == "class"} == {"s1", "s2"}


def test_the_options_write_pages(tmp_path):
    publish(run_config(report=tmp_path / "run.html"), outcome())
    assert "Percentiles" in Page((tmp_path / "run.html").read_text()).text
    paths = [tmp_path / "A.json", tmp_path / "B.json"]
    for path in paths:
        path.write_text(records.to_json(make()))
    argv = [*map(str, paths), "--report", str(tmp_path / "both.html")]
    assert run_script(lambda: compare.main(argv)) == 0
    assert "Numbers side by side" in Page((tmp_path / "both.html").read_text()).text


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("broken", [False, True], ids=["missing", "broken"])
def test_a_page_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path, monkeypatch, capsys, package, broken):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    if broken:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise OSError('libx.so is missing')")
        monkeypatch.syspath_prepend(str(tmp_path))
    else:
        monkeypatch.setitem(sys.modules, package, None)

    def run():
        with publisher(run_config(report=tmp_path / "run.html")):
            raise AssertionError("the run began")

    (tmp_path / "A.json").write_text(records.to_json(make()))
    argv = [str(tmp_path / "A.json")] * 2 + ["--report", str(tmp_path / "both.html")]
    for main in (run, lambda: compare.main(argv)):
        assert run_script(main) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and f"error: the Python package {package} " in err, err
        assert "make setup" in err or "pip install -r requirements.txt" in err
    assert list(tmp_path.glob("*.html")) == []


def test_a_run_without_a_page_needs_none_of_its_packages():
    code = "import sys, ipu_inference, ipu_embedded_inference, ipu_utils.compare\n"
    code += f"assert not {{*{PACKAGES!r}}} & {{*sys.modules}}, 'imported at the start'"
    assert subprocess.run([sys.executable, "-c", code], cwd=str(ROOT)).returncode == 0


@pytest.mark.parametrize("low, high", [(0, 1), (0, 0.013), (3, 4777), (-2.5, 9), (5, 5)])
def test_ticks_are_few_round_and_inside(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 12 and all(low <= value <= high for value in found)
    assert all(len(f"{value:.4g}".lstrip("-0.").rstrip("0")) <= 4 for value in found)


def test_the_bars_of_a_histogram_hold_all_samples():
    values = noisy(137).batch_latency_ms
    text = charts.histogram([charts.Series("x", values)])
    assert sum(int(count) for count in re.findall(r"x: (\d+) samples", text)) == 137


def test_marks_of_percentiles_do_not_hide_each_other():
    text = charts.histogram([charts.Series("x", [1.0, 2.0])], [("p50", 1.5), ("p90", 1.501), ("p99", 1.502)])
    places = re.findall(r'halo" x="[\d.]+" y="([\d.]+)"', text)
    assert len(places) == len(set(places)) == 3


def browse(tmp_path):
    """What a browser says of page.html on its console, and addresses that it asked for on the page's behalf."""
    if BROWSER is None or sys.platform != "linux":
        pytest.skip("chromium is not installed (apt-get install chromium), or this is not Linux")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'user'}", "--enable-logging=stderr", f"--log-net-log={tmp_path / 'net.json'}",
        "--dump-dom", (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "<svg" in done.stdout and "</html>" in done.stdout, done.stderr
    urls = {urlsplit(url) for url in re.findall(r'"url": ?"([^"]+)"', (tmp_path / "net.json").read_text())}
    # The browser asks its makers for the time and for updates, whatever it is told.
    own = ("google.com", "googleapis.com", "gstatic.com")
    asked = {url.geturl() for url in urls if url.scheme.startswith("http") and not url.hostname.endswith(own)}
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], asked


@pytest.mark.parametrize("kind", ["run", "sweep", "comparison"])
def test_a_real_browser_shows_the_page_without_complaint_or_request(tmp_path, kind):
    found = {"run": [make(noisy(50))], "sweep": sweep_records(), "comparison": []}[kind]
    write_page(tmp_path / "page.html", found, (make(noisy(9)), make(noisy(9, 1))) if kind == "comparison" else None)
    assert browse(tmp_path) == ([], set())


def test_a_page_that_asked_for_something_would_be_noticed(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, [make()])
    outside = '<img src="http://127.0.0.1:9/x.png">'
    path.write_text(path.read_text().replace("<h1>", outside + "<h1>"))
    console, asked = browse(tmp_path)
    assert len(console) == 1 and "Content Security Policy" in console[0] and not asked  # refused by the page itself
    path.write_text(re.sub(r"<meta http-equiv[^>]*>", "", path.read_text()))
    assert browse(tmp_path)[1] == {"http://127.0.0.1:9/x.png"}
