"""HTML report: one file that opens without a server and loads nothing from the network.

Numbers come from results.json, so a report can be rendered again from it; only the videos need the rollouts.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from importlib import resources

from reelworld.charts import WIDE, WIDTH, line_chart
from reelworld.evaluate.report.values import (
    Json,
    baseline_texts,
    headlines,
    interval_text,
    number_of,
    protocol_text,
    show_value,
    value_text,
)


def render_report(
    results: Json,
    videos: Sequence[tuple[str, bytes]] = (),
    training: Sequence[Json] = (),
    futures: Sequence[tuple[str, bytes]] = (),
) -> str:
    """Render the page.

    Args:
        results: Contents of results.json.
        videos: (caption, mp4) pairs: recording, world and difference side by side.
        training: Points of the run's log, from ``results.read_training_log``.
        futures: (caption, mp4) pairs: several futures of one start.
    """
    world, data = results["world"], results["data"]
    values = {
        "title": escape(world["name"]),
        "protocol": escape(protocol_text(results)),
        "subtitle": _subtitle(world),
        "badges": "".join(_badges(data)),
        "cards": "".join(map(_card, headlines(results))),
        "videos": _futures(futures) + _videos(videos, unconditional=not world.get("n_actions", 1)),
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


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8").rstrip("\n")


def _subtitle(world: Json) -> str:
    fps = f", {world['fps']:g} frames/s" if world["fps"] else ""
    size = sum(world["parameters"].values())
    return (
        f"system {escape(world['system'])}, {world['height']}x{world['width']} pixels{fps}, "
        f"{size / 1e6:.2f} million parameters"
    )


def _badges(data: Json) -> Iterator[str]:
    if data["n_trained_on"]:
        text = f"{data['n_trained_on']} of these clips were trained on: this measures memory"
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


def _card(metric: Json) -> str:
    beside = "".join(f'<p class="beside">{text}</p>' for text in baseline_texts(metric))
    n = f"n = {metric['n']:,} {escape(metric['trials'])}"
    return (
        f'<article class="card"><h3>{escape(metric["label"])}</h3>'
        f'<div class="value">{value_text(metric)}</div>'
        f'<div class="range">95%: {interval_text(metric)}, {n}</div>'
        f'{_gauge(metric)}{beside}<p class="why">{escape(metric["description"])}</p></article>'
    )


def _gauge(metric: Json) -> str:
    """Draw a fraction as a bar from 0 to 100% with its interval and the baselines."""
    if metric["unit"] != "share":
        return ""
    value, low, high = (100 * number_of(metric[k]) for k in ("value", "low", "high"))
    marks = "".join(
        f'<i class="tick" style="left:{100 * number_of(v):.2f}%" title="{escape(k)}"></i>'
        for k, v in metric["baselines"].items()
    )
    span = "" if math.isnan(low) else f'<i class="span" style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
    return f'<div class="gauge"><i class="fill" style="width:{value:.2f}%"></i>{span}{marks}</div>'


def _futures(videos: Sequence[tuple[str, bytes]]) -> str:
    if not videos:
        return ""
    return (
        '<section id="futures"><h2>What might happen</h2><p class="about">From the same first frames: what was '
        "recorded, the per-pixel mean of all drawn futures, and four of them. Where samples disagree the mean is "
        "blurred. The starts range from the one where the mean gains least over the last frame to the one where it "
        f"gains most.</p>{_movies(videos)}</section>"
    )


def _videos(videos: Sequence[tuple[str, bytes]], unconditional: bool) -> str:
    if not videos:
        return ""
    about = (
        "Left the recording, in the middle the world from the same first frames under the same actions, right their "
        "difference (black: none)."
    )
    if unconditional:
        about = (
            "Left the recording, right one rollout of the world from the same first frames. It takes no actions, so it "
            "leaves the recorded future: judge whether it stays a picture of this game."
        )
    return (
        f'<section id="look"><h2>Rollouts beside the recording</h2><p class="about">{about} The clips range from '
        f"the worst of the longest ones to the best.</p>{_movies(videos)}</section>"
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
    plots = _plots([_chart(one) for one in section["series"]])
    by_horizon = [f for f in section["metrics"] if re.fullmatch(r".+_h\d+", f["name"])]
    matrix = _matrix(by_horizon) if len({f["name"].rpartition("_h")[2] for f in by_horizon}) > 1 else ""
    single = [f for f in section["metrics"] if not (matrix and f in by_horizon)]
    rows = "".join(map(_row, single))
    table = (
        '<div class="table"><table><thead><tr><th>Metric</th><th class="number">World (95% interval)</th>'
        f'<th>Baselines</th><th class="number">Measured on</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return (
        f'<section id="{escape(section["name"])}"><h2>{escape(section["title"])}</h2>'
        f'<p class="about">{escape(section["description"])}</p>{plots}{matrix}{table if rows else ""}</section>'
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


def _chart(series: Json) -> tuple[str, Callable[..., str]]:
    is_horizon = series["x_label"] == "steps ahead"
    draw = partial(
        line_chart,
        series["x"],
        {k: [number_of(v) for v in row] for k, row in series["lines"].items()},
        x_label=series["x_label"],
        y_label=f"{series['y_label']} (dB)" if series["unit"] == "dB" else series["y_label"],
        low=[number_of(v) for v in series["low"]],
        high=[number_of(v) for v in series["high"]],
        as_percent=series["unit"] == "share",
        even_x=is_horizon,
    )
    return series["label"], draw


def _row(metric: Json) -> str:
    others = "".join(
        f'<span class="other">{show_value(value, metric["unit"])} <span>{escape(name)}</span></span>'
        for name, value in metric["baselines"].items()
    )
    why = f'<div class="why">{escape(metric["description"])}</div>'
    return (
        f"<tr><td>{escape(metric['label'])}{why}</td>"
        f'<td class="number"><strong>{value_text(metric)}</strong>'
        f'<span class="interval">{interval_text(metric)}</span></td>'
        f"<td>{others}</td>"
        f'<td class="number" data-name="measured on">{_measured_on(metric)}</td></tr>'
    )


def _measured_on(metric: Json) -> str:
    if not metric["n"]:
        return "nothing"
    return f'{metric["n"]:,} {escape(metric["trials"])}<span class="interval">{metric["n_clips"]} clips</span>'


def _matrix(metrics: Sequence[Json]) -> str:
    """Lay out metrics that exist for several horizons as one row per metric and one column per horizon."""
    stems: dict[str, dict[int, Json]] = {}
    for metric in metrics:
        stem, _, horizon = metric["name"].rpartition("_h")
        stems.setdefault(stem, {})[int(horizon)] = metric
    horizons = sorted({h for row in stems.values() for h in row})
    head = "".join(f'<th class="number">{h} step{"s" if h > 1 else ""}</th>' for h in horizons)
    body = ""
    for row in stems.values():
        first = next(iter(row.values()))
        label = re.sub(r",? ?(after|over)? ?\d+ steps?", "", first["label"])
        cells = "".join(_matrix_cell(row.get(h), h) for h in horizons)
        why = re.sub(r", \d+ steps? after the context", "", first["description"])
        body += f'<tr><td>{escape(label)}<div class="why">{escape(why)}</div></td>{cells}</tr>'
    n = max(f["n"] for f in metrics)
    return (
        '<div class="table"><table class="matrix"><thead><tr>'
        f"<th>Ahead (up to {n:,} frames each)</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _matrix_cell(metric: Json | None, horizon: int) -> str:
    if metric is None:
        return "<td></td>"
    beside = "".join(
        f'<span class="interval other-value" title="{escape(name)}">'
        f"{show_value(value, metric['unit'])} {escape(name.split(' ')[0])}</span>"
        for name, value in metric["baselines"].items()
    )
    return (
        f'<td class="number" data-name="{horizon}"><strong>{value_text(metric)}</strong>'
        f'<span class="interval">{interval_text(metric)}</span>{beside}</td>'
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
        '<section id="training"><h2>Training loss</h2><p class="about">The loss of each part during the training '
        f"of this world.</p>{_plots(charts)}</section>"
    )
