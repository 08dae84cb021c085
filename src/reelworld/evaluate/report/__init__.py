"""The report: one HTML file that opens without a server and asks nothing of the network.

Numbers come from the results as they are kept (JSON), so a report can be rendered again from results.json;
only the videos need the rollouts themselves.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from importlib import resources
from typing import Any

from reelworld.charts import WIDE, WIDTH, line_chart

__all__ = ["beside_text", "headlines", "interval_text", "protocol_text", "render_report", "value_text"]

PUBLISHED_HEADLINES = ("best_psnr", "best_ssim", "best_lpips", "fvd_published")
"""Come before all others where the published protocol was asked for."""
HEADLINES = (
    "tokenizer_tiles_right",
    "one_step_frames_exact",
    "events_exact",
    "free_run_frames_exact",
    "carried_key_works",
    "tokenizer_psnr",
    "gain_h1",
    "gain_h4",
    "delta_shuffled_h4",
    "free_run_motion",
    "following",
    "drift_within",
)
"""The first six of these that were measured are shown large."""
OPEN_HEADLINES = (
    "nats_per_code",
    "nats_over_best",
    "gain_mean_h4",
    "agent_h4",
    "gain_agent_h4",
    "fvd",
    "tokenizer_tiles_right",
    "tokenizer_psnr",
    "free_run_motion",
)
"""The same for worlds from which several futures are drawn."""
N_HEADLINES = 6

Json = Mapping[str, Any]


def render_report(
    results: Json,
    videos: Sequence[tuple[str, bytes]] = (),
    training: Sequence[Json] = (),
    futures: Sequence[tuple[str, bytes]] = (),
) -> str:
    """Render the page.

    Args:
        results: As ``results.describe`` makes them.
        videos: (caption, mp4) pairs: recording, world and difference side by side.
        training: Points of the run's log, as ``results.read_training_log`` gives them.
        futures: (caption, mp4) pairs: several futures of one start.
    """
    world, data = results["world"], results["data"]
    values = {
        "title": escape(world["name"]),
        "protocol": escape(protocol_text(results)),
        "subtitle": _subtitle(world),
        "badges": "".join(_badges(data)),
        "cards": "".join(map(_card, headlines(results))),
        "videos": _futures(futures) + _videos(videos, is_open=not world.get("n_actions", 1)),
        "sections": "".join(map(_section, results["sections"])),
        "training": _training(training),
        "facts": "".join(f"<dt>{escape(k)}</dt><dd>{v}</dd>" for k, v in _facts(results)),
        "clips": escape(", ".join(data["clips"])),
        "css": _asset("page.css"),
        "js": _asset("page.js"),
    }
    page = _asset("page.html")
    for name, value in values.items():
        page = page.replace("{{" + name + "}}", value)
    return page


def headlines(results: Json) -> list[Json]:
    """Choose the few figures that say most about this kind of world."""
    figures = {f["name"]: f for section in results["sections"] for f in section["figures"]}
    is_open = any(section["name"] == "samples" for section in results["sections"])
    names = (*PUBLISHED_HEADLINES, *(OPEN_HEADLINES if is_open else HEADLINES))
    is_tiled = "tokenizer_tiles_right" in figures  # elsewhere no predicted frame is right to the last pixel
    shown = (name for name in names if name in figures and (is_tiled or not name.endswith("frames_exact")))
    return [figures[name] for name in shown][:N_HEADLINES]


def protocol_text(results: Json) -> str:
    """Say on how much predicted clips were judged, and how; empty for results from before that was kept."""
    for section in results["sections"]:
        if section["name"] == "closeness":
            n_clips = max(figure["n_clips"] for figure in section["figures"])
            n_samples = results["data"]["n_samples"]
            samples = f"{n_samples} sample{'' if n_samples == 1 else 's'}"
            return f"{n_clips} clips x {samples}, {results['config']['protocol']} protocol"
    return ""


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8").rstrip("\n")


def _subtitle(world: Json) -> str:
    fps = f", {world['fps']:g} frames/s" if world["fps"] else ""
    size = sum(world["parameters"].values())
    return (
        f"recipe {escape(world['recipe'])}, {world['height']}x{world['width']} pixels{fps}, "
        f"{size / 1e6:.2f} million weights"
    )


def _badges(data: Json) -> Iterator[str]:
    if data["n_trained_on"]:
        text = f"{data['n_trained_on']} of these clips were trained on: this shows memory, not skill"
        yield f'<span class="badge warn">{text}</span>'
    else:
        n = data["n_clips_total"]
        clips = f"{n} fresh episodes" if data["split"] == "all" else f"{n} clips of the {escape(data['split'])} split"
        yield f'<span class="badge good">{clips}, none of them trained on</span>'
    if data["env_id"]:
        yield f'<span class="badge">{escape(data["env_id"])}</span>'
    if data["is_tiled"]:
        yield f'<span class="badge">drawn from {data["n_tiles"]} tiles of 8x8 pixels</span>'
    if data["problems"]:
        yield f'<span class="badge warn">{len(data["problems"])} files could not be read</span>'


def _facts(results: Json) -> Iterator[tuple[str, str]]:
    data, hardware, config = results["data"], results["hardware"], results["config"]
    part = "all" if data["split"] == "all" else f"the {escape(data['split'])} split"
    yield "Data", f"{data['n_clips_total']} clips from {part} of {escape(data['name'])}"
    yield "Seed", str(config["seed"])
    sampler = results["world"]["sampler"]
    yield "Sampling", escape(", ".join(f"{k.replace('_', ' ')} {v}" for k, v in sampler.items()))
    yield "Context", f"{results['world']['context_frames']} true frames before each prediction"
    yield "Measured", f"{escape(results['created'])}, in {results['seconds']:g} s"
    yield (
        "Machine",
        escape(f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, torch {hardware['torch']}"),
    )
    yield "Version", escape(f"reelworld {hardware['reelworld']} {results['commit']}".strip())
    yield "Command", f"<code>{escape(results['command'])}</code>"


def _number(value: Any) -> float:
    """Undo ``results.plain``: "inf" and null are numbers again."""
    return math.nan if value is None else float(value)


def _show(value: Any, unit: str, is_gain: bool = False) -> str:
    """Write a value for people: 99.85%, +1.8 dB, 0.00089 nats; what is not zero never reads as zero."""
    number = _number(value)
    if math.isnan(number):
        return "not known"
    if unit == "dB":
        if math.isinf(number):
            return "&infin; dB" if number > 0 else "&minus;&infin; dB"
        return _decimals(number, 1, "+" if is_gain else "").replace("-", "&minus;") + " dB"
    if unit == "share":
        percent = 100 * number
        distance = min(abs(percent), abs(100 - percent))
        if distance < 1e-9:
            return f"{percent:.0f}%"
        return f"{percent:.{max(2, math.ceil(-math.log10(distance))) if distance < 1 else 1}f}%"
    if unit == "codes":
        return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
    if unit == "points":
        return f"{_decimals(100 * number, 1, '+')} points".replace("-", "&minus;")
    if unit == "distance":
        return f"{number:,.1f}" if abs(number) >= 1 else _decimals(number, 2)
    if unit == "nats":
        return (
            f"{number:,.0f} nats"
            if number >= 100
            else f"{_decimals(number, 2)} nats".replace("-", "&minus;", number < 0)
        )
    distance = abs(1 - number)  # of a similarity: what is not quite perfect must not read as perfect
    return _decimals(number, max(3, math.ceil(-math.log10(distance))) if 1e-9 < distance < 1e-3 else 3)


def _decimals(number: float, digits: int, sign: str = "") -> str:
    """Write a number with so many decimals, or as many more as two significant digits take."""
    size = abs(number)
    if 0 < size < 1e-6:
        return f"{number:{sign}.1e}"
    if 0 < size < 10.0**-digits:
        digits = 1 - math.floor(math.log10(size))
    return f"{number:{sign}.{digits}f}"


def value_text(figure: Json, key: str = "value") -> str:
    """Write a figure's value, or one end of its interval, for people (HTML entities included)."""
    if not figure.get("n", 1):
        return "not measured"
    return _show(figure[key], figure["unit"], figure["name"].startswith(("gain", "delta")))


