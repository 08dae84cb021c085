"""Write the tables of README.md and docs/ from the kept results; no number is typed by hand.

    python benchmarks/tables.py           rewrite the blocks between <!-- BEGIN name --> and <!-- END name -->
    python benchmarks/tables.py --check   exit 1 if a page differs from the results (a test runs this)

Results are kept in benchmarks/results/, each with its command, commit, hardware and seeds. Commands are quoted as they
were run: flags and module names are those of the result's commit. Finished experiments keep their table alone; their
code is in the commit that the result names.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from table_rows import CARRACING, DOORKEY, FOUND, VIDEOGPT, VIDEOGPT_SMOOTH

from reelworld.evaluate.report.values import interval_text, value_text

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load(name: str) -> Any:
    """Read a kept result."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """Index an evaluation's figures by name."""
    return {f["name"]: f for section in results["sections"] for f in section["metrics"]}


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table."""
    head, *lines = (f"| {' | '.join(map(str, line))} |" for line in (columns, *rows))
    return "\n".join([head.replace("|  |", "| |"), "|" + "---|" * len(columns), *lines])


def quality(name: str, rows: Mapping[str, str]) -> str:
    """Make a table of an evaluation: value, interval, baselines, count; its source below."""
    results = load(name)
    found = figures(results)
    lines = []
    for key, label in rows.items():
        figure = found[key]
        beside = figure["baselines"]
        given = {k: value_text({**figure, "value": v, "is_gain": False}) for k, v in beside.items()}
        copied, first = (given.pop(k, "") for k in ("copy of the last frame seen", "first frame of the clip"))
        others = "; ".join(f"{v} ({k})" for k, v in given.items())
        interval = interval_text(figure)
        lines.append([label, f"**{value_text(figure)}**", interval, copied or others, first, f"{figure['n']:,}"])
    columns = ["", "world", "95% interval", "copy of the last frame", "first frame", "n"]
    return table(columns, lines) + "\n\n" + source(name, results)


def source(name: str, results: Mapping[str, Any]) -> str:
    """Say where a table comes from."""
    machine = results.get("hardware") or results.get("machine") or {}
    path = f"benchmarks/results/{name}"
    seed = results.get("seeds", results.get("seed", results.get("config", {}).get("seed", 0)))
    seed = seed if isinstance(seed, list) else [seed]
    seeds = f"seed{'s' if len(seed) > 1 else ''} {', '.join(map(str, seed))}"
    where = f"{machine.get('cpu')}, {machine.get('cores')} cores, torch {machine.get('torch')}"
    return f"[{path}](LINK{path}): `{results['command']}`, commit {results['commit']}, {where}, {seeds}."


def number(value: float) -> str:
    """Show three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def speed(names: Mapping[str, str]) -> str:
    """Make a table of benches, of what ran on one thread."""
    lines = []
    for name, label in names.items():
        for row in load(name)["results"]:
            if row["threads"] != 1:
                continue
            unit = row["unit"]
            limit = f"{number(row['limit'])} {unit} ({row['limit_is']})" if row.get("limit") else ""
            lines.append([label, row["what"], f"{number(row['median'])} {unit}", number(row["p95"]), limit])
            label = ""
    columns = ["world, one thread", "what", "median", "p95", "limit measured in the same run"]
    return table(columns, lines) + "\n\n" + "\n\n".join(source(name, load(name)) for name in names)


