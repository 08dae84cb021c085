"""Write the tables of README.md and docs/ from the kept results, so that no number is typed by hand.

    python benchmarks/tables.py           rewrite the blocks between <!-- BEGIN name --> and <!-- END name -->
    python benchmarks/tables.py --check   exit 1 if a page says something else than the results (a test runs this)

Results are kept in benchmarks/results/, each with its command, commit, hardware and seeds.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_tables import tuning_lines, world_lines
from steadiness import curve_lines, memory_lines, noise_lines

from reelworld.evaluate.report import interval_text, value_text

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

DOORKEY = {
    "tokenizer_tiles_right": "tokenizer: tiles told apart",
    "tokenizer_psnr": "tokenizer: PSNR",
    "one_step_frames_exact": "next frame exact (all 64 tiles)",
    "one_step_changed_frames_exact": "... of those where something changes",
    "one_step_unchanged_frames_exact": "... of those where nothing changes",
    "events_exact": "pick-ups, drops, door toggles exact",
    "free_run_frames_exact": "100 free-running steps: frames exact",
    "carried_key_works": "key carried 25 steps and more still works",
}
CARRACING = {
    "tokenizer_psnr": "tokenizer: PSNR",
    "psnr_h1": "PSNR one step ahead",
    "gain_h1": "... above copying the last frame",
    "psnr_h4": "PSNR four steps ahead",
    "gain_h4": "... above copying the last frame",
    "delta_shuffled_h4": "delta-4: true minus another clip's actions",
    "delta_uniform_h4": "delta-4: true minus random actions",
    "free_run_motion": "free run: PSNR between neighbouring frames",
}


VIDEOGPT = {
    "tokenizer_psnr": "VQ-VAE: PSNR",
    "nats_per_code": "nats per code",
    "nats_over_best": "... minus those of the best predictor",
    "psnr_mean_h4": "mean of 8 samples, 4 steps ahead: PSNR",
    "gain_mean_h4": "... above copying the last frame",
    "psnr_mean_h6": "mean of 8 samples, 6 steps ahead: PSNR",
    "gain_mean_h6": "... above copying the last frame",
    "psnr_single_h4": "a single sample, 4 steps ahead: PSNR",
    "agent_h4": "agent's cell right, 4 steps ahead: most of 8 samples",
    "gain_agent_h4": "... minus the last frame's",
    "agent_single_h4": "... a single sample",
}


FOUND = {
    ("found", "latent_purity"): "purity of latent actions",
    ("found", "latent_information"): "information about the recorded action",
    ("found", "latent_codes_used"): "latent actions in use",
    ("found", "latent_perplexity"): "perplexity of latent actions",
    ("found", "tokenizer_psnr"): "tokenizer: PSNR",
    ("found", "gain_h4"): "four steps ahead, above copying the last frame",
    ("found", "delta_uniform_h4"): "delta-4: inferred minus random latent actions",
    ("found", "delta_shuffled_h4"): "delta-4: inferred minus another clip's",
    ("found", "free_run_motion"): "free run: PSNR between neighbouring frames",
    ("found", "free_run_frames_exact"): "free run: frames exact",
    ("drift", "drift_within"): "300 free frames: blocks of 50 that look and move like the game",
    ("drift", "drift_motion"): "... that move as much",
    ("found", "one_step_change_f1"): "F1 of changed tiles, inferred latent actions",
    ("steered", "one_step_change_f1"): "F1 of changed tiles, real keys through the map",
    ("given", "one_step_change_f1"): "F1 of changed tiles, trained with true actions",
}


VIDEOGPT_SMOOTH = {k: v for k, v in VIDEOGPT.items() if "agent" not in k and not k.endswith("h6")}


def load(name: str) -> Any:
    """Read a kept result."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """Index an evaluation's figures by name."""
    return {f["name"]: f for section in results["sections"] for f in section["figures"]}


