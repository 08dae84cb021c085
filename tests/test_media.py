"""Written media are read back with PyAV, Pillow and numpy and compared with the input."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from reelworld import media
from reelworld.types import UserError


def moving_square(n_frames=12, size=32):
    frames = np.full((n_frames, size, size, 3), (30, 60, 90), np.uint8)
    for t in range(n_frames):
        frames[t, 8:16, t : t + 8] = (250, 200, 20)
    return frames


def read_gif(content):
    image = Image.open(io.BytesIO(content))
    frames, durations = [], []
    for t in range(image.n_frames):
        image.seek(t)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info["duration"])
    return np.stack(frames), durations


def test_mp4_plays_back_with_its_rate_and_almost_its_pixels():
    frames = media.enlarge(moving_square(), 4)
    with av.open(io.BytesIO(media.encode_mp4(frames, 12.5))) as container:
        assert float(container.streams.video[0].average_rate) == 12.5
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        back = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 3


def test_odd_sizes_are_padded_not_refused():
    frames = moving_square()[:, :31, :29]
    with av.open(io.BytesIO(media.encode_mp4(frames, 10))) as container:
        assert next(container.decode(video=0)).to_ndarray(format="rgb24").shape == (32, 30, 3)


def test_gif_is_exact_up_to_256_colours():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (200, 3), dtype=np.uint8)
    frames = colours[rng.integers(0, 200, (5, 16, 16))]
    back, durations = read_gif(media.encode_gif(frames, 20))
    np.testing.assert_array_equal(back, frames)
    assert durations == [50] * 5


def test_gif_with_many_colours_stays_close():
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[..., 0], frames[..., 1] = ramp[:, None], ramp
    frames[1:, ..., 2] = 77
    back, durations = read_gif(media.encode_gif(frames, 10))
    assert durations == [100, 200], "equal frames are joined and shown longer"
    assert np.abs(back.astype(int) - frames[:2]).mean() < 12


def test_npz_is_exact_and_carries_actions(tmp_path):
    frames = moving_square()
    media.write_media(tmp_path / "x.npz", frames, 10, {"actions": np.arange(12)})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as back:
        np.testing.assert_array_equal(back["frames"], frames)
        np.testing.assert_array_equal(back["actions"], np.arange(12))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_every_form_is_written_through_a_name(tmp_path, suffix):
    media.write_media(tmp_path / f"deep/x{suffix}", moving_square(), 10)
    assert (tmp_path / f"deep/x{suffix}").stat().st_size > 300
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_existing_files_and_unknown_endings_are_refused(tmp_path):
    kept = tmp_path / "kept.mp4"
    kept.write_bytes(b"mine")
    with pytest.raises(UserError, match="--force"):
        media.check_media_path(kept)
    media.check_media_path(kept, force=True)
    with pytest.raises(UserError, match="is a file, not a folder"):
        media.check_media_path(kept / "deeper" / "x.gif")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(UserError, match=r"folder\.gif is a folder"):
        media.check_media_path(tmp_path / "folder.gif", force=True)
    assert kept.read_bytes() == b"mine"
    with pytest.raises(UserError, match=r"\.mp4, \.gif, \.png, \.npz"):
        media.check_media_path(tmp_path / "x.avi")


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    path.write_bytes(b"old")

    def full(file, array, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(UserError, match="No space left"):
        media.write_media(path, moving_square(), 10)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_contact_sheet_places_every_frame():
    frames = np.stack([np.full((4, 6, 3), 10 * i, np.uint8) for i in range(5)])
    sheet = media.contact_sheet(frames, columns=3, scale=2, gap=1)
    assert sheet.shape == (2 * 9 + 1, 3 * 13 + 1, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        cell = sheet[1 + row * 9 : 9 + row * 9, 1 + column * 13 : 13 + column * 13]
        np.testing.assert_array_equal(cell, np.full((8, 12, 3), 10 * i))


def test_rows_of_a_contact_sheet_have_labels():
    frames = np.stack([np.full((4, 60, 3), 10 * i, np.uint8) for i in range(3)])
    sheet, strip = media.contact_sheet(frames, columns=2, gap=1, row_labels=["first", "second"]), 11 + 7
    assert sheet.shape == (1 + 2 * (strip + 5), 2 * 61 + 1, 3)
    for row in range(2):
        assert sheet[1 + row * (strip + 5) :][:strip].std() > 10, "the label must be visible"
    np.testing.assert_array_equal(sheet[1 + strip :][:4, 1:61], frames[0])


def test_side_by_side_keeps_pixels_and_holds_the_shorter_clip():
    long, short = moving_square(6), moving_square(4)[..., ::-1]
    panels = media.side_by_side({"true": long, "world": short}, scale=2, gap=6)
    strip = panels.shape[1] - 64
    assert panels.shape == (6, strip + 64, 64 + 6 + 64, 3)
    np.testing.assert_array_equal(panels[:, strip:, :64], media.enlarge(long, 2))
    np.testing.assert_array_equal(panels[5, strip:, 70:], media.enlarge(short, 2)[3])
    assert panels[0, :strip, :64].std() > 10, "the label must be visible"


def test_frames_of_a_wrong_kind_are_refused():
    with pytest.raises(ValueError, match="float64"):
        media.encode_mp4(np.zeros((2, 4, 4, 3)), 10)