def sampling(name: str) -> str:
    """Make a table of drawing tokens beside the published way, and of coding clips."""
    results = load(name)
    rows = {(r["what"], r["dtype"]): r for r in results["results"]}
    columns = ["one clip at a time", "type", "ours", "the published way", "ratio", "of the limit"]
    lines = []
    for (what, dtype), row in rows.items():
        other = rows.get((f"{what}, the published way", dtype))
        if other is None:
            continue
        if "tokens_per_second" in row:
            both, unit = (row["tokens_per_second"], other["tokens_per_second"]), "tokens/s"
        else:
            both, unit = (row["median"], other["median"]), row["unit"]
        ratio = row.get("times_the_published_way", both[0] / both[1])
        share = f"{100 * row['fraction_of_limit']:.0f}%" if row.get("fraction_of_limit") else ""
        ours, theirs = (f"{number(v)} {unit}" for v in both)
        lines.append([what, dtype, ours, theirs, f"{ratio:.2f}x", share])
    return table(columns, lines) + "\n\n" + source(name, results)


def caching(name: str) -> str:
    """Make a table of frames drawn with a cache beside recomputing the window."""
    results = load(name)
    rows = {r["what"]: r for r in results["results"]}
    columns = ["passes per frame", "type", "cached", "recomputing the window", "gain", "at most"]
    lines = []
    for row in rows.values():
        if "gain" not in row:
            continue
        whole = rows[f"a frame in {row['passes']} passes, recomputing the window"]
        both = (f"{number(r['median'] / 1e3)} s" for r in (row, whole))
        least, most = row["gain_least_to_greatest"]
        gain = f"**{row['gain']:.1f}x** ({least:.1f} to {most:.1f} over {row['n']} turns)"
        limit = f"{row['gain_limit']:.1f}x"
        lines.append([row["passes"], row["dtype"], *both, gain, limit])
    return table(columns, lines) + "\n\n" + source(name, results)


def robots(name: str) -> str:
    """Make a table of an iVideoGPT world's steps beside the published way and the limit; a line while there is none."""
    if not (RESULTS / name).exists():
        return "There is no kept run yet; `python benchmarks/ivideogpt_speed.py --out` makes one on a quiet machine."
    results = load(name)
    columns = ["one machine, in turns", "type", "time", "codes", "tokens/s", "of the limit", "gain"]
    lines = []
    for row in results["results"]:
        codes = f"{number(row['drawing_ms'] / 1e3)} s" if "drawing_ms" in row else ""
        rate = f"{row['tokens_per_second']:.0f}" if "tokens_per_second" in row else ""
        share = f"{100 * row['fraction_of_limit']:.0f}%" if row.get("fraction_of_limit") else ""
        gain = f"{row['times_the_published_way']:.1f}x the published way" if "times_the_published_way" in row else ""
        if "times_one_stream" in row:
            gain = f"{row['times_one_stream']:.1f}x the tokens/s of one"
        if "times_read_for_a_fork" in row:
            gain = f"read {row['times_read_for_a_fork']} time for {results['candidates']} candidates"
        time = f"{number(row['median'] / 1e3)} s"
        lines.append([row["what"], row["dtype"], time, codes, rate, share, gain])
    return table(columns, lines) + "\n\n" + source(name, results)


def playing(name: str) -> str:
    """Make a table of how it is to play: the delay of a key, crowds of players, the start."""
    results = load(name)
    key, start = results["key_to_pixel"], results["first_frame_seconds"]["median"]
    summary = (
        f"First frame {start:.1f} s after the command. From a key to a changed pixel {both(key['delay_ms'])} ms (p50, "
        f"p95), of which the world's own step took {both(key['step_ms'])} ms; "
        f"{key['presses_that_changed_a_pixel']} presses."
    )
    columns = ["players", "frames/s, all", "action to frame, p50", "p95", "least share of a fair one", "MiB per player"]
    lines = []
    for crowd in results["crowds"]:
        rate, share = f"{crowd['frames_per_second']:.1f}", f"{100 * crowd['least_share_of_fair']:.0f}%"
        p50, p95 = (f"{crowd['delay_ms'][name]:.0f} ms" for name in ("p50", "p95"))
        memory = f"{crowd['mib_per_player_after']:.1f}"
        lines.append([crowd["players"], rate, p50, p95, share, memory])
    note = f" Note: {results['note']}" if results["note"] else ""
    return f"{summary}\n\n{table(columns, lines)}\n\n" + source(name, results) + note


