# SPDX-License-Identifier: Apache-2.0
"""Videos as sources of images: every frame once, in its place, upright; and what is said of files that are none."""

import random
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed: pip install av")

from videos import SIZE, frame_of, make_video, number_of, turn

from ipu_utils.base.errors import UserError
from ipu_utils.config.model_options import DataConfig
from ipu_utils.config.run_config import load_config
from ipu_utils.data import video
from ipu_utils.data.numpy_batches import open_feed
from ipu_utils.data.sources import open_source
from ipu_utils.data.video import VideoFrames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("video") / "clip.mp4")


def opened(path, share=(0, 1), size=SIZE):
    return open_source(DataConfig("video", image_path=path, share=share), size, 1)


def test_frames_are_numbered_in_the_order_in_which_they_are_shown(clip):
    source = opened(clip)
    assert source.count == 10 and source.rate == 12 and source.files == (clip,)
    for number in range(source.count):
        image = source.original(number)
        assert image.shape == (*SIZE, 3) == (*source.size(number), 3) and image.dtype == np.uint8
        assert number_of(image) == number and np.abs(image.astype(int) - frame_of(number)).mean() < 12
        assert source.name(number) == f"clip-{number:06d}"
    with pytest.raises(IndexError):
        source.original(10)


@pytest.mark.parametrize("kept", [1, 1 << 30])
def test_frames_come_in_any_order_and_again(clip, monkeypatch, kept):
    monkeypatch.setattr(video, "KEPT_BYTES", kept)
    monkeypatch.setattr(video, "KEPT_LEAST", 2)
    source, order = opened(clip), [*range(10), *range(10)]
    random.Random(3).shuffle(order)
    assert [number_of(source.original(number)) for number in order] == order


def test_threads_share_a_video(clip, monkeypatch):
    monkeypatch.setattr(video, "KEPT_BYTES", 1)
    source = opened(clip)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: number_of(source.original(number % 10)), range(40)))
    assert found == [number % 10 for number in range(40)] and threading.active_count() < 20


def test_few_frames_are_in_memory(clip, monkeypatch):
    decoded = []
    frames = video._frames
    monkeypatch.setattr(video, "_frames", lambda path: (decoded.append(1) or frame for frame in frames(path)))
    feed = iter(open_feed(DataConfig("video", image_path=clip, micro_batch_size=2), SIZE, 1))
    decoded.clear()
    _, _, ids = next(feed)
    assert ids.tolist() == [0, 1] and len(decoded) < 8, "more than what is needed soon"
    assert [next(feed)[2].tolist() for _ in range(5)] == [[2, 3], [4, 5], [6, 7], [8, 9], [0, 1]]


def test_what_the_network_sees_is_the_frame_fitted_as_any_image_is(clip):
    source = opened(clip, size=(96, 128))
    fitted = source.fitted(4)
    assert fitted.image.shape == (96, 128, 3) and fitted.scale_to_original == pytest.approx(0.5)
    assert number_of(fitted.image[::2, ::2]) == 4
    assert len(source.seconds) == 1 and source.seconds[0] > 0
    source.fitted(-1)
    assert len(source.seconds) == 1, "padding is not decoded"


def test_instances_share_the_frames(clip):
    shares = [opened(clip, (index, 3)) for index in range(3)]
    assert [list(share.own) for share in shares] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert [number_of(shares[1].original(number)) for number in shares[1].own] == [1, 4, 7]
    assert len(opened(clip, (12, 13)).own) == 1


def test_a_video_of_a_phone_is_turned_upright(clip, tmp_path):
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(clip.read_bytes())
    turn(turned)
    source, whole = opened(turned), opened(clip)
    assert source.size(0) == SIZE[::-1]
    for number in (0, 7):
        np.testing.assert_array_equal(source.original(number), np.rot90(whole.original(number), -1))


@pytest.mark.parametrize("name, codec", [("a.mkv", "mpeg4"), ("a.ts", "mpeg2video"), ("a.mp4", "mpeg4")])
def test_a_video_without_its_end_gives_the_frames_that_are_left(tmp_path, name, codec):
    path = make_video(tmp_path / name, 12, codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    if name.endswith(".mp4"):  # whose index is at its end
        with pytest.raises(UserError, match=r"a\.mp4 .* FFmpeg can read.* give another"):
            opened(path)
        return
    source = opened(path)
    assert 1 <= source.count < 12
    found = [source.try_fitted(number) for number in source.own]
    there = [one for one in found if one is not None]
    assert [number_of(one.image) for one in there] == list(range(len(there))) and len(there) > 2
    assert len(source.skipped) == len(found) - len(there)


def test_damage_inside_is_told_frame_by_frame_and_ends_nothing(tmp_path):
    path = make_video(tmp_path / "clip.avi", 12)
    content = bytearray(path.read_bytes())
    packets = [match.start() for match in re.finditer(rb"00dc", bytes(content))][:12]
    for start in packets[3:6]:
        content[start + 8 : start + 40] = bytes(32)
    path.write_bytes(bytes(content))
    source = opened(path)
    found = [source.try_fitted(number) for number in source.own]
    lost = sum(one is None for one in found)
    assert 9 <= len(found) <= 12 and lost < 6 and len(source.skipped) == lost
    assert all(f"of {len(found)} frames" in why for why in source.skipped.values())
    assert number_of(found[0].image) == 0  # what the decoder makes of later ones is its own affair


@pytest.mark.parametrize(
    "content, told",
    [(b"", "is not a video that FFmpeg can read"), (b"no video" * 99, "is not a video that FFmpeg can read")],
)
def test_a_file_that_is_no_video_is_refused(tmp_path, content, told):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.mp4 {told} \(\w.*\): give another"):
        opened(tmp_path / "x.mp4")


def test_a_file_without_a_frame_or_without_pictures_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UserError, match=r"sound\.mkv has no video that FFmpeg can read, only 1 other"):
        opened(tmp_path / "sound.mkv")
    path = make_video(tmp_path / "clip.avi", 3)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"00dc", b"JUNK"))
    with pytest.raises(UserError, match=r"clip\.avi holds no frame that can be decoded|is not a video"):
        opened(path)
    with pytest.raises(UserError, match=r"gone\.mp4 cannot be read"):
        VideoFrames(tmp_path / "gone.mp4", SIZE)


def config(*arguments):
    return load_config([*map(str, arguments)], choose_device=lambda word: "cpu", environ={})


def test_the_name_of_a_file_says_that_it_is_a_video(clip, capsys):
    found = config("--random-weights", "--image-path", clip)
    assert found.data.dataset_type == "video" and any("--dataset-type video" in note for note in found.notes)
    assert config("--random-weights", "--image-path", clip, "--output-predictions").benchmark.one_pass
    for kind, told in (
        ("single-image", "is a video: use --dataset-type video"),
        ("image-directory", "is a video: use --dataset-type video"),
        ("repeated-image", "is a video: use --dataset-type video"),
    ):
        with pytest.raises(SystemExit):
            config("--image-path", clip, "--dataset-type", kind)
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        config("--image-path", clip.parent, "--dataset-type", "video")
    assert "is a folder, and --dataset-type video reads one video" in capsys.readouterr().err


def test_without_pyav_the_error_says_what_to_install(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"PyAV cannot be imported .*`pip install av`"):
        opened(clip)
