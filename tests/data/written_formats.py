"""Recordings in the formats of other projects, small ones of a moving square, written as these projects write them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.data.drawn_videos import write_video
from tests.data.moving_square import episode

from reelworld.data.formats.csgo import KEYS, MOUSE_X, MOUSE_Y

N, FPS = 24, 10
"""Frames of an episode, and per second."""
CODES = {0: 65, 2: 68}
"""Action -> Windows key code of A and D."""


def vectors(ids: np.ndarray) -> np.ndarray:
    """Return continuous actions (T, 2) that say the same as ids."""
    return np.stack([ids - 1.0, ids * 0.5], 1).astype(np.float32)


def from_vectors(actions: np.ndarray) -> np.ndarray:
    return np.round(actions[:, 0]).astype(int) + 1


def marks(*rows: int) -> np.ndarray:
    marked = np.zeros(N, bool)
    marked[list(rows)] = True
    return marked


def jpeg_bytes(frame: np.ndarray) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=95)
    return np.frombuffer(out.getvalue(), np.uint8)


def laid_out(path: Path, seeds: range, **more: np.ndarray) -> None:
    """Write episodes as OGBench does."""
    parts = [episode(seed) for seed in seeds]
    np.savez_compressed(
        path,
        observations=np.concatenate([f for f, _ in parts]),
        actions=np.concatenate([vectors(a) for _, a in parts]),
        terminals=np.tile(marks(N - 1), len(parts)),
        **more,
    )


def laid_out_hdf5(path: Path, seeds: range) -> None:
    """Write episodes as D4RL does."""
    laid_out(path.with_suffix(".npz"), seeds)
    with np.load(path.with_suffix(".npz")) as arrays, h5py.File(path, "w") as file:
        for name in arrays.files:
            file.create_dataset(name, data=arrays[name], compression="gzip")
        file["infos/qpos"] = np.zeros(3)
    path.with_suffix(".npz").unlink()


def replay(path: Path, seed: int, *, is_version_2: bool, ends: bool = True, discrete: bool = True) -> None:
    """Write one episode as the drivers of DreamerV3 (the action follows its picture) or DreamerV2 (precedes it) do."""
    frames, ids = episode(seed)
    actions = np.eye(3, dtype=np.float32)[ids] if discrete else vectors(ids)
    if is_version_2:
        actions = np.concatenate([np.zeros_like(actions[:1]), actions[:-1]])
    else:
        actions[-1] = 0
    np.savez_compressed(
        path,
        image=frames,
        action=actions,
        reward=np.arange(N, dtype=np.float32),  # arrives with its picture
        is_first=marks(0),
        is_last=marks(N - 1),
        is_terminal=marks(N - 1) if ends else marks(),
    )


def pictures(folder: Path, seed: int, names: str = "{:06d}.png", actions: bool = True) -> None:
    frames, ids = episode(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / names.format(t + 1))
    if actions:
        np.savetxt(folder / "actions.csv", ids, fmt="%d")


def robomimic(path: Path, n: int = 6, cameras: tuple[str, ...] = ("agentview_image",), **storage: object) -> None:
    with h5py.File(path, "w") as file:
        for i in range(n):
            frames, ids = episode(i)
            demo = file.create_group(f"data/demo_{i}")
            for k, camera in enumerate(cameras):
                demo.create_dataset(f"obs/{camera}", data=np.roll(frames, 5 * k, 1), **storage)
            demo["obs/robot0_eef_pos"] = np.zeros((N, 3))
            demo["actions"], demo["rewards"], demo["dones"] = vectors(ids), np.arange(N) / 7, marks(N - 1)
            demo.attrs["num_samples"] = N


def write_minari(folder: Path, n: int = 5, *, is_dict: bool = False, jpeg: bool = False) -> None:
    """Write episodes with Minari's own writer; its place for data sets must be ``folder``."""
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box, Dict, Discrete
    from minari.data_collector import EpisodeBuffer

    image = Box(0, 255, (48, 48, 3), np.uint8)
    buffers = []
    for seed in range(n):
        frames, ids = episode(seed)
        seen = {"place": np.zeros((N, 2), np.float32), "image": frames} if is_dict else frames
        buffers.append(
            EpisodeBuffer(
                id=seed,
                seed=seed,
                observations=seen,
                actions=ids[:-1],
                rewards=list(np.arange(N - 1) / 7),
                terminations=list(marks(N - 2)[:-1]),
                truncations=list(marks()[:-1]),
                infos={},
            )
        )
    minari.create_dataset_from_buffers(
        "square/toy-v0",
        buffer=buffers,
        observation_space=Dict({"place": Box(-1, 1, (2,), np.float32), "image": image}) if is_dict else image,
        action_space=Discrete(4),
        jpeg_encoding=jpeg,
    )
    assert (folder / "square" / "toy-v0").is_dir()