def both(values: Mapping[str, float]) -> str:
    """Show a median and a 95th percentile."""
    return f"{values['p50']:.0f} and {values['p95']:.0f}"


def encodings(name: str) -> str:
    """Make a table of what frames cost: milliseconds and bytes by encoding, size and picture."""
    results = load(name)
    rows = results["encodings"]
    columns = list(dict.fromkeys((row["picture"], row["size"]) for row in rows))
    found = {(row["encoding"], row["picture"], row["size"]): row for row in rows}
    lines = []
    for way in dict.fromkeys(row["encoding"] for row in rows):
        cells = [found[way, *column] for column in columns]
        lines.append([way, *(f"{c['ms']:.2f} ms, {c['bytes'] / 1e3:.1f} kB" for c in cells)])
    return table(["", *(f"{kind}, {size}x{size}" for kind, size in columns)], lines)


PLAYERS = {
    "video": "video of all steps; codes named by the labels of",
    "labels": "labels alone, of",
    "random": "nothing: random actions",
    "solver": "the expert that is watched",
}


def cloning(name: str) -> str:
    """Make a table of those who play the same games, and of what video gains over labels alone."""
    results = load(name)
    all_steps = max(row["labels"] for row in results["results"])
    counts = {0: "", all_steps: f" all {all_steps:,} steps"}
    columns = ["learned from", "return", "95% interval", "by seed of the learning", "games solved"]
    lines = []
    for row in sorted(results["results"], key=lambda r: (list(PLAYERS).index(r["who"]), r["labels"])):
        who = PLAYERS[row["who"]] + counts.get(row["labels"], f" {row['labels']:,} steps")
        seeds = ", ".join(f"{v:.2f}" for v in row["by_seed"]) if len(row["by_seed"]) > 1 else ""
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append([who, f"**{row['return']:.2f}**", interval, seeds, f"{100 * row['solved']:.0f}%"])
    gained = ["labelled steps", "return gained by watching", "95% interval", "by seed of the learning"]
    gains = []
    for row in results["gains"]:
        seeds, interval = ", ".join(f"{v:+.2f}" for v in row["by_seed"]), f"{row['low']:+.2f} to {row['high']:+.2f}"
        gains.append([f"{row['labels']:,}", f"**{row['return']:+.2f}**", interval, seeds])
    games = results["results"][0]["games"]
    time = f"{results['cpu_seconds'] / 60:.0f} CPU minutes with {results['threads']} thread"
    return f"{table(columns, lines)}\n\n{table(gained, gains)}\n\n{games} games; {time}. " + source(name, results)


def found_worlds(name: str) -> str:
    """Make a table of worlds that found their own actions: a column per seed, the same without any skill beside it."""
    results = load(name)
    seeds = results["results"]
    lines = []
    for (part, key), label in FOUND.items():
        found = [row.get(part, {}).get(key) for row in seeds]
        first = next((f for f in found if f), None)
        if first is None:
            continue
        beside = {k: value_text({**first, "value": v}) for k, v in first["baselines"].items()}
        cells = [f"**{value_text(f)}** ({interval_text(f)})" if f else "not measured" for f in found]
        lines.append([label, *cells, "; ".join(f"{v} ({k})" for k, v in beside.items())])
    maps = [row["map"] for row in seeds]
    cells = [f"**{100 * m['accuracy']:.1f}%** ({100 * m['low']:.1f} to {100 * m['high']:.1f}%)" for m in maps]
    beside = f"{100 * maps[0]['most_frequent']:.1f}% (most frequent); {100 * maps[0]['chance']:.1f}% (drawn)"
    lines.append([f"real action named, map from {results['labels']} labels", *cells, beside])
    if any("given" in row for row in seeds):
        cells = []
        for row in seeds:
            values = [row[part]["one_step_change_f1"]["value"] for part in ("steered", "given") if part in row]
            cells.append(f"**{100 * values[0] / values[1]:.0f}%**" if len(values) == 2 else "not measured")
        lines.append(["F1 by real keys, of the F1 with true actions", *cells, ""])
    minutes = sorted(sum(row["training_minutes"].values()) for row in seeds)
    spent = f"Trained for {minutes[0]:.0f} to {minutes[-1]:.0f} minutes, by the clock on the wall."
    columns = ["", *(f"seed {row['seed']}" for row in seeds), "beside it"]
    return table(columns, lines) + f"\n\n{spent} " + source(name, results)


