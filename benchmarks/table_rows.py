"""Rows of the tables of ``tables.py``: names of figures, and their labels."""

from __future__ import annotations

DOORKEY = {
    "tokenizer_tiles_right": "tokenizer: tiles told apart",
    "tokenizer_psnr": "tokenizer: PSNR",
    "one_step_frames_exact": "next frame exact (all 64 tiles)",
    "one_step_changed_frames_exact": "... of those where something changes",
    "one_step_unchanged_frames_exact": "... of those where nothing changes",
    "events_exact": "pick-ups, drops, door toggles exact",
    "open_loop_frames_exact": "100 free-running steps: frames exact",
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
    "open_loop_motion": "free run: PSNR between neighbouring frames",
}
VIDEOGPT = {
    "tokenizer_psnr": "VQ-VAE: PSNR",
    "nll_per_code": "nats per code",
    "nll_over_best": "... minus those of the best predictor",
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
    ("found", "open_loop_motion"): "free run: PSNR between neighbouring frames",
    ("found", "open_loop_frames_exact"): "free run: frames exact",
    ("drift", "stability_within"): "300 free frames: blocks of 50 that look and move like the game",
    ("drift", "stability_motion"): "... that move as much",
    ("found", "one_step_change_f1"): "F1 of changed tiles, inferred latent actions",
    ("steered", "one_step_change_f1"): "F1 of changed tiles, real keys through the map",
    ("given", "one_step_change_f1"): "F1 of changed tiles, trained with true actions",
}
VIDEOGPT_SMOOTH = {k: v for k, v in VIDEOGPT.items() if "agent" not in k and not k.endswith("h6")}
