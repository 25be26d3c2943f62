# SPDX-License-Identifier: Apache-2.0
"""Photographs that are run once: how long such a run is, what is said of it, and when its results are written."""

import threading

import numpy as np
import pytest
from config_loading import load
from dry_run import before_options, dry_run
from PIL import Image

from ipu_utils.base.detections import Detections
from ipu_utils.config.model_options import DataConfig
from ipu_utils.data.sources import NoiseImages, open_source
from ipu_utils.launch.dry_run import describe_config
from ipu_utils.launch.one_pass import RequestResults, plan, planned
from ipu_utils.measure.requests import Client, measure_requests
from ipu_utils.report.text import describe_pass

TINY = ("--model-name", "efficientdet-lite0", "--image-size", "64", "--random-weights", "--engine", "tensorflow")


@pytest.fixture
def folder(tmp_path):
    """Five images, and one that is none."""
    (tmp_path / "in").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8)).save(str(tmp_path / "in" / f"{number}.png"))
    (tmp_path / "in" / "bad.png").write_bytes(b"text")
    return tmp_path / "in"


def run(folder, *argv, script="throughput", **more):
    argv = ("--image-path", folder, "--output-predictions", *argv)
    return planned(load(*argv, script=script, **{"device": "cpu", **more}))


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 17, 33])
def test_a_pass_is_every_batch_once_and_a_call_has_the_device_busy(at_once):
    for batches in [*range(1, 200), 5000, 4999, 36781]:
        calls, size = plan(batches, at_once)
        more = calls * size - batches
        assert 0 <= more < size <= max(1, at_once)
        if batches <= 2 * at_once:
            assert (calls, size) == (batches, 1)
        else:
            assert size > at_once // 2
            others = [-batches % other for other in range(at_once // 2 + 1, at_once + 1)]
            assert more == min(others), "another number of batches a call would have had fewer images come twice"


def test_a_run_over_photographs_has_the_length_of_its_folder(folder):
    argv = ("--num-threads", "1", "--num-streams", "1")
    benchmark = run(folder, *argv).benchmark
    assert (benchmark.num_repeats, benchmark.benchmark_repeats, benchmark.warmup) == (3, 2, 1)
    benchmark = run(folder, device="ipu").benchmark  # whose preset has batches of four
    assert (benchmark.num_repeats, benchmark.benchmark_repeats) == (2, 1)
    benchmark = run(folder, script="embedded").benchmark
    assert (benchmark.num_repeats, benchmark.warmup) == (5, 1)
    (folder / "bad.png").unlink()
    assert run(folder, *argv).benchmark.num_repeats == 3


def test_images_that_come_again_are_told(folder):
    config = run(folder, "--micro-batch-size", "2", "--num-streams", "3", script="embedded")
    assert config.benchmark.num_repeats == 3
    assert "5 images in batches of 2 leave 1 of 6 places free: images that came before fill them." in config.notes
    assert not [note for note in run(folder, script="embedded").notes if "places free" in note]


def test_the_loop_of_an_ipus_executable_outlasts_the_folder(folder, tmp_path):
    preset = tmp_path / "short.yml"
    preset.write_text("efficientdet-d0: {warmup: 2}\n")
    assert run(folder, "--config", preset, script="embedded", device="ipu").benchmark.benchmark_repeats == 100
    for number in range(5, 120):
        (folder / f"{number}.png").write_bytes((folder / "0.png").read_bytes())
    benchmark = run(folder, "--config", preset, script="embedded", device="ipu").benchmark
    assert (benchmark.num_repeats, benchmark.benchmark_repeats) == (120, 122)


def test_every_other_run_stays_as_it_is(folder):
    config = load("--image-path", folder)
    assert planned(config) is config


@pytest.mark.parametrize(
    "argv, script, said",
    [
        ((), "throughput", "5 calls of 1 batch, the first is not counted"),
        (("--warmup", "0"), "throughput", "5 calls of 1 batch, all counted"),
        (("--warmup", "9"), "throughput", "5 calls of 1 batch, the first 4 are not counted"),
        (("--micro-batch-size", "5"), "throughput", "1 call of 1 batch, after 1 more that is not counted"),
        ((), "embedded", "5 requests, after 1 more that is not counted"),
        (("--warmup", "2"), "embedded", "5 requests, after 2 more that are not counted"),
    ],
)
def test_the_report_says_that_it_was_one_pass(folder, argv, script, said):
    assert describe_pass(run(folder, "--num-threads", "4", *argv, script=script)) == f"each image once: {said}"


def test_the_dry_run_says_so_too_and_what_decides(folder):
    said = dry_run(*TINY, "--num-streams", "3", "--image-path", folder, "--output-predictions")
    assert "work:      each image once: 5 calls of 1 batch, the first is not counted" in before_options(said)
    assert any(line.startswith("note:      each image is run once, because of --output-predictions") for line in said)
    (line,) = [line for line in said if line.endswith(" --num-repeats 5")]
    assert line.strip().startswith("derived (default: 20)")
    assert not [line for line in dry_run(*TINY, "--image-path", folder) if "once" in line]


def test_a_preset_made_of_such_a_run_is_such_a_run(folder, tmp_path):
    (tmp_path / "again.yml").write_text(describe_config(load("--image-path", folder, "--output-predictions")))
    assert load("--config", tmp_path / "again.yml").benchmark.one_pass


class Session:
    """Finds as many objects as the number of the request that it served last."""

    def __init__(self):
        self.number = None

    def detections(self):
        found = np.full((1, 9), self.number)
        return Detections(np.zeros((1, 9, 4)), found / 10, found, np.array([self.number]))

    def candidates(self):
        return 10.0 * self.number


class Written:
    """Keeps what it is to write, and in which thread."""

    def __init__(self):
        self.ids, self.threads = [], set()

    def write(self, ids, detections):
        (image_id,), (length,) = ids, detections[3]
        assert length == image_id and detections[2][0, 0] == image_id
        self.ids.append(int(image_id))
        self.threads.add(threading.current_thread())


class Inputs:
    """A request for each image, by its number."""

    ids = np.arange(4)[:, None]

    def __len__(self):
        return 4


def clients_of(results, count, sleep=lambda number: None):
    def served(session, number):
        session.number = number
        sleep(number)

    sessions = [Session() for _ in range(count)]
    return [
        results.client(Client(lambda number: None, lambda number, session=session: served(session, number)), session)
        for session in sessions
    ]


def test_what_a_request_finds_is_written_before_the_next_one_is_sent():
    written = Written()
    sent = []
    with RequestResults(written, Inputs(), alone=True) as results:
        clients = clients_of(results, 1, sleep=lambda number: sent.append((number, list(written.ids))))
        measure_requests(clients, 4)
    assert sent == [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2])] and written.ids == [0, 1, 2, 3]
    assert results.objects() == (15.0, 1.5, 4)