def memory(name: str) -> str:
    """Table of recall by the time an object was out of sight: a column per window, chance beside it."""
    results = load(name)
    windows = list(dict.fromkeys(row["window"] for row in results["rows"]))
    found = {(row["window"], row["away"]): row for row in results["rows"]}
    columns = ["frames away", *(f"window of {w}" for w in windows), "always the commonest object"]
    rows = []
    for away in dict.fromkeys(row["away"] for row in results["rows"]):
        picked = [found[window, away] for window in windows]
        cells = [f"**{100 * r['recall']:.1f}%** ({100 * r['low']:.1f} to {100 * r['high']:.1f}%)" for r in picked]
        rows.append([away, *cells, f"{100 * results['commonest_object']:.1f}%"])
    counts = f"{results['objects']} objects from {results['starts']} starts in fresh rooms. "
    return table(columns, rows) + f"\n\n{counts}" + source(name, results)


ROBOTS = {
    "tokenizer_psnr": ("frames through the codes (dB)", ""),
    "psnr_mean_h4": ("mean of 4 samples, 4 steps (dB)", ""),
    "gain_mean_h2": ("above a copy of the last frame, 2 steps (dB)", "0"),
    "gain_mean_h4": ("... 4 steps", "0"),
    "gain_mean_h8": ("... 8 steps", "0"),
    "gain_mean_h15": ("... 15 steps", "0"),
    "delta_uniform_h4": ("worth of the true actions, 4 steps, against random ones (dB)", "0"),
    "delta_shuffled_h4": ("... against another clip's", "0"),
    "reward_r2": ("R2 of expected rewards", "0 (always the mean)"),
    "reward_auc": ("AUC: steps that pay told from others", "0.5 (by chance)"),
}


def robot_worlds(name: str) -> str:
    """Table of worlds of recorded robots: a column per seed with the interval over episodes, baselines beside it."""
    results = load(name)
    seeds = list(dict.fromkeys(row["seed"] for row in results["results"]))
    rows, spent, episodes = [], [], []
    for task in dict.fromkeys(row["task"] for row in results["results"]):
        of_task = [row for row in results["results"] if row["task"] == task]
        found = {row["seed"]: row["figures"] for row in of_task}
        for key, (label, idle) in ROBOTS.items():
            if all(key in figures for figures in found.values()):
                rows.append(
                    [f"{task}: {label}", *(with_interval(found[s][key]) if s in found else "" for s in seeds), idle]
                )
        least = {s: min(f["value"] for n, f in found[s].items() if n.startswith("gain_mean_h")) for s in found}
        cells = [f"**{least[seed]:.2f}**" if seed in least else "" for seed in seeds]
        rows.append([f"{task}: least above a copy, 2 to 15 steps (dB)", *cells, "0"])
        minutes = [sum(row["minutes"].values()) for row in of_task]
        spent.append(f"{task} {min(minutes):.0f} to {max(minutes):.0f}")
        episodes.append(f"{task} {of_task[-1]['reward_episodes']}")
    note = f"{results['clips']} test episodes, for rewards {', '.join(episodes)}; "
    note += f"minutes of training by the clock: {', '.join(spent)}. "
    columns = ["", *(f"seed {seed}" for seed in seeds), "without skill"]
    return table(columns, rows) + f"\n\n{note}" + source(name, results)


