"""Make the pictures of README.md and docs/ from finished runs and kept results.

    make demo
    make demo-videogpt
    python benchmarks/pictures.py --demo runs/demo --smooth runs/carracing --futures runs/demo-videogpt
    python benchmarks/pictures.py --only robots --robots runs/robots      (after robot_worlds.py)
    python benchmarks/pictures.py --only charts                           (kept results alone)

Writes docs/images/*.gif (recording beside world under the same actions, the longest of the first test episodes;
several futures of one start), charts of kept results as SVG and, where Chromium is installed, screenshots of the play
page and of the report.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from reelworld.charts import line_chart
from reelworld.evaluate.protocol import open_for, read_episode
from reelworld.media import encode_gif, side_by_side, write_file
from reelworld.worlds.world import World

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
RESULTS = Path(__file__).parent / "results"
STYLE = """
  svg { --ink: #1f2328; --soft: #59636e; --grid: #d1d9e0; --first: #0969da; --second: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #f0f6fc; --soft: #9198a1; --grid: #3d444d; --first: #58a6ff; --second: #f0883e; }
  }
  text { font: 12px system-ui, sans-serif; fill: var(--soft); }
  .grid { stroke: var(--grid); } .band { fill: var(--first); opacity: 0.18; }
  .line { fill: none; stroke-width: 2; } .line.k0, .key.k0 { stroke: var(--first); } .dot.k0 { fill: var(--first); }
  .line.k1, .key.k1 { stroke: var(--second); } .dot.k1 { fill: var(--second); }
  .line.k2, .key.k2, .line.k3, .key.k3 { stroke: var(--ink); } .k2 { stroke-dasharray: 6 4; }
  .k3 { stroke-dasharray: 2 4; } .dot.k2, .dot.k3 { fill: var(--ink); }
"""
KEYS = ["ArrowUp", "ArrowRight", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowUp"]


def film(world: World, data: Path, n_steps: int, scale: int, first: int = 0) -> np.ndarray:
    """Let the world continue the longest of the first episodes under its recorded actions."""
    dataset = open_for(world, data)
    episode = max(range(min(10, len(dataset.episodes))), key=lambda i: dataset.episodes[i].n_frames)
    clip = read_episode(world, dataset, episode, first)
    k = world.spec.context[1]
    n_steps = min(n_steps, len(clip.frames) - k)
    made = world.generate(
        clip.frames[None, :k],
        {name: stream[None, : k - 1] for name, stream in clip.actions.items()},
        {name: stream[None, k - 1 : k - 1 + n_steps] for name, stream in clip.actions.items()},
        seed=0,
    )[0]
    return side_by_side({"recording": clip.frames[k : k + n_steps], "world": made}, scale)


def play_some_keys(page: Page) -> None:
    """Let the page show a game under way."""
    page.wait_for_timeout(1500)
    for key in KEYS:
        page.keyboard.press(key)
        page.wait_for_timeout(250)


def screenshots(demo: Path) -> None:
    """Photograph the play page and the report."""
    command = [sys.executable, "-m", "reelworld", "play", str(demo / "world"), "--no-browser", "--port", "8431"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(m[0] for line in server.stdout if (m := re.search(r"http://\S+", line)))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            for name, size in (("play.png", (1100, 760)), ("play-phone.png", (390, 780))):
                page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="dark")
                page.goto(address)
                play_some_keys(page)
                page.screenshot(path=IMAGES / name)
            page = browser.new_page(viewport={"width": 1100, "height": 1250}, color_scheme="light")
            page.goto((demo / "report.html").resolve().as_uri())
            page.wait_for_timeout(1500)
            page.screenshot(path=IMAGES / "report.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def films(demo: Path, smooth_run: Path, futures: Path) -> None:
    """Make the moving pictures."""
    tiles = World.load(demo / "world")
    write_file(IMAGES / "doorkey.gif", encode_gif(film(tiles, demo / "test-recording", 80, 4), 8))
    smooth = World.load(smooth_run / "run")
    # All tracks begin alike, so the film begins where they do not.
    drive = film(smooth, smooth_run / "test-recording", 48, 3, first=100)
    write_file(IMAGES / "carracing.gif", encode_gif(drive, 12))
    # of the report's four, the second from the top end of what the mean gains
    write_file(IMAGES / "videogpt-doorkey.gif", (futures / "videos" / "futures_2.gif").read_bytes())


def robots(folder: Path) -> None:
    """Make the moving pictures of recorded robots, of the first seed's worlds."""
    arm_steps = 16  # an arm is foreseen for a second or two
    for name, n_steps in (("cartpole.gif", 48), ("reacher.gif", arm_steps)):
        robot = folder / Path(name).stem
        world = World.load(robot / "world-0")
        made = film(world, robot / "test-recording", n_steps, 4)
        write_file(IMAGES / name, encode_gif(made, round(world.spec.fps)))


def standalone(chart: str, names: list[str]) -> bytes:
    """Turn an inline chart into an SVG file: its own style for light and dark, the legend in the drawing."""
    svg = chart[chart.index("<svg") :]
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    legend = "".join(
        f'<line class="line key k{i}" x1="{60 + 160 * i}" x2="{84 + 160 * i}" y1="-12" y2="-12"/>'
        f'<text x="{90 + 160 * i}" y="-8">{name}</text>'
        for i, name in enumerate(names)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -30 {width} {height + 30}" width="{width}"'
    inside = svg[svg.index(">") + 1 :]
    return f"{head}><style>{STYLE}</style>{legend}{inside}\n".encode()


def charts() -> None:
    """Draw charts of kept results: returns of clones of a video by the number of labelled steps."""
    rows = json.loads((RESULTS / "clone-from-video.json").read_text(encoding="utf-8"))["results"]
    all_steps = max(row["labels"] for row in rows)
    watched, alone = (
        [row for row in rows if row["who"] == who and row["labels"] < all_steps] for who in ("video", "labels")
    )
    by_chance = next(row["return"] for row in rows if row["who"] == "random")
    series = {
        "video and labels": [row["return"] for row in watched],
        "labels alone": [row["return"] for row in alone],
        "random actions": [by_chance] * len(watched),
    }
    chart = line_chart(
        [row["labels"] for row in watched],
        series,
        x_label="labelled steps",
        y_label="return",
        low=[row["low"] for row in watched],
        high=[row["high"] for row in watched],
        even_x=True,
        width=720,
    )
    (IMAGES / "clone-from-video.svg").write_bytes(standalone(chart, list(series)))


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--smooth", type=Path, default=Path("runs/carracing"))
    parser.add_argument("--futures", type=Path, default=Path("runs/demo-videogpt"))
    parser.add_argument("--robots", type=Path, default=Path("runs/robots"))
    parser.add_argument("--only", choices=["charts", "films", "screenshots", "robots"], help="make these only")
    args = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    if args.only in (None, "charts"):
        charts()
    if args.only in (None, "robots"):
        robots(args.robots)
    if args.only in (None, "films"):
        films(args.demo, args.smooth, args.futures)
    if args.only in (None, "screenshots") and Path(CHROMIUM).exists():
        screenshots(args.demo)


if __name__ == "__main__":
    main()