def interval_text(figure: Json) -> str:
    """Write a figure's 95% interval for people."""
    if not figure.get("n", 1):
        return ""
    if math.isnan(_number(figure["low"])):
        return "no interval"
    low, high = value_text(figure, "low"), value_text(figure, "high")
    unit = f" {figure['unit']}"
    return f"{low.removesuffix(unit)} to {high}"


def beside_text(figure: Json) -> list[str]:
    """Write what stands beside a figure for people, one text each."""
    return [f"{escape(name)}: {_show(value, figure['unit'])}" for name, value in figure["baselines"].items()]


def _card(figure: Json) -> str:
    beside = "".join(f'<p class="beside">{text}</p>' for text in beside_text(figure))
    n = f"n = {figure['n']:,} {escape(figure['trials'])}"
    return (
        f'<article class="card"><h3>{escape(figure["label"])}</h3>'
        f'<div class="value">{value_text(figure)}</div>'
        f'<div class="range">95%: {interval_text(figure)}, {n}</div>'
        f'{_gauge(figure)}{beside}<p class="why">{escape(figure["explanation"])}</p></article>'
    )


def _gauge(figure: Json) -> str:
    """Draw a share as a bar from 0 to 100% with its interval and the baselines."""
    if figure["unit"] != "share":
        return ""
    value, low, high = (100 * _number(figure[k]) for k in ("value", "low", "high"))
    marks = "".join(
        f'<i class="tick" style="left:{100 * _number(v):.2f}%" title="{escape(k)}"></i>'
        for k, v in figure["baselines"].items()
    )
    span = "" if math.isnan(low) else f'<i class="span" style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
    return f'<div class="gauge"><i class="fill" style="width:{value:.2f}%"></i>{span}{marks}</div>'