def with_interval(figure: Mapping[str, float]) -> str:
    """Format a value and its interval, two decimals."""
    return f"**{figure['value']:.2f}** ({figure['low']:.2f} to {figure['high']:.2f})"


def experiment(name: str) -> str:
    """Table of a finished experiment, as it was kept."""
    results = load(name)
    note = f"{results['note']} " if results["note"] else ""
    return table(results["columns"], results["rows"]) + f"\n\n{note}" + source(name, results)


def waiting(name: str) -> str:
    """Make a table of ways in which threads wait: steps per second alone and beside a busy program."""
    results = load(name)
    rates = {(row["waiting"], row["beside"]): number(row["median"]) for row in results["results"]}
    lines = []
    for way in dict.fromkeys(row["waiting"] for row in results["results"]):
        lines.append([WAYS.get(way, way), rates[way, "nothing"], rates[way, "one busy program"]])
    rounds = len(results["results"][0]["all"])
    columns = ["steps per second", "alone", "beside one busy program"]
    return (
        table(columns, lines) + f"\n\nMedians of {rounds} runs, {results['threads']} threads. " + source(name, results)
    )


WAYS = {"default": "default (spin for long)", "passive": "OMP_WAIT_POLICY=PASSIVE (sleep at once)"}


def copied(figure: Mapping[str, Any]) -> str:
    """Format what a copy of the last frame reaches."""
    return value_text({**figure, "value": figure["baselines"]["copy of the last frame seen"]})


def highlights() -> str:
    """Table of one line per system: its figures, the baseline beside them, the full table."""
    doorkey, driving, walks, longer = (
        figures(load(f"{name}.json"))
        for name in ("demo-doorkey", "carracing", "videogpt-doorkey", "videogpt-doorkey-26000-steps")
    )
    genie, robots = load("genie-doorkey.json")["results"], load("ivideogpt-robots.json")["results"]
    sampling_rows = {(r["what"], r["dtype"]): r for r in load("videogpt-sampling.json")["results"]}
    token = sampling_rows["draw a token, full", "bfloat16"]
    right = [100 * row["found"]["one_step_frames_exact"]["value"] for row in genie]
    single = walks["psnr_single_h4"]
    exact, gain = doorkey["one_step_frames_exact"], driving["gain_h1"]
    named = [100 * row["map"]["accuracy"] for row in genie]
    purity = [100 * row["found"]["latent_purity"]["value"] for row in genie]

    def worth(task: str) -> str:
        values = [row["figures"]["delta_uniform_h4"]["value"] for row in robots if row["task"] == task]
        return f"{min(values):.1f} to {max(values):.1f} dB"

    play = next(
        r for r in load("bench-shipped-doorkey.json")["results"] if r["what"].startswith("play") and r["threads"] == 1
    )
    rows = {
        "doorkey": (
            "`pocket`, DoorKey",
            f"next frame exact in **{value_text(exact)}** ({interval_text(exact)}; last frame {copied(exact)}), "
            f"100 free-running steps exact in **{value_text(doorkey['open_loop_frames_exact'])}**; "
            f"{number(play['median'])} frames/s on a core",
        ),
        "carracing": (
            "`pocket`, CarRacing",
            f"**{value_text(driving['psnr_h1'])}** one step ahead, **{value_text(gain)}** above the last frame; roads "
            "hold for a few seconds of free running, then change",
        ),
        "videogpt-doorkey": (
            "`videogpt`, DoorKey walks",
            f"mean of 8 samples, 4 steps ahead: **{value_text(walks['gain_mean_h4'])}** above the last frame "
            f"({value_text(longer['gain_mean_h4'])} after 26,000 steps); a single sample {value_text(single)}, the "
            f"last frame {copied(single)}. Published BAIR size: {token['tokens_per_second']:.0f} tokens/s on a CPU, "
            f"{token['times_the_published_way']:.1f}x the published way of sampling",
        ),
        "genie-doorkey": (
            "`genie`, DoorKey",
            f"latent actions **{min(purity):.1f} to {max(purity):.1f}%** pure over three seeds; real actions named "
            f"from 200 labels in **{min(named):.1f} to {max(named):.1f}%**; next frame exact in {min(right):.0f} to "
            f"{max(right):.0f}% of steps",
        ),
        "ivideogpt-robots": (
            "`ivideogpt`, robots",
            f"true actions beat random ones 4 steps ahead by **{worth('cartpole')}** (pole) and "
            f"**{worth('reacher')}** (arm) over three seeds",
        ),
    }
    lines = [[*cells, f"[table](docs/results.md#{anchor})"] for anchor, cells in rows.items()]
    return table(["world", "figures", "full table"], lines)


