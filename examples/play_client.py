"""Client without a browser: takes random actions in a served world and measures the latency.

    reelworld play runs/demo/world --no-browser        (in another terminal)
    python examples/play_client.py ws://127.0.0.1:8000/api/play --steps 50 --out last.png

It needs only the package websockets; docs/protocol.md specifies the protocol.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import struct
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROTOCOL = 4
RAW = 2  # encoding of an image: its pixels; the others are files
HEADER = struct.Struct("<4B3I3f")  # version, encoding, flags, pending; sequence, step, input; reward, total, ms


def main() -> None:
    """Play for a while and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="ws://HOST:PORT/api/play, with ?token=... where the server printed one")
    parser.add_argument("--steps", type=int, default=50, help="actions to take")
    parser.add_argument("--seed", type=int, default=0, help="of the random actions")
    parser.add_argument("--encodings", default="", help="encodings of frames besides PNG, e.g. raw,jpeg")
    parser.add_argument("--out", type=Path, help="file for the last frame: PNG, or the received encoding (raw as PPM)")
    options = parser.parse_args()
    with connect(f"{options.address}{'&' if '?' in options.address else '?'}encodings={options.encodings}") as socket:
        hello = json.loads(socket.recv())
        if hello["protocol"] != PROTOCOL:
            raise SystemExit(f"the server speaks version {hello['protocol']}, this client {PROTOCOL}")
        print(f"{hello['name']}, {hello['width']}x{hello['height']}")
        play(socket, hello, options)


def play(socket: ClientConnection, hello: dict[str, Any], options: argparse.Namespace) -> None:
    """Take actions, each after the frame of the one before."""
    draw, delays, total, image = random.Random(options.seed), [], 0.0, b""
    if not hello["turn_based"]:
        socket.send(json.dumps({"type": "pause", "paused": False}))
    for number in range(1, options.steps + 1):
        start = time.perf_counter()
        actions = {name: action(spec, draw) for name, spec in hello["actions"].items()}
        socket.send(json.dumps({"type": "act", "id": number, "actions": actions}))
        shown, has_ended = 0, False
        while shown < number and not has_ended:
            shown, has_ended, total, image = next_frame(socket)
        delays.append(1000 * (time.perf_counter() - start))
        if has_ended:
            socket.send(json.dumps({"type": "reset", "id": number}))
    p50, p95 = statistics.median(delays), sorted(delays)[int(0.95 * (len(delays) - 1))]
    print(f"{len(delays)} actions, reward {total:.2f}, action to frame {p50:.1f} ms (p95 {p95:.1f} ms)")
    if options.out:
        options.out.write_bytes(image)


def action(spec: dict[str, Any], draw: random.Random) -> int | list[float]:
    """Draw an action of a stream."""
    if spec["kind"] == "discrete":
        return draw.randrange(spec["n"])
    low, high = spec["low"] or [-1.0] * spec["n"], spec["high"] or [1.0] * spec["n"]
    return [draw.uniform(a, b) for a, b in zip(low, high, strict=True)]


def next_frame(socket: ClientConnection) -> tuple[int, bool, float, bytes]:
    """Read and acknowledge a frame: the newest action it shows, whether the episode is over, the rewards, its image."""
    while isinstance(data := socket.recv(), str):
        pass  # other messages
    _, encoding, flags, _, sequence, _, shown, _, total, _ = HEADER.unpack_from(data)
    socket.send(json.dumps({"type": "ack", "sequence": sequence}))
    image = data[HEADER.size :]
    if encoding == RAW:
        image = b"P6 %d %d 255\n" % struct.unpack_from("<2H", image) + image[4:]
    return shown, flags != 0, total, image


if __name__ == "__main__":
    main()