def _futures(videos: Sequence[tuple[str, bytes]]) -> str:
    if not videos:
        return ""
    return (
        '<section id="futures"><h2>What might happen</h2><p class="about">From the same first frames: what was '
        "recorded, the per-pixel mean of all drawn futures, and four of them. Where samples disagree the mean is "
        "blurred. The starts range from the one where the mean gains least over standing still to the one where it "
        f"gains most.</p>{_movies(videos)}</section>"
    )


def _videos(videos: Sequence[tuple[str, bytes]], is_open: bool) -> str:
    if not videos:
        return ""
    about = (
        "Left what was recorded, in the middle what the world makes of the same first frames and the same actions, "
        "right where they differ (black: not at all)."
    )
    if is_open:
        about = (
            "Left what was recorded, right one run of the world from the same first frames. Nobody tells it what will "
            "be done, so it goes its own way: look at whether it stays a picture of this game."
        )
    return (
        f'<section id="look"><h2>See for yourself</h2><p class="about">{about} The clips range from the worst of the '
        f"longest ones to the best.</p>{_movies(videos)}</section>"
    )


def _movies(videos: Sequence[tuple[str, bytes]]) -> str:
    movies = "".join(
        '<figure class="movie"><video muted loop autoplay playsinline '
        f'src="data:video/mp4;base64,{base64.b64encode(content).decode()}"></video>'
        f'<figcaption><span>{escape(caption)}</span><button type="button" class="small">pause</button></figcaption>'
        "</figure>"
        for caption, content in videos
    )
    return f'<div class="movies">{movies}</div>'


def _section(section: Json) -> str:
    plots = _plots([_chart(curve) for curve in section["curves"]])
    by_horizon = [f for f in section["figures"] if re.fullmatch(r".+_h\d+", f["name"])]
    matrix = _matrix(by_horizon) if len({f["name"].rpartition("_h")[2] for f in by_horizon}) > 1 else ""
    single = [f for f in section["figures"] if not (matrix and f in by_horizon)]
    rows = "".join(map(_row, single))
    table = (
        '<div class="table"><table><thead><tr><th>What</th><th class="number">World (95% interval)</th>'
        f'<th>Beside it</th><th class="number">Measured on</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return (
        f'<section id="{escape(section["name"])}"><h2>{escape(section["label"])}</h2>'
        f'<p class="about">{escape(section["explanation"])}</p>{plots}{matrix}{table if rows else ""}</section>'
    )