def two_buttons(name: str) -> str:
    """Make a table of the combinations of two buttons: PSNR under the recorded one, minus that under the others."""
    results = load(name)
    lines = []
    for combination, row in results["combinations"].items():
        delta, others = row["delta_psnr"], sorted(row["psnr_under"].values())
        lines.append(
            [
                combination,
                f"**{delta['value']:.1f} dB** ({delta['low']:.1f} to {delta['high']:.1f})",
                f"{row['psnr']:.1f} dB",
                f"{others[0]:.1f} to {others[-1]:.1f} dB",
                f"{row['psnr_of_the_last_frame_copied']:.1f} dB",
                row["n"],
            ]
        )
    columns = ["held", "delta PSNR", "under the recorded buttons", "under another combination", "last frame copied"]
    minutes = sum(results["training_minutes"].values())
    text = f"{results['steps']} steps ahead, test episodes; {minutes:.1f} minutes of training. {source(name, results)}"
    return table([*columns, "starts"], lines) + "\n\n" + text


def recording(name: str) -> str:
    """Make a line of the frames that are recorded, beside stepping and drawing alone."""
    results = load(name)
    alone, written = (row["median"] for row in results["results"])
    text = (
        f"{written:,.0f} frames/s with {results['processes']} processes, {100 * results['ratio']:.0f}% of stepping and"
    )
    return f"{results['environment']}: {text} drawing alone ({alone:,.0f}). {source(name, results)}"


def foreground(names: Sequence[str]) -> str:
    """Make a table of what is kept of the foreground: by the tokenizer, by a table of patches, in free runs."""
    lines, sources = [], []
    for name in names:
        results = load(name)
        sources.append(source(name, results))
        cells = []
        for key in ("tokenizer", "table", "free_run", "copy_of_the_first_frame"):
            kept, psnr = results[key]["kept"], results[key]["psnr"]
            cells.append(
                f"{100 * kept['value']:.1f}% ({100 * kept['low']:.1f} to {100 * kept['high']:.1f}), {psnr:.1f} dB"
            )
        lines.append([results["name"], *cells])
    columns = [
        "recording",
        "tokenizer",
        "table of the 1,000 most frequent patches",
        "30 free steps",
        "first frame held",
    ]
    return table(columns, lines) + "\n\n" + "\n\n".join(sources)


def small_objects(names: Sequence[str]) -> str:
    """Make a table of objects in Atari games: after the tokenizer, in free runs, and in a copy of the first frame."""
    lines, sources = [], []
    for name in names:
        results = load(name)
        sources.append(source(name, results))
        label = results["game"]
        for thing, found in results["things"].items():
            coded, free, copied = (found[k] for k in ("tokenizer", "free_run", "copy_of_the_first_frame"))
            shares = (coded["kept"], coded["within_1_px"], free["exactly_one"], free["within_2_px"])
            beside = (copied["exactly_one"], copied["within_2_px"])
            step = found["median_step"]
            moved = f"{step['world']:.2f} / {step['game']:.2f} px"
            lines.append([label, thing, *(f"{100 * v:.1f}%" for v in (*shares, *beside)), moved])
            label = ""
    columns = ["game", "object", "tokenizer: kept", "within 1 px", "30 free steps: there once", "within 2 px"]
    columns += ["first frame held: there once", "within 2 px", "median step, world / game"]
    return table(columns, lines) + "\n\n" + "\n\n".join(sources)