def quality(name: str, rows: Mapping[str, str]) -> str:
    """Make a table of an evaluation: value, interval, baselines, count; its source below."""
    results = load(name)
    found = figures(results)
    lines = ["| | world | 95% interval | copy of the last frame | first frame | n |", "|---|---|---|---|---|---|"]
    for key, label in rows.items():
        figure = found[key]
        beside = figure["baselines"]
        given = {k: value_text({**figure, "value": v, "is_gain": False}) for k, v in beside.items()}
        copied, first = (given.pop(k, "") for k in ("copy of the last frame seen", "first frame of the clip"))
        others = "; ".join(f"{v} ({k})" for k, v in given.items())
        interval = interval_text(figure)
        lines.append(
            f"| {label} | **{value_text(figure)}** | {interval} | {copied or others} | {first} | {figure['n']:,} |"
        )
    return "\n".join(lines) + "\n\n" + source(name, results)


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
    lines = ["| world, one thread | what | median | p95 | limit measured in the same run |", "|---|---|---|---|---|"]
    for name, label in names.items():
        for row in load(name)["results"]:
            if row["threads"] != 1:
                continue
            unit = row["unit"]
            limit = f"{number(row['limit'])} {unit} ({row['limit_is']})" if row.get("limit") else ""
            lines.append(
                f"| {label} | {row['what']} | {number(row['median'])} {unit} | {number(row['p95'])} | {limit} |"
            )
            label = ""
    return "\n".join(lines) + "\n\n" + "\n\n".join(source(name, load(name)) for name in names)


def sampling(name: str) -> str:
    """Make a table of drawing tokens beside the published way, and of coding clips."""
    results = load(name)
    rows = {(r["what"], r["dtype"]): r for r in results["results"]}
    lines = ["| one clip at a time | type | ours | the published way | ratio | of the limit |", "|---" * 6 + "|"]
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
        lines.append(f"| {what} | {dtype} | {ours} | {theirs} | {ratio:.2f}x | {share} |")
    return "\n".join(lines) + "\n\n" + source(name, results)


def caching(name: str) -> str:
    """Make a table of frames drawn with a cache beside recomputing the window."""
    results = load(name)
    rows = {r["what"]: r for r in results["results"]}
    lines = ["| passes per frame | type | cached | recomputing the window | gain | at most |", "|---" * 6 + "|"]
    for row in rows.values():
        if "gain" not in row:
            continue
        whole = rows[f"a frame in {row['passes']} passes, recomputing the window"]
        both = (f"{number(r['median'] / 1e3)} s" for r in (row, whole))
        least, most = row["gain_least_to_greatest"]
        gain = f"**{row['gain']:.1f}x** ({least:.1f} to {most:.1f} over {row['n']} turns)"
        limit = f"{row['gain_limit']:.1f}x"
        lines.append(f"| {row['passes']} | {row['dtype']} | {' | '.join(both)} | {gain} | {limit} |")
    return "\n".join(lines) + "\n\n" + source(name, results)


def robots(name: str) -> str:
    """Make a table of an iVideoGPT world's steps beside the published way and the limit; a line while there is none."""
    if not (RESULTS / name).exists():
        return "There is no kept run yet; `python benchmarks/ivideogpt_speed.py --out` makes one on a quiet machine."
    results = load(name)
    lines = ["| one machine, in turns | type | time | codes | tokens/s | of the limit | gain |", "|---" * 7 + "|"]
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
        lines.append(f"| {row['what']} | {row['dtype']} | {time} | {codes} | {rate} | {share} | {gain} |")
    return "\n".join(lines) + "\n\n" + source(name, results)


def playing(name: str) -> str:
    """Make a table of how it is to play: the delay of a key, crowds of players, the start."""
    results = load(name)
    key, start = results["key_to_pixel"], results["first_frame_seconds"]["median"]
    lines = [
        f"First frame {start:.1f} s after the command. From a key to a changed pixel {both(key['delay_ms'])} ms (p50, "
        f"p95), of which the world's own step took {both(key['step_ms'])} ms; "
        f"{key['presses_that_changed_a_pixel']} presses.",
        "",
        "| players | frames/s, all | action to frame, p50 | p95 | least share of a fair one | MiB per player |",
        "|" + "---|" * 6,
    ]
    for crowd in results["crowds"]:
        rate, share = f"{crowd['frames_per_second']:.1f}", f"{100 * crowd['least_share_of_fair']:.0f}%"
        p50, p95 = (f"{crowd['delay_ms'][name]:.0f} ms" for name in ("p50", "p95"))
        memory = f"{crowd['mib_per_player_after']:.1f}"
        lines.append(f"| {' | '.join([str(crowd['players']), rate, p50, p95, share, memory])} |")
    note = f" Note: {results['note']}" if results["note"] else ""
    return "\n".join(lines) + "\n\n" + source(name, results) + note