def aloha(path: Path, seed: int, *, encoded: bool = False) -> None:
    """Write one episode of two cameras."""
    frames, ids = episode(seed)
    with h5py.File(path, "w") as file:
        file.attrs["compress"] = encoded
        for k, camera in enumerate(("left_wrist", "top")):
            seen = np.roll(frames, 20 * (1 - k), 1)
            if encoded:
                rows = [jpeg_bytes(frame) for frame in seen]
                longest = max(map(len, rows))
                seen = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
            file[f"observations/images/{camera}"] = seen
        file["observations/qpos"] = np.zeros((N, 14))
        file["action"] = np.pad(vectors(ids), ((0, 0), (0, 12)))


def stable_worldmodel(path: Path, lengths: list[int], *, leads_to_frame: bool = False) -> None:
    """Write episodes of these lengths; the last action of each, or the first, is NaN."""
    parts = [episode(seed, n) for seed, n in enumerate(lengths)]
    actions = [vectors(ids) for _, ids in parts]
    for k, rows in enumerate(actions):
        rows[-1] = np.nan
        actions[k] = np.roll(rows, 1, axis=0) if leads_to_frame else rows
    with h5py.File(path, "w") as file:
        file["pixels"], file["action"] = np.concatenate([f for f, _ in parts]), np.concatenate(actions)
        file["ep_len"], file["ep_offset"] = np.array(lengths), np.cumsum([0, *lengths[:-1]])
        file["reward"] = np.zeros(sum(lengths))


def counter_strike(path: Path, seed: int) -> np.ndarray:
    """Write one match; return the movements of its mouse (T, 2)."""
    frames, ids = episode(seed)
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, len(MOUSE_X), N), rng.integers(0, len(MOUSE_Y), N)
    with h5py.File(path, "w") as file:
        for t in range(N):
            keys = np.zeros(len(KEYS))
            keys[KEYS.index("a")], keys[KEYS.index("d")] = ids[t] == 0, ids[t] == 2
            keys[KEYS.index("mouse-left")] = t % 5 == 0
            file[f"frame_{t}_x"] = frames[t, ..., ::-1]  # BGR, as OpenCV captures the screen
            file[f"frame_{t}_y"] = np.concatenate([keys, np.eye(len(MOUSE_X))[x[t]], np.eye(len(MOUSE_Y))[y[t]]])
            file[f"frame_{t}_xaux"], file[f"frame_{t}_helperarr"] = np.zeros(54), np.zeros(2)
    return np.stack([MOUSE_X[x], MOUSE_Y[y]], 1)


def film(path: Path, seed: int, n: int = N) -> np.ndarray:
    """Write the video of an episode and return its ids."""
    frames, ids = episode(seed, n)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, FPS)
    return ids


