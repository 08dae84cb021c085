"""Videos are compared with the numbers drawn into their frames, and with a decoding by hand."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.drawn_videos import CODECS, numbered_frames, read_numbers, write_video

from reelworld.data.dataset import Dataset, ReadOptions
from reelworld.data.formats import video
from reelworld.data.formats.video import make_timeline
from reelworld.data.resize import fit_frame
from reelworld.types import UserError

UNEVEN = np.cumsum([0] + [40, 40, 40, 200, 20, 20, 100] * 4).tolist()


def whole(dataset):
    """Join the stretches of one file."""
    clips = [dataset.read(i) for i in dataset.indices("all")]
    return np.concatenate([c.frames for c in clips]), clips


@pytest.mark.parametrize("ending", CODECS)
def test_every_container_gives_every_frame_in_order(tmp_path, ending):
    path = write_video(tmp_path / f"a{ending}", numbered_frames(50), fps=20)
    dataset = Dataset.open(path)
    frames, _ = whole(dataset)
    assert read_numbers(frames) == list(range(50))
    assert dataset.info.fps == pytest.approx(20)
    assert (dataset.info.height, dataset.info.width) == (48, 64)
    assert [e.source for e in dataset.episodes] == [f"a{ending}#{i:02d}" for i in range(3)]


def test_lossless_video_is_exact(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (9, 37, 51, 3), np.uint8)
    dataset = Dataset.open(write_video(tmp_path / "a.mkv", frames))
    np.testing.assert_array_equal(whole(dataset)[0], frames)


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".avi", ".gif"])
def test_odd_sizes(tmp_path, ending):
    codec = ("libx264", "yuv444p") if ending == ".mp4" else CODECS[ending]
    dataset = Dataset.open(write_video(tmp_path / f"a{ending}", numbered_frames(8, 37, 51), codec=codec))
    assert (dataset.info.height, dataset.info.width) == (37, 51)
    assert read_numbers(whole(dataset)[0]) == list(range(8))


def test_the_real_video_agrees_with_a_decoding_by_hand(real, tmp_path):
    import av

    with av.open(str(real / "test_video.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = source.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for i, packet in enumerate(source.demux(stream)):
            if i == 40:
                break
            packet.stream = copy
            cut.mux(packet)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        want = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    dataset = Dataset.open(tmp_path / "cut.mp4", ReadOptions(size=(90, 160), fit="stretch"))
    frames, _ = whole(dataset)
    assert dataset.info.fps == pytest.approx(30)
    assert len(frames) >= len(want) >= 38  # the cut lost a frame that later ones were to be shown after
    for t, got in list(enumerate(frames))[::5]:
        full = [image for time, image in want if time <= t / 30 + 1e-3][-1]
        mean = full.reshape(90, 12, 160, 12, 3).mean(axis=(1, 3))
        assert np.abs(got - mean).max() <= 1


@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".webm"])
def test_variable_frame_rates_are_resampled_by_time_and_said(tmp_path, ending):
    path = write_video(tmp_path / f"a{ending}", numbered_frames(len(UNEVEN)), times_ms=UNEVEN)
    dataset = Dataset.open(path, ReadOptions(fps=50))
    numbers = read_numbers(whole(dataset)[0])
    ticks = range(0, UNEVEN[-1] + 1, 20)
    assert numbers == [max(i for i, t in enumerate(UNEVEN) if t <= tick) for tick in ticks]
    assert dataset.info.fps == 50
    assert "variable frame rate" in dataset.notes[0]
    assert "50 frames per second" in dataset.notes[0]


def test_constant_rates_are_resampled_only_when_asked(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered_frames(40), fps=30)
    slow = Dataset.open(path, ReadOptions(fps=10))
    assert read_numbers(whole(slow)[0]) == list(range(0, 40, 3))
    assert slow.info.fps == 10
    assert read_numbers(whole(Dataset.open(path, ReadOptions(fps=30)))[0]) == list(range(40))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.sampled_from([0, 5, 12.5, 30, 60]))
def test_a_timeline_shows_at_each_tick_what_was_on_screen(gaps_ms, fps):
    times = np.cumsum([0, *gaps_ms]) / 1000
    line = make_timeline(times, fps, 25.0)
    assert (np.diff(line.picks) >= 0).all()
    assert line.picks.max() <= len(times) - 1
    if np.array_equal(line.picks, np.arange(len(times))):
        return
    ticks = np.arange(len(line.picks)) / line.fps
    slack = 0.126 / line.fps  # a frame that comes within an eighth of a tick counts as being on time
    assert (times[line.picks] <= ticks + slack).all()
    following = np.append(times[1:], np.inf)[line.picks]
    assert (following > ticks - 1e-9).all()
    assert ticks[-1] <= times[-1] + 1e-4 < ticks[-1] + 1 / line.fps + 2e-4


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_are_turned_upright(tmp_path, degrees):
    import av

    frames = np.zeros((6, 32, 48, 3), np.uint8)
    frames[:, :16, :24] = 250  # a bright corner, top left
    path = write_video(tmp_path / "a.mp4", frames)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    c, s = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    numbers = [c * 65536, s * 65536, 0, -s * 65536, c * 65536, 0, 0, 0, 1 << 30]
    content[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in numbers)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        turned = round(next(container.decode(video=0)).rotation)
    assert turned % 360 == -degrees % 360  # FFmpeg counts the other way round
    picture = Dataset.open(path).read(0).frames[0]
    # the track's matrix turns the picture clockwise: the corner moves to the right first
    want = np.rot90(frames[0], -degrees // 90)
    assert picture.shape == want.shape
    assert np.abs(picture.astype(int) - want).mean() < 12


@pytest.mark.parametrize(
    ("fit", "shape"), [("crop", (24, 24)), ("stretch", (24, 24)), ("pad", (24, 24)), ("crop", (96, 40))]
)
def test_fits(fit, shape):
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    got = fit_frame(frame, shape, fit)
    assert got.shape == (*shape, 3)
    image = Image.fromarray(frame)
    if shape == (96, 40):
        scaled = image.crop((38, 0, 58, 48)).resize((40, 96), Image.Resampling.BICUBIC)
        assert np.abs(got.astype(int) - np.asarray(scaled)).mean() < 3
    elif fit == "crop":
        mean = frame[:, 24:72].reshape(24, 2, 24, 2, 3).mean(axis=(1, 3))
        assert np.abs(got - mean).max() <= 1
    elif fit == "stretch":
        assert np.abs(got - frame.reshape(24, 2, 24, 4, 3).mean(axis=(1, 3))).max() <= 1
    else:
        assert not got[:6].any()
        assert not got[18:].any()
        assert np.abs(got[6:18] - frame.reshape(12, 4, 24, 4, 3).mean(axis=(1, 3))).max() <= 1


def test_a_size_without_a_fit_and_mixed_sizes_are_refused(tmp_path):
    write_video(tmp_path / "a.mkv", numbered_frames(6))
    with pytest.raises(UserError, match=r"a\.mkv has frames of 48x64.*--fit crop"):
        Dataset.open(tmp_path, ReadOptions(size=32))
    write_video(tmp_path / "b.mkv", numbered_frames(6, 32, 64))
    with pytest.raises(UserError, match="2 sizes"):
        Dataset.open(tmp_path)
    dataset = Dataset.open(tmp_path, ReadOptions(size=32, fit="pad"))
    assert {dataset.read(i).frames.shape[1:] for i in dataset.indices("all")} == {(32, 32, 3)}


def write_actions(path, rows):
    if path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".csv":
        lines = [",".join(map(str, np.atleast_1d(r).tolist())) for r in rows]
        path.write_text("\n".join(["steer,gas"[: 5 if rows.ndim == 1 else 9], *lines]) + "\n")
    else:
        values = [r.tolist() for r in rows]
        path.write_text("".join(json.dumps({"action": v} if i % 2 else v) + "\n" for i, v in enumerate(values)))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".npy"])
@pytest.mark.parametrize("n_rows", [20, 19])
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_actions_beside_a_video(tmp_path, ending, n_rows, kind):
    for i in range(3):
        write_video(tmp_path / f"{i}.mkv", numbered_frames(20 + i)[i:])
        rows = np.arange(n_rows) if kind == "discrete" else np.stack([np.arange(n_rows) % 7 / 8, -np.ones(n_rows)], 1)
        write_actions(tmp_path / f"{i}{ending}", rows)
    dataset = Dataset.open(tmp_path)
    spec = dataset.info.actions["action"]
    assert (spec.kind, spec.n) == (kind, n_rows if kind == "discrete" else 2)
    for i in range(3):
        clip = dataset.read(i)
        first = read_numbers(clip.frames)[0]
        for t in range(19):
            assert np.ravel(clip.action[t])[0] == (t if kind == "discrete" else t % 7 / 8)
            assert read_numbers(clip.frames)[t] == first + t


def test_actions_follow_a_resampled_video(tmp_path):
    write_video(tmp_path / "a.mkv", numbered_frames(len(UNEVEN)), times_ms=UNEVEN)
    np.save(tmp_path / "a.npy", np.arange(len(UNEVEN)))
    frames, clips = whole(Dataset.open(tmp_path, ReadOptions(fps=50)))
    assert np.concatenate([c.action for c in clips]).tolist() == read_numbers(frames)


def test_action_shift_moves_the_rows_of_a_video(tmp_path):
    write_video(tmp_path / "a.mkv", numbered_frames(12))
    np.save(tmp_path / "a.npy", np.arange(12))
    frames, clips = whole(Dataset.open(tmp_path, ReadOptions(action_shift=1)))
    actions = np.concatenate([c.action for c in clips])
    assert actions[:11].tolist() == [n + 1 for n in read_numbers(frames)[:11]]


BAD_ACTIONS = {
    "length.npy": (np.arange(7), r"7 rows for 10 frames; wanted 10 .* or 9"),
    "nan.npy": (np.full((10, 2), np.nan), "NaN"),
    "object.npy": (np.array([None] * 10), "pickled object"),
    "nan.csv": ("steer\n" + "nan\n" * 10, "NaN"),
    "words.csv": ("left\nright\nleft\n", "not all numbers|one row"),
    "ragged.csv": ("1,2\n3\n", "cannot be read as actions"),
    "empty.csv": ("", "one row"),
    "word.csv": ("1\n2\nx\n", "cannot be read as actions"),
    "broken.jsonl": ("[1, 2]\n{", "cannot be read as actions"),
    "key.jsonl": ('{"act": 1}\n', "cannot be read as actions"),
    "binary.csv": (b"\xff\xfe\x00", "cannot be read as actions"),
    "ids.npy": (np.arange(10) - 1, "ids from 0"),
}


@pytest.mark.parametrize("name", BAD_ACTIONS)
def test_bad_action_files_are_one_line(tmp_path, name):
    content, wanted = BAD_ACTIONS[name]
    path = tmp_path / name
    write_video(path.with_suffix(".mkv"), numbered_frames(10))
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=wanted) as caught:
        Dataset.open(tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_action_files_and_some_without(tmp_path):
    for i in range(2):
        write_video(tmp_path / f"{i}.mkv", numbered_frames(10))
    np.save(tmp_path / "0.npy", np.arange(10))
    strict = ReadOptions(strict=True)
    with pytest.raises(UserError, match=r"1 of 2 recordings have no actions \(first: 1\.mkv\)"):
        Dataset.open(tmp_path, strict)
    assert Dataset.open(tmp_path).problems == ("1.mkv has no actions, 1 other recordings have",)
    (tmp_path / "0.csv").write_text("1\n")
    with pytest.raises(UserError, match="2 action files"):
        Dataset.open(tmp_path, strict)


@pytest.mark.parametrize("ending", CODECS)
def test_truncated_videos_keep_their_first_frames_or_are_counted(tmp_path, ending):
    content = write_video(tmp_path / f"good{ending}", numbered_frames(40), fps=20).read_bytes()
    shares = (0.0, 0.02, 0.3, 0.6, 0.9, 0.99)
    for share in shares:
        (tmp_path / f"cut{share}{ending}").write_bytes(content[: int(len(content) * share)])
    dataset = Dataset.open(tmp_path)
    parts = [dataset.read(i).frames for i, e in enumerate(dataset.episodes) if e.file == f"good{ending}"]
    whole = np.concatenate(parts)
    kept = {e.file for e in dataset.episodes if e.file.startswith("cut")}
    for file in kept:
        frames = np.concatenate([dataset.read(i).frames for i, e in enumerate(dataset.episodes) if e.file == file])
        assert 16 <= len(frames) < 40
        np.testing.assert_array_equal(frames, whole[: len(frames)])
    assert len(dataset.problems) == len(shares) - len(kept)
    assert len([note for note in dataset.notes if "is damaged after its first" in note]) == len(kept)
    assert all("cut" in p and "\n" not in p for p in dataset.problems)
    strict = ReadOptions(strict=True)
    (tmp_path / f"good{ending}").unlink()
    with pytest.raises(UserError, match="no readable recording"):
        Dataset.open(tmp_path, strict)


def test_an_mp4_with_its_table_first_is_seen_to_be_cut(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered_frames(60), container={"movflags": "faststart"})
    (tmp_path / "a.csv").write_text("\n".join(str(i % 3) for i in range(60)))
    whole = Dataset.open(path)
    everything = np.concatenate([whole.read(i).frames for i in range(len(whole.episodes))])
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    path.write_bytes(content[: len(content) * 3 // 4])
    cut = Dataset.open(path)
    frames = np.concatenate([cut.read(i).frames for i in range(len(cut.episodes))])
    actions = np.concatenate([cut.read(i).action for i in range(len(cut.episodes))])
    assert 20 < len(frames) < 60
    np.testing.assert_array_equal(frames, everything[: len(frames)])
    np.testing.assert_array_equal(actions, np.arange(len(frames)) % 3)
    with pytest.raises(UserError, match="truncated"):
        Dataset.open(path, ReadOptions(strict=True))


def test_sound_alone_is_no_video(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="no video stream"):
        Dataset.open(tmp_path)


def test_a_codec_nobody_knows_is_one_line(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered_frames(8))
    content = path.read_bytes()
    codec = next(c for c in (b"V_MPEG4/ISO/AVC", b"V_FFV1", b"V_MS/VFW/FOURCC", b"V_UNCOMPRESSED") if c in content)
    path.write_bytes(content.replace(codec, codec[:-1] + b"?"))
    with pytest.raises(UserError, match=r"a\.mkv names a video codec that is not known here"):
        Dataset.open(path)


@settings(max_examples=40, deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_noise_never_hangs_or_crashes(tmp_path, data):
    ending = data.draw(st.sampled_from(list(CODECS)))
    path = tmp_path / f"noise{ending}"
    good = write_video(tmp_path / f"good{ending}", numbered_frames(6, 32, 32)).read_bytes()
    (tmp_path / f"good{ending}").unlink()
    content = bytearray(good)
    if data.draw(st.booleans()):
        content = bytearray(data.draw(st.binary(max_size=200)))
    elif content:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        Dataset.open(path)
    except UserError as error:
        assert "\n" not in str(error)


def test_a_title_that_is_no_text_does_not_matter(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered_frames(8), title="A long title")
    path.write_bytes(path.read_bytes().replace(b"A long title", b"\xff\xfe\x80 long title"[:12]))
    assert read_numbers(whole(Dataset.open(path))[0]) == list(range(8))


def test_a_playlist_in_disguise_opens_nothing_else(tmp_path):
    write_video(tmp_path / "secret.mp4", numbered_frames(6))
    disguise = tmp_path / "list.gif"
    disguise.write_text("ffconcat version 1.0\nfile secret.mp4\n#;")
    with pytest.raises(UserError, match=r"list\.gif is truncated, corrupt or no \.gif"):
        Dataset.open(disguise)


def test_a_video_that_does_not_fit_the_cache_is_refused(tmp_path, cache):
    write_video(tmp_path / "a.mkv", numbered_frames(30))
    with pytest.raises(UserError, match=r"48x64.*choose a smaller --size"):
        Dataset.open(tmp_path, ReadOptions(max_gigabytes=1e-4))
    assert not list((cache / "episodes").glob("*"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tmp_path):
    """Decode 184 MB of frames, resampled on the way, in a process that may take 100 MB more than it has."""
    path = write_video(tmp_path / "a.mp4", np.repeat(numbered_frames(8, 240, 320), 100, axis=0), fps=50)
    code = (
        "import re, resource, sys\n"
        "from pathlib import Path\n"
        "from reelworld.data.dataset import Dataset, ReadOptions\n"
        "import av; av.open(sys.argv[1]).close()\n"
        "taken = int(re.search(r'VmData:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (taken + 100_000_000,) * 2)\n"
        "print(sum(e.n_frames for e in Dataset.open(sys.argv[1], ReadOptions(fps=49)).episodes))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == pytest.approx(784, abs=2)


def test_a_long_large_video_is_refused_before_it_is_decoded(real, monkeypatch):
    """Two minutes of 1080p are 23 GB."""
    monkeypatch.setattr(video, "_image", lambda *_: pytest.fail("a frame was decoded"))
    with pytest.raises(UserError, match=r"22\.9 GB or more at 1080x1920"):
        Dataset.open(real / "test_video.mp4")


def test_colours_follow_the_matrix_the_file_names(tmp_path):
    import av

    red = {"BT.601": (81, 90, 240), "BT.709": (63, 102, 240)}  # limited-range Y, Cb, Cr of pure red
    for (name, values), tag in zip(red.items(), (5, 1), strict=True):
        path = tmp_path / f"{name}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
            stream.options = {"crf": "0"}
            stream.codec_context.colorspace, stream.codec_context.color_range = tag, 1
            for _ in range(6):
                frame = av.VideoFrame.from_ndarray(
                    np.stack([np.full((64, 64), v, np.uint8) for v in values]), format="yuv444p"
                )
                frame.colorspace, frame.color_range = tag, 1
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        pixel = Dataset.open(path).read(0).frames[0, 32, 32].astype(int)
        assert np.abs(pixel - (255, 0, 0)).max() <= 4, name


def test_helpers_read_the_numbers_they_draw():
    frames = numbered_frames(200)
    assert read_numbers(frames) == list(range(200))
    assert all(not np.array_equal(a, b) for a, b in pairwise(frames))
