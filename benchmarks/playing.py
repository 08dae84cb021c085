"""How it is to play a world in this server: the delay of a key, many players at once, the start, encodings of frames.

    python benchmarks/playing.py src/reelworld/shipped/doorkey --out benchmarks/results/playing.json

The server is the one that ``reelworld play`` starts; the players live in another process, so that their work is not
measured with it, and share its two cores. A player acts again as soon as the frame of the last action is there.
Takes about three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import idle_state, keep_speed, speed_flags
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

from reelworld.serve.encodings import ENCODINGS

HEADER = struct.Struct("<4B3I3f")
CROWDS = (1, 4, 16, 64)
SIZES = (64, 128, 256)
WARM_UP = 2.0  # seconds that do not count
SERVER = """
import sys
from reelworld.cli.main import main
from reelworld.serve.config import Limits
Limits.__init__.__kwdefaults__.update(messages_per_second=1e9, burst=1e9)  # a player acts as fast as frames come
sys.exit(main())
"""


# ---------------------------------------------------------------- players, in a process of their own


class Player:
    """Acts at random, sees the pixels, and takes the time from one to the other."""

    def __init__(self, socket: ClientConnection, hello: dict[str, Any], seed: int) -> None:
        self.socket, self.hello, self.draw = socket, hello, np.random.default_rng(seed)
        self.id, self.image = 0, b""
        self.delays: list[float] = []
        self.changes: list[tuple[float, float]] = []  # of presses that changed a pixel: delay, the world's own step
        self.n_frames = 0

    @classmethod
    async def join(cls, address: str, seed: int) -> Player:
        socket = await connect(f"ws://{address}/api/play?encodings=raw,jpeg", compression=None)
        player = cls(socket, json.loads(await socket.recv()), seed)
        await player.frame()
        await player.say(type="pause", paused=False)
        return player

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def frame(self) -> tuple[int, bool, float]:
        """Read a frame: the newest action it shows, whether the episode is over, milliseconds of its step."""
        while isinstance(data := await self.socket.recv(), str):
            pass
        _, _, flags, _, sequence, _, shown, _, _, milliseconds = HEADER.unpack_from(data)
        await self.say(type="ack", sequence=sequence)
        self.image = data[HEADER.size :]
        self.n_frames += 1
        return shown, flags != 0, milliseconds

    async def press(self) -> None:
        """Take an action and wait for its frame."""
        self.id += 1
        before, start = self.image, time.perf_counter()
        await self.say(type="act", id=self.id, actions={k: self.action(v) for k, v in self.hello["actions"].items()})
        shown, has_ended = 0, False
        while shown < self.id and not has_ended:
            shown, has_ended, milliseconds = await self.frame()
        delay = 1000 * (time.perf_counter() - start)
        self.delays.append(delay)
        if self.image != before:
            self.changes.append((delay, milliseconds))
        if has_ended:
            await self.say(type="reset", id=self.id)

    def action(self, spec: dict[str, Any]) -> int | list[float]:
        if spec["kind"] == "discrete":
            return int(self.draw.integers(spec["n"]))
        low, high = spec["low"] or [-1.0] * spec["n"], spec["high"] or [1.0] * spec["n"]
        return [float(x) for x in self.draw.uniform(low, high)]


async def crowd(address: str, n: int, seconds: float, pause: float) -> None:
    """Let players play at the same time; tell the parent process when all have joined, and how it went."""
    players = [await Player.join(address, seed) for seed in range(n)]
    print(json.dumps({"joined": n}), flush=True)

    async def play(player: Player, until: float) -> None:
        while time.perf_counter() < until:
            await player.press()
            await asyncio.sleep(pause)

    for length in (WARM_UP, seconds):
        for player in players:
            player.delays, player.changes, player.n_frames = [], [], 0
        start = time.perf_counter()
        await asyncio.gather(*(play(player, start + length) for player in players))
        took = time.perf_counter() - start
    said = [{"frames": p.n_frames, "delays": p.delays, "changes": p.changes} for p in players]
    print(json.dumps({"seconds": took, "players": said}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # the memory of the server is measured while all are here


# ---------------------------------------------------------------- what is measured


@contextmanager
def serving(world: Path) -> Iterator[tuple[str, int]]:
    """Start the server; yields its address and its process."""
    words = [sys.executable, "-c", SERVER, "play", str(world), "--no-browser", "--port", "0"]
    process = subprocess.Popen([*words, "--players", str(max(CROWDS))], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://(\S+?)/", process.stdout.readline())
        assert found, "the server did not start"
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait()


def first_frame(world: Path) -> float:
    """Seconds from the command to the first frame."""
    start = time.perf_counter()
    with serving(world) as (address, _):

        async def look() -> float:
            await Player.join(address, 0)
            return time.perf_counter() - start

        return asyncio.run(look())


def resident(process: int) -> float:
    """Memory of a process, MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def played(address: str, process: int, n: int, seconds: float, pause: float = 0.0) -> dict[str, Any]:
    """Let n players play."""
    before = resident(process)
    words = [sys.executable, __file__, address, "--players", str(n), "--seconds", str(seconds), "--pause", str(pause)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None and crowd.stdin is not None
        assert json.loads(crowd.stdout.readline())["joined"] == n
        joined = resident(process)
        said = json.loads(crowd.stdout.readline())
        after = resident(process)
        crowd.stdin.write("\n")
        crowd.stdin.close()
    frames = [p["frames"] for p in said["players"]]
    return {
        "players": n,
        "seconds": said["seconds"],
        "frames_per_second": sum(frames) / said["seconds"],
        "delay_ms": spread([d for p in said["players"] for d in p["delays"]]),
        "least_share_of_fair": min(frames) / (sum(frames) / n),
        "mib_per_player_joined": (joined - before) / n,
        "mib_per_player_after": (after - before) / n,
        "changes": [c for p in said["players"] for c in p["changes"]],
    }


def key_to_pixel(address: str, process: int) -> dict[str, Any]:
    """One player at a person's pace: from sending a key to seeing a pixel change, beside the world's own step."""
    changes = played(address, process, 1, seconds=20.0, pause=0.03)["changes"]
    return {
        "presses_that_changed_a_pixel": len(changes),
        "delay_ms": spread([delay for delay, _ in changes]),
        "step_ms": spread([step for _, step in changes]),
        "over_step_ms": spread([delay - step for delay, step in changes]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95))}