def owl(
    folder: Path, seed: int, *, zero: float = 1_700_000_000.0, extra: tuple[str, ...] = (), end: str = ""
) -> np.ndarray:
    """Write a session: a key is down between the frames that it moves, or only tapped in between."""
    ids, zero = film(folder / "video.mp4", seed), 1_700_000_000.0
    events = [(zero - 0.5, "KEYBOARD", [87, True]), (zero - 0.4, "KEYBOARD", [87, False]), (zero, "START", [])]
    for t, action in enumerate(ids.tolist()):
        if action in CODES:
            down, up = (0.0, 0.1) if t % 3 == 0 else (0.02, 0.07)
            events += [(zero + t / FPS + down, "KEYBOARD", [CODES[action], True])]
            events += [(zero + t / FPS + up - (0.001 if t % 2 else 0), "KEYBOARD", [CODES[action], False])]
        events += [(zero + t / FPS + s, "MOUSE_MOVE", [action - 1, 2]) for s in (0.01, 0.04, 0.09)]
    lines = [f'{time:.6f},{kind},"{json.dumps(args)}"' for time, kind, args in events]
    text = "\n".join(["timestamp,event_type,event_args", *lines, *extra]) + "\n" + end
    (folder / "inputs.csv").write_text(text)
    (folder / "metadata.json").write_text('{"game_exe": "x.exe"}')
    return ids


def vpt(path: Path, seed: int, n_steps: int = N) -> None:
    film(path.with_suffix(".mp4"), seed)
    ids = episode(seed)[1].tolist() + [1] * N
    steps = [
        {
            "mouse": {"dx": a - 1.0, "dy": 0.5, "buttons": [0] if t < 3 else [], "newButtons": [0] if t == 0 else []},
            "keyboard": {"keys": {0: ["key.keyboard.a"], 1: [], 2: ["key.keyboard.d", "key.keyboard.w"]}[a]},
            "hotbar": int(t >= 5),
            "tick": t,
        }
        for t, a in enumerate(ids[:n_steps])
    ]
    path.write_text("\n".join(map(json.dumps, steps)))


def owamcap(path: Path, seed: int, *, raw: bool = True) -> np.ndarray:
    """Write a recording with the library of OWAMcap, with the messages of its documentation; return the ids."""
    highlevel = pytest.importorskip("mcap_owa.highlevel")
    from owa.core.message import OWAMessage

    class ScreenCaptured(OWAMessage):
        _type = "desktop/ScreenCaptured"
        utc_ns: int
        media_ref: dict[str, object]

    class KeyboardEvent(OWAMessage):
        _type = "desktop/KeyboardEvent"
        event_type: str
        vk: int
        timestamp: int | None = None

    class RawMouseEvent(OWAMessage):
        _type = "desktop/RawMouseEvent"
        last_x: int
        last_y: int
        us_flags: int = 0
        button_flags: int = 0

    class MouseEvent(OWAMessage):
        _type = "desktop/MouseEvent"
        event_type: str
        x: int
        y: int

    ids = film(path.with_suffix(".mkv"), seed)
    start, step = 1_700_000_000_000_000_000, 1_000_000_000 // FPS
    messages: list[tuple[int, str, OWAMessage]] = []
    x = 100
    for t, action in enumerate(ids.tolist()):
        moment = start + t * step
        place = {"uri": path.with_suffix(".mkv").name, "pts_ns": t * step}
        messages.append((moment, "screen", ScreenCaptured(utc_ns=moment, media_ref=place)))
        if action in CODES:
            for share, kind in ((0.2, "press"), (0.7, "release")):
                at = moment + int(share * step)
                messages.append((at, "keyboard", KeyboardEvent(event_type=kind, vk=CODES[action], timestamp=at)))
        for share in (0.1, 0.5, 0.9):
            at = moment + int(share * step)
            if raw:
                messages.append((at, "mouse/raw", RawMouseEvent(last_x=action - 1, last_y=2)))
            x += action - 1
            messages.append((at, "mouse", MouseEvent(event_type="move", x=x, y=50)))
    with highlevel.OWAMcapWriter(path) as writer:
        for moment, topic, message in sorted(messages, key=lambda m: m[0]):
            writer.write_message(message, topic=topic, timestamp=moment)
    return ids
