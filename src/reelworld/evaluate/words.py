"""The plain words beside every figure: what it is, what it means, which way is better.

Names that end in ``_h4`` share the words of their stem; ``{h}`` stands for the steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Better", "Words", "words"]

Better = Literal["higher", "lower", "near the data", ""]


@dataclass(frozen=True)
class Words:
    """What a figure is called and how to read it."""

    label: str
    explanation: str
    better: Better = "higher"


WORDS = {
    "tokenizer_psnr": Words(
        "Reconstruction",
        "How close frames are after being turned into codes and back. Above about 40 dB the eye sees no "
        "difference; nothing the world predicts can be sharper than this.",
    ),
    "tokenizer_ssim": Words("Structural similarity", "Whether edges and textures survive; 1 is perfect."),
    "tokenizer_worst_patch_psnr": Words(
        "Worst 8x8 patch",
        "The worst patch of each frame, at the 5th percentile of frames. A small thing that is missing (an "
        "agent, a key) shows here and in no average.",
    ),
    "tokenizer_tiles_right": Words(
        "Tiles told apart", "Each decoded tile, read as the nearest tile of the game, is the right one."
    ),
    "tokenizer_kinds_right": Words(
        "Kinds of tile always right", "Rare tiles count as much as common ones here: the agent, a key, a door."
    ),
    "codebook_usage": Words("Codes in use", "Share of the codebook that occurs at all in these clips.", ""),
    "codebook_perplexity": Words(
        "Perplexity", "How many codes would be needed if all were used equally often.", ""
    ),
    "codes_unchanged": Words(
        "Codes that stay",
        "Codes that are the same in the next frame. If far fewer codes stay than patches, the world has to "
        "predict noise.",
        "near the data",
    ),
    "nats_per_frame": Words(
        "Surprise per frame",
        "Nats the world pays for each recorded frame (kind: {kind_of_score}). Comparable only between worlds "
        "with the same tokenizer and the same kind.",
        "lower",
    ),
    "psnr": Words("Closeness after {h} steps", "Predicted against recorded frames, {h} steps after the context."),
    "gain": Words(
        "Better than standing still, {h} steps",
        "PSNR of the prediction minus PSNR of repeating the last frame seen, on the same frames.",
    ),
    "exact": Words("Frames exactly right after {h} steps", "Predicted frames without any wrong tile or pixel."),
    "psnr_changed": Words("Closeness where something moves", "One step ahead, only steps whose frame changes."),
    "psnr_unchanged": Words("Closeness where nothing moves", "One step ahead, only steps that change nothing."),
    "psnr_mean": Words(
        "Mean of {k} samples, {h} steps",
        "PSNR of the per-pixel mean of {k} drawn futures against what happened. Where the future is open this is the "
        "best guess that a picture can be.",
    ),
    "gain_mean": Words(
        "Mean of {k} better than standing still, {h} steps",
        "PSNR of the mean of {k} samples minus PSNR of repeating the last frame seen, from the same starts.",
    ),
    "psnr_single": Words(
        "Single samples, {h} steps",
        "Each drawn future alone. It may be right in itself and still not be what happened, so that there is no bar.",
        "",
    ),
    "psnr_best": Words(
        "Best of {k}, knowing the answer, {h} steps",
        "From each start the sample that comes closest to what happened, chosen afterwards: what the samples reach, "
        "not a prediction.",
        "",
    ),
    "samples_apart": Words(
        "Closeness of two samples, {h} steps",
        "PSNR between two samples of one start. If the world knew all that can be known, two samples would be as far "
        "apart as a sample and what happened; much closer (a higher number, infinite for a world that always draws "
        "the same): it draws too much of one future.",
        "near the data",
    ),
    "agent": Words(
        "Agent in the right cell, {h} steps",
        "The cell in which most of {k} samples show the agent is the one it really went to. A sample without an agent, "
        "or with two, is no vote.",
    ),
    "gain_agent": Words(
        "... more often than standing still, {h} steps",
        "Share of starts with the right cell minus the share that the agent's last cell seen is right, in points.",
    ),
    "agent_single": Words(
        "Agent right in single samples, {h} steps",
        "Each sample alone; one without an agent, or with two, is wrong.",
        "",
    ),
    "agent_lost": Words(
        "Samples without one agent, {h} steps", "Samples in which no agent is found, or more than one.", "lower"
    ),
    "nats_per_code": Words(
        "Surprise per code",
        "Nats the world pays for each code of held-out clips, exactly. The predictors beside it count codes of "
        "training clips, or copy the code that was at the same place before.",
        "lower",
    ),
    "nats_over_best": Words(
        "... minus the best simple predictor",
        "Surprise per code minus that of: {best}. Below zero the world knows more; the interval is of the difference.",
        "lower",
    ),
    "nats_per_later_code": Words(
        "Surprise per code after the first latent frame",
        "Only latent frames that another one comes before, which can be copied.",
        "lower",
    ),
    "clip_psnr": Words("PSNR of future frames", "Mean over {k} samples of each start, of squared errors, then in dB."),
    "clip_ssim": Words("SSIM of future frames", "Mean over {k} samples of each start; 1 is perfect."),
    "clip_lpips": Words(
        "LPIPS of future frames", "How different they look to a network, mean over {k} samples; 0 is perfect.", "lower"
    ),
    "best_psnr": Words(
        "PSNR, best of {k}, context included", "Mean over frames of each frame's dB, at most 80; the best sample."
    ),
    "best_ssim": Words("SSIM, best of {k}, context included", "Mean over frames; the best sample. 1 is perfect."),
    "best_lpips": Words(
        "LPIPS, best of {k}, context included", "Mean over frames; the best sample. 0 is perfect.", "lower"
    ),
    "lpips_missing": Words(
        "LPIPS", "Missing: its weights. Give the state of lpips.LPIPS(net='vgg') as .safetensors with --lpips.", "lower"
    ),
    "clips_missing": Words(
        "Whole clips", "Missing: episodes of {frames} frames behind a start; record longer ones.", ""
    ),
    "fvd": Words(
        "Frechet video distance",
        "Distance of the world's future frames from those of {many} recorded clips, mean over {k} samples of each, "
        "beside that of other clips. It comes out too large for few clips, so compare numbers from as many clips only "
        "({usual} are usual).",
        "lower",
    ),
    "fvd_published": Words(
        "Frechet video distance, all {k} samples, context included",
        "Distance of {k} clips of the world for each of {many} recorded ones from these. The more clips, the smaller.",
        "lower",
    ),
    "fvd_missing": Words(
        "Frechet video distance",
        "Missing: the I3D network as a TorchScript file. Fetch i3d_torchscript.pt (its address is in the README and "
        "scripts of github.com/universome/fvd-comparison and stylegan-v) and give its path with --i3d.",
        "lower",
    ),
    "delta_shuffled": Words(
        "Control over {h} steps: keys of another clip",
        "PSNR under the recorded actions minus PSNR under those of another clip, with the same noise. Zero "
        "means that the world ignores its actions.",
    ),
    "delta_uniform": Words(
        "Control over {h} steps: random keys",
        "The same with actions drawn uniformly. Random presses can cancel out, which makes this smaller.",
    ),
    "following": Words(
        "Actions that can be read off the world's frames",
        "Steps in which a network that learned from recordings reads the action that was taken. Near its share on the "
        "recordings themselves: the world shows what was pressed.",
    ),
    "following_r2": Words(
        "Actions that can be read off the world's frames",
        "Share of the variance of the actions (R2, mean over their numbers) that a network that learned from "
        "recordings reads off the frames.",
    ),
    "drift_within": Words(
        "Blocks that look and move like the game",
        "Blocks of 50 frames in which all six numbers below lie where 99% of recorded blocks lie. A picture that "
        "stands still fails, and so does one texture all over.",
    ),
    "drift_last_within": Words("... the last block of each run", "The same at the end of the run."),
    "drift_red": Words("Red as usual", "Blocks whose mean red lies in the recordings' range."),
    "drift_green": Words("Green as usual", "The same for green."),
    "drift_blue": Words("Blue as usual", "The same for blue."),
    "drift_contrast": Words("Contrast as usual", "The same for the spread of brightness over a frame."),
    "drift_edges": Words("Edges as usual", "The same for the energy of brightness gradients: detail."),
    "drift_motion": Words("Motion as usual", "The same for the mean difference of neighbouring frames."),
    "driving_motion": Words(
        "Motion from frame to frame",
        "PSNR between neighbouring frames while somebody drives. Above 34 dB the world stands still, below 22 dB it "
        "flickers.",
        "near the data",
    ),
    "driving_moves": Words(
        "Blocks that move as driving does", "Blocks of 50 frames with 22 to 34 dB between neighbouring frames."
    ),
    "driving_road": Words("Road in the picture", "Mean share of the picture that is road.", "near the data"),
    "driving_keeps_road": Words(
        "Blocks that keep their road",
        "Blocks of 50 frames whose share of road is within 40% of the same driver's mean in the game.",
    ),
    "driving_connected": Words(
        "Frames whose road hangs together", "Its largest piece has more than 90% of the road pixels."
    ),
    "simulated_psnr": Words(
        "Closeness to the live game after {h} steps",
        "Predicted frames against those that the simulator shows under the same actions, {h} steps after the context.",
    ),
    "gain_simulated": Words(
        "... better than standing still, {h} steps", "PSNR minus that of repeating the last frame seen."
    ),
    "latent_purity": Words(
        "Purity",
        "Steps whose recorded action is the most frequent one of their latent action. Steps that change nothing in the "
        "picture are left out: nobody can see what was pressed.",
    ),
    "latent_information": Words(
        "Information about the recorded action",
        "How much of what there is to know about the recorded action the latent one tells: mutual information as a "
        "share of the entropy of the recorded actions.",
    ),
    "latent_codes_used": Words("Latent actions in use", "Share of the latent actions that occur at all.", ""),
    "latent_perplexity": Words(
        "Perplexity of latent actions", "How many there would be if all were used equally often; 1 is a collapse.", ""
    ),
    "one_step_frames_exact": Words(
        "Next frame exactly right", "From true frames, one step under the true action: every tile is right."
    ),
    "one_step_changed_frames_exact": Words(
        "Next frame right when something changes", "The same, only steps that change the picture."
    ),
    "one_step_unchanged_frames_exact": Words(
        "Next frame right when nothing changes", "The same, only steps that change nothing: copying is right."
    ),
    "one_step_tiles_right": Words("Tiles right", "All tiles of the next frame, still ones included."),
    "one_step_changed_tiles_right": Words(
        "Changed tiles right", "Only the tiles that differ from the frame before."
    ),
    "one_step_change_f1": Words(
        "F1 of changes",
        "Tiles that the world changes beside tiles that change: rightly changed ones twice, over both together. A copy "
        "of the last frame has 0.",
    ),
    "rare_changes_exact": Words(
        "Rare changes right",
        "Steps with a change of tile that the training recordings show in under 3% of changing steps.",
    ),
    "events_exact": Words("Events right", "Pick-ups, drops and door toggles: the whole next frame is right."),
    "event_pick_up_exact": Words("Pick-ups right", "The whole next frame is right."),
    "event_drop_exact": Words("Drops right", "The whole next frame is right."),
    "event_toggle_exact": Words("Door toggles right", "Opening and closing, unlocking included."),
    "event_unlock_exact": Words("Unlocks right", "The first opening of a locked door."),
    "reward_r2": Words(
        "Reward explained",
        "R2 of the expected reward: 1 minus its squared error over the variance of the recorded rewards.",
    ),
    "reward_error": Words(
        "Error of the reward",
        "Distance between the expected and the recorded reward of a step, on average. Where few steps pay, always "
        "expecting zero is hard to beat: the next line looks at those that do.",
        "lower",
    ),
    "reward_error_paid": Words("... where there is one", "The same, only steps that pay something.", "lower"),
    "reward_auc": Words(
        "Paid steps told apart",
        "AUC: how often a step that brings a reward is expected to bring more than one that brings none.",
    ),
    "ends_auc": Words(
        "Ends told apart",
        "AUC: how often a step that ends the episode gets a higher probability of that than one that does not.",
    ),
    "ends_foreseen": Words(
        "Ends foreseen", "Steps that end the episode, and for which the world holds that likelier than not."
    ),
    "ends_true": Words(
        "Foreseen ends that come", "Of the steps for which the world says that the episode ends, those that end it."
    ),
    "carried_key_works": Words(
        "The carried key still works",
        "Free-running from the start of an episode, an object picked up is used after 25 or more steps of "
        "carrying: the door opens, the dropped key lies where it should.",
    ),
    "carried_key_toggle_works": Words("... opens the door", "Only episodes that end with a toggle."),
    "carried_key_drop_works": Words("... can be dropped", "Only episodes that end with a drop."),
    "free_run_frames_exact": Words(
        "Frames right in a free run",
        "The world runs on its own predictions under the recorded actions; mean over all scored steps.",
    ),
    "free_run_tiles_right": Words("Tiles right in a free run", "Mean over all scored steps and tiles."),
    "free_run_psnr": Words("Closeness in a free run", "Predicted against recorded frames, all scored steps."),
    "free_run_motion": Words(
        "Motion from frame to frame",
        "PSNR between consecutive frames of the run. Far above the data: the world freezes. Far below: it "
        "flickers.",
        "near the data",
    ),
    "free_run_live_codes": Words(
        "Live codes",
        "Distinct codes in the predicted frames of a clip, on average; few means that detail dies out.",
        "near the data",
    ),
}  # fmt: skip


def words(name: str, **values: str) -> Words:
    """Look up the words of a figure, with its horizon and other values filled in."""
    found = re.fullmatch(r"(.+?)_h(\d+)", name)
    stem, horizon = (found[1], found[2]) if found else (name, "")
    entry = WORDS[stem]
    values = {"h": horizon, **values}
    label, explanation = entry.label.format(**values), entry.explanation.format(**values)
    if horizon == "1":
        label, explanation = label.replace("1 steps", "1 step"), explanation.replace("1 steps", "1 step")
    return Words(label, explanation, entry.better)
