"""Report page: complete numbers, no network access, charts at the positions of the data."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluate import toy
from reelworld.charts import line_chart, nice_ticks
from reelworld.config import read_json
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.report.page import render_report
from reelworld.evaluate.report.values import value_text
from reelworld.evaluate.report.videos import RolloutVideo, encode_videos
from reelworld.evaluate.results import plain, read_training_log
from reelworld.evaluate.run import evaluate, evaluate_to_folder
from reelworld.types import UserError

CONFIG = EvalConfig(clips=4, single_steps=60, free_run_steps=12, inverse_steps=2, stability_steps=50, stability_runs=2)


class Recipe(toy.ToyWorld):
    """Has what the results say about a world."""

    def __init__(self):
        super().__init__(toy.late)
        self.info.name = "a <late> world"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    dataset = toy.write_dataset(folder / "data")
    log = folder / "log.jsonl"
    lines = [{"stage": "tokenizer", "step": s, "stage_step": s, "loss": 1 / s} for s in range(1, 900)]
    log.write_text("\n".join(map(json.dumps, lines)) + '\n{"stage": "tok')
    results = evaluate_to_folder(
        Recipe(), dataset, CONFIG, folder / "out", command="reelworld eval x", training_log=log
    )
    return folder, results


def test_the_files_are_there_and_the_json_is_strict(written):
    folder, results = written
    names = {p.name for p in (folder / "out").iterdir()}
    assert names == {"results.json", "report.html", "videos", "inverse_dynamics"}
    assert len(list((folder / "out/videos").glob("*.mp4"))) == len(list((folder / "out/videos").glob("*.gif"))) == 4

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    stored = json.loads((folder / "out/results.json").read_text(), parse_constant=refuse)
    assert stored == results == read_json(folder / "out/results.json")
    assert stored["format_version"] == 2 and stored["data"]["split"] == "test" and stored["config"]["seed"] == 0
    assert {"cpu", "cores", "torch"} <= set(stored["hardware"])
    figures = {f["name"]: f for s in stored["sections"] for f in s["metrics"]}
    assert figures["tokenizer_psnr"]["value"] == "inf"
    assert set(figures["one_step_frames_exact"]["baselines"]) == {
        "copy of the last frame seen",
        "first frame of the clip",
    }


def test_the_page_shows_every_figure_and_stands_alone(written):
    folder, results = written
    page = (folder / "out/report.html").read_text()
    for section in results["sections"]:
        for figure in section["metrics"]:
            assert value_text(figure) in page, figure["name"]
    assert "a &lt;late&gt; world" in page and "<late>" not in page
    assert "{{" not in page
    links = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page)
    assert links and all(link.startswith("data:") for link in links)
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert page.count("<video") == 4

    class Balance(HTMLParser):
        stack: list[str] = []  # noqa: RUF012 (one instance)

        def handle_starttag(self, tag, attrs):
            if tag not in {"meta", "link", "line", "circle", "polyline", "polygon"}:
                self.stack.append(tag)

        def handle_endtag(self, tag):
            if tag in {"line", "circle", "polygon", "polyline"}:
                return
            assert self.stack.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.stack == []


def test_a_page_without_videos_or_training_is_whole(written):
    page = render_report(written[1])
    assert "<video" not in page and "Training loss" not in page and "{{" not in page


def test_clips_that_were_trained_on_are_called_out(written):
    results = json.loads(json.dumps(written[1]))
    assert "badge warn" not in render_report(results)
    results["data"]["n_trained_on"] = 3
    assert "3 of these clips were trained on" in render_report(results)


def test_the_training_log_is_thinned_and_broken_lines_skipped(written):
    points = read_training_log(written[0] / "log.jsonl", n_points=100)
    assert 50 <= len(points) <= 101
    assert points[0]["step"] == 1 and points[-1]["step"] == 899
    assert read_training_log(written[0] / "none.jsonl") == []


def test_an_out_that_is_a_file_is_refused_before_measuring(tmp_path, written):
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        evaluate_to_folder(Recipe(), None, CONFIG, path, command="")
    assert path.read_text() == "mine"


def test_the_clips_are_named_in_plain_words(written):
    results = json.loads(json.dumps(written[1]))
    assert "10 clips of the test split, none of them trained on" in render_report(results)
    results["data"]["split"] = "all"
    page = render_report(results)
    assert "10 fresh episodes, none of them trained on" in page and "the all split" not in page


def free_run(frames_right, error=0, moved=16):
    true = np.zeros((6, 4, 4, 3), np.uint8)
    true[2:] = moved
    world = true.copy()
    world[2:] += error
    return RolloutVideo(source="clip-7", actual=true, predicted=world, context=2, frames_right=frames_right)


@pytest.mark.parametrize(
    ("run", "caption"),
    [
        (free_run(1.0, error=1), "clip-7: 4 steps on its own, all tiles right in every frame"),
        (free_run(0.75, error=40), "clip-7: 4 steps on its own, all tiles right in 3 of 4 frames"),
        (free_run(None), "clip-7: 4 steps on its own, every pixel right"),
        # 20 log10(255 / 4) and 20 log10(255 / 16)
        (
            free_run(None, error=4),
            "clip-7: 4 steps on its own, PSNR 36.1 dB (repeating the last frame given: 24.0 dB)",
        ),
        (
            free_run(None, error=4, moved=0),
            "clip-7: 4 steps on its own, PSNR 36.1 dB (repeating the last frame given: exact)",
        ),
    ],
)
def test_captions_speak_the_language_of_the_world(run, caption):
    ((found, _),) = encode_videos([run], fps=5.0)
    assert found == caption


def test_runs_are_judged_by_tiles_where_there_are_tiles(tmp_path):
    """A decoder that is off by a grey level gets every tile right and hardly a pixel."""

    class DimSession(toy.ToySession):
        def step(self, action):
            result = super().step(action)
            return replace(result, frame=np.maximum(result.frame, 1) - 1)

    class Near(toy.ToyWorld):
        def session(self, n=1, seed=None):
            return DimSession(self, n)

    dataset = toy.write_dataset(tmp_path / "data")
    runs = evaluate(Near(toy.perfect), dataset, CONFIG).videos.rollouts
    assert runs and all(run.frames_right == 1.0 and (run.actual != run.predicted).any() for run in runs)
    plain_runs = evaluate(Near(toy.perfect), dataset, replace(CONFIG, tiles="no")).videos.rollouts
    assert plain_runs and all(run.frames_right is None for run in plain_runs)


def test_videos_play_by_themselves_and_can_be_stopped(written):
    page = (written[0] / "out/report.html").read_text()
    videos = re.findall(r"<video ([^>]*?) src=", page)
    assert videos and all({"muted", "loop", "autoplay", "playsinline"} <= set(v.split()) for v in videos)
    assert len(re.findall(r"<button[^>]*>pause</button>", page)) == len(videos)


def test_a_last_chart_alone_in_its_row_fills_it(written):
    results = json.loads(json.dumps(written[1]))
    curve = results["sections"][-1]["series"] or next(s["series"] for s in results["sections"] if s["series"])
    results["sections"] = [results["sections"][0]]
    for n, alone in ((1, 1), (2, 0), (3, 1), (4, 0)):
        results["sections"][0]["series"] = curve[:1] * n
        page = render_report(results)
        assert page.count('class="plot alone"') == page.count('class="wide"') == alone
        assert page.count('class="narrow"') == n == page.count("<figure")


def chart_points(svg, style):
    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    lines = [e for e in root.iter("polyline") if style in e.attrib["class"]]
    return [tuple(map(float, p.split(","))) for line in lines for p in line.attrib["points"].split()]


def test_charts_put_points_in_proportion():
    svg = line_chart([0, 1, 2, 4], {"world": [0.0, 0.5, 1.0, 0.25]}, x_label="x", y_label="y", as_percent=True)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = chart_points(svg, "k0")
    assert x1 - x0 == pytest.approx(x2 - x1) and x3 - x2 == pytest.approx(2 * (x1 - x0))
    assert y0 - y1 == pytest.approx(y1 - y2) and y0 - y3 == pytest.approx((y0 - y2) / 4, abs=0.11)


def drawn_width(element):
    """Width of a label in DejaVu Sans, the broadest font of the page's list, at the page's 12 pixels."""
    return 12 * 0.64 * len(element.text)


@pytest.mark.parametrize("width", [560, 1170])
@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 12_345.0])
@pytest.mark.parametrize("log_y", [True, False])
def test_labels_of_axes_stay_inside_the_drawing(scale, log_y, width):
    x = list(range(0, 1001, 5))
    values = [scale * (1 + i) for i in range(len(x))]
    svg = line_chart(x, {"loss": values}, x_label="step", y_label="y", log_y=log_y, width=width)
    texts = ElementTree.fromstring(svg[svg.index("<svg") :]).findall("text")
    ends = [e for e in texts if e.attrib["text-anchor"] == "end"]
    middles = [e for e in texts if e.attrib["text-anchor"] == "middle"]
    assert len(ends) > 1 and "1,000" in {e.text for e in middles}
    assert min(float(e.attrib["x"]) - drawn_width(e) for e in ends) >= 0
    assert max(float(e.attrib["x"]) + drawn_width(e) / 2 for e in middles) <= width


def test_labels_of_logarithmic_axes_are_short():
    svg = line_chart([1, 2], {"loss": [2e-6, 90.0]}, x_label="x", y_label="y", log_y=True)
    assert {"1e-6", "0.0001", "0.01", "1", "100"} <= set(re.findall(r">([^<]+)</text>", svg))


def test_the_world_lies_above_the_broad_line_beside_it_and_below_the_dashed_ones():
    row = [1.0, 2.0, 3.0]
    svg = line_chart([1, 2, 3], dict.fromkeys("abcd", row), x_label="x", y_label="y")
    assert re.findall(r"line (k\d)", svg) == ["k1", "k0", "k2", "k3"]
    css = (resources.files("reelworld.evaluate.report") / "page.css").read_text()
    world, beside = (
        float(re.search(rf"\.chart \.line{s} {{[^}}]*stroke-width: ([\d.]+)", css)[1]) for s in ("", r"\.k1")
    )
    assert beside >= 2.5 * world
    assert all(re.search(rf"\.line\.{s} {{[^}}]*stroke-dasharray", css) for s in ("k2", "k3"))


def test_charts_leave_gaps_and_survive_nothing():
    svg = line_chart(
        [1, 2, 3, 4, 5], {"world": [1, 2, math.inf, None, 3]}, x_label="x", y_label="y", low=[0.5] * 5, high=[3.5] * 5
    )
    assert len(chart_points(svg, "k0")) == 2, "the lone point after the gap is a dot, not a line"
    assert "polygon" in svg
    assert "Nothing to draw" in line_chart([1, 2], {"world": [math.inf, math.nan]}, x_label="x", y_label="y")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (7.36, 30.4), (-22.9, 0.3), (5, 5), (1e-4, 3e-4)])
def test_ticks_are_round_and_cover_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 9
    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert len(steps) == 1


def test_numbers_for_people():
    def text(value, unit, name="x"):
        return value_text({"value": value, "unit": unit, "name": name})

    assert text(0.99852, "share") == "99.85%" and text(1.0, "share") == "100%" and text(0.5, "share") == "50.0%"
    assert text(0.99998, "share") == "99.998%"
    assert text(1.84, "dB", "gain_h1") == "+1.8 dB" and text("inf", "dB") == text(73.3, "dB") == "exact"
    assert text(59.9, "dB") == "59.9 dB" and text("inf", "dB", "gain_h1") == "&infin; dB"
    assert text(73.3, "dB", "delta_uniform_h1") == "+73.3 dB", "a difference of two"
    assert text(None, "dB") == "not known"
    assert (
        text(0.00089, "nats") == "0.00089 nats"
        and text(1.5, "nats") == "1.50 nats"
        and text(0.0, "nats") == "0.00 nats"
    )
    assert text(442.096, "nats") == "442 nats"
    assert text(0.00003, "share") == "0.003%" and text(0.9999996, "share") == "99.99996%"
    assert text(0.031, "dB", "gain_h1") == "+0.031 dB" and text(-0.004, "dB", "gain_h1") == "&minus;0.0040 dB"
    assert text(0.99993, "") == "0.99993" and text(0.9954, "") == "0.995" and text(1.0, "") == "1.000"
    assert text(0.00042, "") == "0.00042" and text(3e-9, "") == "3.0e-09"
    assert plain({"a": [math.inf, -math.inf, math.nan, 1.5]}) == {"a": ["inf", "-inf", None, 1.5]}