def _plots(charts: Sequence[tuple[str, Callable[..., str]]]) -> str:
    """Lay out charts, given as title and drawing function, two to a row; a last one alone fills its row."""
    figures = ""
    for i, (title, draw) in enumerate(charts):
        drawn = f'<div class="narrow">{draw(width=WIDTH)}</div>'
        is_alone = i % 2 == 0 and i == len(charts) - 1
        if is_alone:
            drawn += f'<div class="wide">{draw(width=WIDE)}</div>'
        figures += f'<figure class="plot{" alone" if is_alone else ""}"><h3>{escape(title)}</h3>{drawn}</figure>'
    return f'<div class="plots">{figures}</div>' if charts else ""


def _chart(curve: Json) -> tuple[str, Callable[..., str]]:
    is_horizon = curve["x_label"] == "steps ahead"
    draw = partial(
        line_chart,
        curve["x"],
        {k: [_number(v) for v in row] for k, row in curve["series"].items()},
        x_label=curve["x_label"],
        y_label=f"{curve['y_label']} (dB)" if curve["unit"] == "dB" else curve["y_label"],
        low=[_number(v) for v in curve["low"]],
        high=[_number(v) for v in curve["high"]],
        as_percent=curve["unit"] == "share",
        even_x=is_horizon,
    )
    return curve["label"], draw


def _row(figure: Json) -> str:
    others = "".join(
        f'<span class="other">{_show(value, figure["unit"])} <span>{escape(name)}</span></span>'
        for name, value in figure["baselines"].items()
    )
    why = f'<div class="why">{escape(figure["explanation"])}</div>'
    return (
        f"<tr><td>{escape(figure['label'])}{why}</td>"
        f'<td class="number"><strong>{value_text(figure)}</strong>'
        f'<span class="interval">{interval_text(figure)}</span></td>'
        f"<td>{others}</td>"
        f'<td class="number" data-name="measured on">{_measured_on(figure)}</td></tr>'
    )


def _measured_on(figure: Json) -> str:
    if not figure["n"]:
        return "nothing"
    return f'{figure["n"]:,} {escape(figure["trials"])}<span class="interval">{figure["n_clips"]} clips</span>'


def _matrix(figures: Sequence[Json]) -> str:
    """Lay out figures that exist for several horizons as one row per figure and one column per horizon."""
    stems: dict[str, dict[int, Json]] = {}
    for figure in figures:
        stem, _, horizon = figure["name"].rpartition("_h")
        stems.setdefault(stem, {})[int(horizon)] = figure
    horizons = sorted({h for row in stems.values() for h in row})
    head = "".join(f'<th class="number">{h} step{"s" if h > 1 else ""}</th>' for h in horizons)
    body = ""
    for row in stems.values():
        first = next(iter(row.values()))
        label = re.sub(r",? ?(after|over)? ?\d+ steps?", "", first["label"])
        cells = "".join(_matrix_cell(row.get(h), h) for h in horizons)
        why = re.sub(r", \d+ steps? after the context", "", first["explanation"])
        body += f'<tr><td>{escape(label)}<div class="why">{escape(why)}</div></td>{cells}</tr>'
    n = max(f["n"] for f in figures)
    return (
        '<div class="table"><table class="matrix"><thead><tr>'
        f"<th>Ahead (up to {n:,} frames each)</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _matrix_cell(figure: Json | None, horizon: int) -> str:
    if figure is None:
        return "<td></td>"
    beside = "".join(
        f'<span class="interval other-value" title="{escape(name)}">'
        f"{_show(value, figure['unit'])} {escape(name.split(' ')[0])}</span>"
        for name, value in figure["baselines"].items()
    )
    return (
        f'<td class="number" data-name="{horizon}"><strong>{value_text(figure)}</strong>'
        f'<span class="interval">{interval_text(figure)}</span>{beside}</td>'
    )


def _training(points: Sequence[Json]) -> str:
    stages: dict[str, list[Json]] = {}
    for point in points:
        stages.setdefault(point["stage"], []).append(point)
    charts = []
    for name, rows in stages.items():
        steps, losses = [float(r["stage_step"]) for r in rows], [r["loss"] for r in rows]
        draw = partial(line_chart, steps, {"loss": losses}, x_label="step", y_label="loss, logarithmic", log_y=True)
        charts.append((name, draw))
    if not charts:
        return ""
    return (
        '<section id="training"><h2>How was it trained?</h2><p class="about">The loss of each part while the run that '
        f"made this world was learning.</p>{_plots(charts)}</section>"
    )