BLOCKS: dict[str, Callable[[], str]] = {
    "recording": lambda: recording("recording.json"),
    "foreground": lambda: foreground(["foreground-crafter.json", "foreground-film.json"]),
    "two-buttons": lambda: two_buttons("two-buttons.json"),
    "small-objects": lambda: small_objects([f"small-objects-{g}.json" for g in ("breakout", "pong", "freeway")]),
    "highlights": highlights,
    "doorkey": lambda: quality("demo-doorkey.json", DOORKEY),
    "doorkey-seed1": lambda: quality("demo-doorkey-seed1.json", DOORKEY),
    "doorkey-highlight": lambda: quality("doorkey-highlight.json", DOORKEY),
    "carracing": lambda: quality("carracing.json", CARRACING),
    "videogpt-doorkey": lambda: quality("videogpt-doorkey.json", VIDEOGPT),
    "videogpt-doorkey-longer": lambda: quality("videogpt-doorkey-26000-steps.json", VIDEOGPT),
    "videogpt-carracing": lambda: quality("videogpt-carracing.json", VIDEOGPT_SMOOTH),
    "videogpt-sampling": lambda: sampling("videogpt-sampling.json"),
    "genie-doorkey": lambda: found_worlds("genie-doorkey.json"),
    "genie-carracing": lambda: found_worlds("genie-carracing.json"),
    "ivideogpt-robots": lambda: robot_worlds("ivideogpt-robots.json"),
    "ivideogpt-speed": lambda: robots("ivideogpt-speed.json"),
    "maskgit-cache": lambda: caching("maskgit-cache.json"),
    "playing": lambda: playing("playing.json"),
    "encodings": lambda: encodings("playing.json"),
    "clone-from-video": lambda: cloning("clone-from-video.json"),
    "memory": lambda: memory("memory.json"),
    "waiting": lambda: waiting("waiting.json"),
    "speed": lambda: speed({f"bench-shipped-{w}.json": w for w in ("doorkey", "driving")}),
}


EXPERIMENTS = (
    *("compressive", "conditionings", "context-noise-doorkey", "context-noise-driving", "driving-tokenizer"),
    *("fine-tuning", "tokenizer-variants-carracing", "tokenizer-variants-doorkey", "variants-carracing"),
    *("variants-doorkey", "width-carracing"),
)
"""Finished experiments: blocks and results of the same names."""
BLOCKS |= {name: partial(experiment, f"{name}.json") for name in EXPERIMENTS}


def rewritten(page: Path) -> str:
    """Return a page with its blocks made anew."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        made = BLOCKS[name]().replace("(LINK", "(" + "../" * (len(page.relative_to(ROOT).parts) - 1))
        return f"<!-- BEGIN {name} -->\n{made}\n<!-- END {name} -->"

    pattern = r"<!-- BEGIN (?P<name>[\w-]+) -->.*?<!-- END (?P=name) -->"
    return re.sub(pattern, block, page.read_text(encoding="utf-8"), flags=re.DOTALL)


def main() -> int:
    """Rewrite the pages, or compare them."""
    stale = [page for page in PAGES if rewritten(page) != page.read_text(encoding="utf-8")]
    if "--check" in sys.argv:
        for page in stale:
            print(f"{page.relative_to(ROOT)} differs from the kept results; run: python benchmarks/tables.py")
        return bool(stale)
    for page in stale:
        page.write_text(rewritten(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