def both(values: Mapping[str, float]) -> str:
    """Show a median and a 95th percentile."""
    return f"{values['p50']:.0f} and {values['p95']:.0f}"


def encodings(name: str) -> str:
    """Make a table of what frames cost: milliseconds and bytes by encoding, size and picture."""
    results = load(name)
    rows = results["encodings"]
    columns = list(dict.fromkeys((row["picture"], row["size"]) for row in rows))
    found = {(row["encoding"], row["picture"], row["size"]): row for row in rows}
    lines = ["| | " + " | ".join(f"{kind}, {size}x{size}" for kind, size in columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    for way in dict.fromkeys(row["encoding"] for row in rows):
        cells = [found[way, *column] for column in columns]
        lines.append(f"| {way} | " + " | ".join(f"{c['ms']:.2f} ms, {c['bytes'] / 1e3:.1f} kB" for c in cells) + " |")
    return "\n".join(lines)


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
    lines = ["| learned from | return | 95% interval | by seed of the learning | games solved |", "|---" * 5 + "|"]
    for row in sorted(results["results"], key=lambda r: (list(PLAYERS).index(r["who"]), r["labels"])):
        who = PLAYERS[row["who"]] + counts.get(row["labels"], f" {row['labels']:,} steps")
        seeds = ", ".join(f"{v:.2f}" for v in row["by_seed"]) if len(row["by_seed"]) > 1 else ""
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"| {who} | **{row['return']:.2f}** | {interval} | {seeds} | {100 * row['solved']:.0f}% |")
    lines += [
        "",
        "| labelled steps | return gained by watching | 95% interval | by seed of the learning |",
        "|---" * 4 + "|",
    ]
    for row in results["gains"]:
        seeds, interval = ", ".join(f"{v:+.2f}" for v in row["by_seed"]), f"{row['low']:+.2f} to {row['high']:+.2f}"
        lines.append(f"| {row['labels']:,} | **{row['return']:+.2f}** | {interval} | {seeds} |")
    games = results["results"][0]["games"]
    time = f"{results['cpu_seconds'] / 60:.0f} CPU minutes with {results['threads']} thread"
    return "\n".join(lines) + f"\n\n{games} games; {time}. " + source(name, results)


def found_worlds(name: str) -> str:
    """Make a table of worlds that found their own actions: a column per seed, the same without any skill beside it."""
    results = load(name)
    seeds = results["results"]
    names = " | ".join(f"seed {row['seed']}" for row in seeds)
    lines = [f"| | {names} | beside it |", "|---" * (len(seeds) + 2) + "|"]
    for (part, key), label in FOUND.items():
        found = [row.get(part, {}).get(key) for row in seeds]
        first = next((f for f in found if f), None)
        if first is None:
            continue
        beside = {k: value_text({**first, "value": v}) for k, v in first["baselines"].items()}
        cells = [f"**{value_text(f)}** ({interval_text(f)})" if f else "not measured" for f in found]
        lines.append(f"| {label} | {' | '.join(cells)} | {'; '.join(f'{v} ({k})' for k, v in beside.items())} |")
    maps = [row["map"] for row in seeds]
    cells = [f"**{100 * m['accuracy']:.1f}%** ({100 * m['low']:.1f} to {100 * m['high']:.1f}%)" for m in maps]
    beside = f"{100 * maps[0]['most_frequent']:.1f}% (most frequent); {100 * maps[0]['chance']:.1f}% (drawn)"
    lines.append(f"| real action named, map from {results['labels']} labels | {' | '.join(cells)} | {beside} |")
    if any("given" in row for row in seeds):
        cells = []
        for row in seeds:
            values = [row[part]["one_step_change_f1"]["value"] for part in ("steered", "given") if part in row]
            cells.append(f"**{100 * values[0] / values[1]:.0f}%**" if len(values) == 2 else "not measured")
        lines.append(f"| F1 by real keys, of the F1 with true actions | {' | '.join(cells)} | |")
    minutes = sorted(sum(row["training_minutes"].values()) for row in seeds)
    spent = f"Trained for {minutes[0]:.0f} to {minutes[-1]:.0f} minutes, by the clock on the wall."
    return "\n".join(lines) + f"\n\n{spent} " + source(name, results)


def compressive(name: str) -> str:
    """Make a table of tokenizers at equal parameters and CPU time: means over seeds, least and greatest."""
    results = load(name)
    columns: dict[str, Callable[[Any], float]] = {
        "codes per frame": lambda r: r["tokens_per_frame"],
        "reconstruction (dB)": lambda r: r["reconstruction_psnr"],
        "mean of 4, 1 step (dB)": lambda r: r["figures"]["psnr_mean_h1"]["value"],
        "5 steps": lambda r: r["figures"]["psnr_mean_h5"]["value"],
        "10 steps": lambda r: r["figures"]["psnr_mean_h10"]["value"],
        "... above a copy": lambda r: r["figures"]["gain_mean_h10"]["value"],
        "nats per frame": lambda r: r["nats_per_frame"],
        "frames/s": lambda r: r["frames_per_cpu_second"],
        "tokens/s": lambda r: r["tokens_per_cpu_second"],
        "tokenizer steps/s": lambda r: r["training"]["tokenizer"]["steps_per_cpu_second"],
        "transformer steps/s": lambda r: r["training"]["dynamics"]["steps_per_cpu_second"],
        "million parameters": lambda r: sum(r["parameters"].values()) / 1e6,
    }
    lines = [f"| tokenizer | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for kind in dict.fromkeys(row["tokenizer"] for row in results["results"]):
        rows = [row for row in results["results"] if row["tokenizer"] == kind]
        lines.append(f"| {kind} | {' | '.join(spread([column(row) for row in rows]) for column in columns.values())} |")
    note = (
        f"{results['clips']} test episodes; {results['minutes']:g} CPU-minutes for each tokenizer and transformer, "
        "one thread; speeds are per CPU-second. Nats are of each one's own codes: not to be compared between rows."
    )
    return "\n".join(lines) + f"\n\n{note} " + source(name, results)


def spread(values: list[float]) -> str:
    """Show a mean, and the least and the greatest where they differ."""
    mean, least, most = (number(v) for v in (sum(values) / len(values), min(values), max(values)))
    return mean if least == most else f"{mean} ({least} to {most})"


def conditionings(name: str) -> str:
    """Make a table of ways to tell a frame its action: means over seeds, least and greatest."""
    results = load(name)
    columns = {
        "nats": "nats per frame",
        "exact_when_something_changes": "changed frames exact",
        "nats_more_with_other_actions": "nats more under another clip's actions",
        "cpu_seconds": "CPU-seconds",
    }
    lines = [f"| conditioning | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for kind in dict.fromkeys(row["conditioning"] for row in results["results"]):
        rows = [row for row in results["results"] if row["conditioning"] == kind]
        cells = []
        for column in columns:
            values = [row[column] for row in rows]
            spread = f"{number(min(values))} to {number(max(values))}"
            mean = number(sum(values) / len(values))
            cells.append(f"{mean} ({spread})" if len(values) > 1 else mean)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    seeds = sorted({row["seed"] for row in results["results"]})
    return "\n".join(lines) + "\n\n" + source(name, {**results, "seeds": seeds})


def memory(name: str) -> str:
    """Make a table of what worlds with long and short windows remember."""
    results = load(name)
    counts = f"{results['objects']} objects from {results['starts']} starts in fresh rooms. "
    return "\n".join(memory_lines(results)) + f"\n\n{counts}" + source(name, results)


def curve(name: str) -> str:
    """Make a table of how a tokenizer learned, and what it reached on validation frames."""
    results = load(name)
    reached = f"{results['validation']['val_psnr']:.1f} dB on validation frames at the end, mean over frames. "
    return "\n".join(curve_lines(results)) + f"\n\n{reached}" + source(name, results)


def noise(name: str) -> str:
    """Make a table of worlds trained with and without noise on the past."""
    results = load(name)
    seeds = sorted({row["seed"] for row in results["results"]})
    counts = f"{results['clips']} episodes, long runs and drives of {results['run_steps']} steps. "
    return "\n".join(noise_lines(results)) + f"\n\n{counts}" + source(name, {**results, "seeds": seeds})


def robot_worlds(name: str) -> str:
    """Make a table of worlds of recorded robots."""
    results = load(name)
    spent: dict[str, list[float]] = {}
    for row in results["results"]:
        spent.setdefault(row["task"], []).append(sum(row["minutes"].values()))
    shown = ", ".join(f"{task} {min(minutes):.0f} to {max(minutes):.0f}" for task, minutes in spent.items())
    episodes = {row["task"]: row["reward_episodes"] for row in results["results"]}
    scored = ", ".join(f"{task} {n}" for task, n in episodes.items())
    counts = f"{results['clips']} test episodes, for rewards {scored}; minutes of training by the clock: {shown}. "
    return "\n".join(world_lines(results)) + f"\n\n{counts}" + source(name, results)


def fine_tuning(name: str) -> str:
    """Make a table of what other robots bring to a few demonstrations."""
    results = load(name)
    return "\n".join(tuning_lines(results)) + "\n\n" + source(name, results)


def waiting(name: str) -> str:
    """Make a table of ways in which threads wait: steps per second alone and beside a busy program."""
    results = load(name)
    rates = {(row["waiting"], row["beside"]): number(row["median"]) for row in results["results"]}
    lines = ["| steps per second | alone | beside one busy program |", "|---|---|---|"]
    for way in dict.fromkeys(row["waiting"] for row in results["results"]):
        lines.append(f"| {WAYS.get(way, way)} | {rates[way, 'nothing']} | {rates[way, 'one busy program']} |")
    rounds = len(results["results"][0]["all"])
    return "\n".join(lines) + f"\n\nMedians of {rounds} runs, {results['threads']} threads. " + source(name, results)


WAYS = {"default": "default (spin for long)", "passive": "OMP_WAIT_POLICY=PASSIVE (sleep at once)"}


def variants(name: str, columns: Mapping[str, str]) -> str:
    """Make a table of variants."""
    results = load(name)
    lines = ["| variant | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for variant, row in results["variants"].items():
        cells = [f"{row[c]:,}" if isinstance(row[c], int) else f"{row[c]:.4g}" for c in columns]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + source(name, results)


TOKENIZER = {"steps": "steps", "psnr": "PSNR (dB)", "codes_used": "codes used", "codes_unchanged": "codes unchanged"}
TILES = {**TOKENIZER, "tiles_right": "tiles right", "worst_tile_right": "rarest tiles right (worst kind)"}
DYNAMICS = {
    "steps": "steps",
    "parameters": "parameters",
    "val_nats": "nats per frame",
    "val_exact": "next frame exact",
    "val_exact_in_eventful_clips": "... in eventful clips",
    "psnr_over_copy_1": "dB over copy, 1 step",
    "psnr_over_copy_4": "4 steps",
    "psnr_over_copy_8": "8 steps",
    "play_cpu_ms": "CPU-ms per frame at play",
}
BLOCKS: dict[str, Callable[[], str]] = {
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
    "conditionings": lambda: conditionings("conditionings.json"),
    "compressive": lambda: compressive("compressive.json"),
    "ivideogpt-robots": lambda: robot_worlds("ivideogpt-robots.json"),
    "fine-tuning": lambda: fine_tuning("fine-tuning.json"),
    "ivideogpt-speed": lambda: robots("ivideogpt-speed.json"),
    "maskgit-cache": lambda: caching("maskgit-cache.json"),
    "playing": lambda: playing("playing.json"),
    "encodings": lambda: encodings("playing.json"),
    "clone-from-video": lambda: cloning("clone-from-video.json"),
    "memory": lambda: memory("memory.json"),
    "driving-tokenizer": lambda: curve("driving-tokenizer.json"),
    "context-noise-doorkey": lambda: noise("context-noise-doorkey.json"),
    "context-noise-driving": lambda: noise("context-noise-driving.json"),
    "waiting": lambda: waiting("waiting.json"),
    "speed": lambda: speed({"bench-doorkey.json": "DoorKey", "bench-carracing.json": "CarRacing"}),
    "speed-shipped": lambda: speed({f"bench-shipped-{w}.json": w for w in ("doorkey", "driving")}),
    "tokenizer-variants-doorkey": lambda: variants("tokenizer-variants-doorkey.json", TILES),
    "tokenizer-variants-carracing": lambda: variants("tokenizer-variants-carracing.json", TOKENIZER),
    "variants-doorkey": lambda: variants("variants-doorkey.json", DYNAMICS),
    "width-carracing": lambda: variants("width-carracing.json", DYNAMICS),
    "variants-carracing": lambda: variants("variants-carracing.json", DYNAMICS),
}


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