def test_what_overlapping_requests_find_is_written_behind_them_in_order():
    written = Written()
    with RequestResults(written, Inputs(), alone=False) as results:
        measure_requests(clients_of(results, 3), 4)
        assert written.ids == []
    assert written.ids == [0, 1, 2, 3] and written.threads == {threading.current_thread()}


def test_what_was_found_before_an_interruption_is_written():
    written = Written()

    def interrupted(number):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), RequestResults(written, Inputs(), alone=False) as results:
        measure_requests(clients_of(results, 1, sleep=interrupted), 4)
    assert written.ids == [0, 1]


def streamed(source, batch_size):
    from ipu_utils.launch.requests import StreamedInputs

    return StreamedInputs(source, batch_size)


def test_inputs_of_any_number_are_made_when_their_request_is_due(folder):
    data = DataConfig(dataset_type="image-directory", image_path=folder)
    source = open_source(data, (16, 16), 1)
    inputs = streamed(source, 2)
    assert len(inputs) == 3 and inputs.ids.tolist() == [[0, 1], [2, 3], [4, 0]] and inputs.left_out == 0
    (folder / "3.png").write_bytes(b"damaged")
    for number in range(3):
        inputs.prepare(number)
        images, scales = inputs.batch(number)
        assert images.shape == (2, 16, 16, 3) and scales.tolist()[0] == 0.5
    assert inputs.ids.tolist() == [[0, 1], [2, -1], [4, 0]] and list(source.skipped) == ["bad.png", "3.png"]


def test_streamed_inputs_are_those_that_lie_in_memory():
    from ipu_utils.launch.requests import Inputs as InMemory

    source = NoiseImages(6, (16, 16), 0)
    inputs, other = InMemory(source, 2, 3), streamed(source, 2)
    for number in range(3):
        other.prepare(number)
        for one, two in zip(inputs.batch(number), other.batch(number)):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(inputs.ids, other.ids)