def encodings() -> list[dict[str, Any]]:
    """Milliseconds and bytes of a frame, by encoding, size and kind of picture."""

    def webp(pixels: np.ndarray, **how: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", method=0, **how)
        return buffer.getvalue()

    ways = {encoding.name: encoding.encode for encoding in ENCODINGS}
    ways["webp 80"] = lambda pixels: webp(pixels, quality=80)
    ways["webp lossless"] = lambda pixels: webp(pixels, lossless=True, quality=0)
    rows = []
    for kind, size in ((kind, size) for kind in ("tiles", "smooth") for size in SIZES):
        pictures = [picture(kind, size, seed) for seed in range(30)]
        for name, encode in ways.items():
            times, sizes = [], []
            for pixels in [*pictures[:3], *pictures]:  # the first three warm up
                start = time.perf_counter()
                content = encode(pixels)
                times.append(1000 * (time.perf_counter() - start))
                sizes.append(len(content))
            row = {"picture": kind, "size": size, "encoding": name}
            rows.append(row | {"ms": statistics.median(times[3:]), "bytes": round(statistics.mean(sizes[3:]))})
    return rows


def picture(kind: str, size: int, seed: int) -> np.ndarray:
    """Coarse blocks of few colours, as in a grid world, or soft shapes with a little grain, as in a film."""
    draw = np.random.default_rng(seed)
    if kind == "tiles":
        colours = draw.integers(0, 256, (6, 3), dtype=np.uint8)
        return colours[draw.integers(0, 6, (8, 8))].repeat(size // 8, 0).repeat(size // 8, 1)
    rows, columns = np.mgrid[:size, :size] / size
    waves = [np.sin(6 * (a * rows + b * columns + c)) for a, b, c in draw.normal(size=(3, 3))]
    grain = draw.normal(0, 2, (size, size, 3))
    return (128 + 100 * np.stack(waves, -1) + grain).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = speed_flags(__doc__)
    parser.add_argument("world", help="folder of a world")
    parser.add_argument("--note", default="", help="kept with the result")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each number of players plays")
    parser.add_argument("--players", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pause", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.players:
        asyncio.run(crowd(arguments.world, arguments.players, arguments.seconds, arguments.pause))
        return
    state = idle_state(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    world = Path(arguments.world)
    starts = [first_frame(world) for _ in range(3)]
    with serving(world) as (address, process):
        key = key_to_pixel(address, process)
    crowds = []
    for n in CROWDS:  # a fresh server each, so that memory is that of this crowd
        with serving(world) as (address, process):
            crowds.append({k: v for k, v in played(address, process, n, arguments.seconds).items() if k != "changes"})
    keep_speed(
        "playing",
        arguments.out,
        state,
        note=arguments.note,
        seed=0,
        world=json.loads((world / "world.json").read_text(encoding="utf-8"))["name"],
        first_frame_seconds={"median": statistics.median(starts), "all": starts},
        key_to_pixel=key,
        crowds=crowds,
        encodings=encodings(),
    )


if __name__ == "__main__":
    main()
