"""Train genie worlds without labels from three seeds and measure what they found: everything in docs/systems/genie.md.

    python benchmarks/genie_worlds.py --game doorkey --runs runs/genie --data runs/demo
    python benchmarks/genie_worlds.py --game carracing --runs runs/genie-carracing --data runs/carracing

Per seed: a world that finds its own actions; the map to real keys from 200 labels; for the tile game also the same
size trained with the recorded actions, as the ceiling. DATA holds ``recording`` (trained on) and ``test-recording``
(never seen). What is finished already is kept: run it again to go on. Seeds are fixed here, before any result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import flags, keep, minutes, reelworld, trained

SEEDS = (0, 1, 2)
LABELS = 200
GAMES: dict[str, dict[str, list[str]]] = {
    "doorkey": {"train": ["--latent-actions.augment-prob", "0.75"], "eval": ["--free-run-steps", "100"]},
    "carracing": {"train": [], "eval": ["--free-run-steps", "300", "--clips", "20"]},
}
FOUND = (
    "latent_purity", "latent_information", "latent_codes_used", "latent_perplexity", "tokenizer_psnr", "psnr_h1",
    "psnr_h4", "gain_h4", "delta_uniform_h4", "delta_shuffled_h4", "one_step_change_f1", "one_step_frames_exact",
    "open_loop_frames_exact", "open_loop_psnr", "open_loop_motion", "open_loop_live_codes",
)  # fmt: skip
DRIFT = ("stability_within", "stability_last_within", "stability_contrast", "stability_edges", "stability_motion")
DRIFT_ONLY = (
    "--stability-steps", "300", "--stability-runs", "8", "--clips", "8", "--single-steps", "20",
    "--free-run-steps", "5",
    "--control-starts", "8", "--inverse-steps", "0", "--simulator-episodes", "0",
)  # fmt: skip
STEERED = ("one_step_change_f1", "one_step_frames_exact", "delta_uniform_h4", "delta_shuffled_h4", "gain_h4")


class Worlds:
    """The worlds of one game, made by the command line as anybody would."""

    def __init__(self, game: str, runs: Path, data: Path, threads: int) -> None:
        self.options, self.runs, self.data, self.threads = GAMES[game], runs, data, threads

    def call(self, *words: str | Path) -> None:
        """Run a verb."""
        reelworld(*words, "--threads", str(self.threads))

    def trained(self, name: str, seed: int, *words: str) -> Path:
        """Train a world."""
        settings = ["--seed", str(seed), *words, "--threads", str(self.threads)]
        return trained(self.runs / f"{name}-{seed}", "genie", self.data / "recording", *settings)

    def measured(
        self, world: Path, report: Path, wanted: tuple[str, ...], settings: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Evaluate a world on the recording that training never saw."""
        if not (report / "results.json").is_file():
            test = self.data / "test-recording"
            words = ["--split", "all", "--key-tests", "0", *(settings or self.options["eval"])]
            self.call("eval", world, "--data", test, "--out", report, *words)
        results = json.loads((report / "results.json").read_text(encoding="utf-8"))
        found = {f["name"]: f for section in results["sections"] for f in section["metrics"]}
        return {name: found[name] for name in wanted if name in found}

    def of_seed(self, seed: int, has_tiles: bool, has_ceiling: bool) -> dict[str, Any]:
        """Make and measure everything of one seed; real keys and true actions are compared where tiles are."""
        run = self.trained("found", seed, *self.options["train"])
        rows: dict[str, Any] = {"seed": seed, "training_minutes": minutes(run)}
        rows["found"] = self.measured(run / "world", run / "eval", FOUND)
        rows["drift"] = self.measured(run / "world", run / "eval-drift", DRIFT, DRIFT_ONLY)
        steered = run / "steered"
        if not (steered / "world.json").is_file():
            words: list[str | Path] = ["--labels", str(LABELS), "--out", steered]
            self.call("actions", run / "world", "--data", self.data / "recording", *words)
        world = json.loads((steered / "world.json").read_text(encoding="utf-8"))
        rows["map"] = world["action_map"]["held_out"]
        if has_tiles:
            rows["steered"] = self.measured(steered, run / "eval-steered", STEERED)
        if has_tiles and has_ceiling:
            given = self.trained("given", seed, "--actions", "given")
            rows["given"] = self.measured(given / "world", given / "eval", STEERED)
        return rows


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--game", choices=list(GAMES), required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder with recording and test-recording")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), help="which seeds; kept results have all")
    parser.add_argument("--ceilings", type=int, nargs="*", default=list(SEEDS), help="seeds trained with true actions")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    worlds = Worlds(arguments.game, arguments.runs, arguments.data, arguments.threads)
    rows = [worlds.of_seed(seed, arguments.game == "doorkey", seed in arguments.ceilings) for seed in arguments.seeds]
    keep("genie-worlds", arguments.out, seeds=arguments.seeds, labels=LABELS, results=rows)


if __name__ == "__main__":
    main()
