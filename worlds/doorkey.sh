#!/usr/bin/env bash
# MiniGrid DoorKey-8x8: record, train, measure, pack. Writes src/reelworld/shipped/doorkey.
# HIGHLIGHT=true makes the harder variant with the lit field of view, which is measured and not shipped.
set -eu
cd "$(dirname "$0")/.."
HIGHLIGHT=${HIGHLIGHT:-false}
runs=runs/worlds/doorkey$([ "$HIGHLIGHT" = true ] && echo -highlight || true)
out=$([ "$HIGHLIGHT" = true ] && echo "$runs/packed" || echo src/reelworld/shipped/doorkey)
record=(reelworld record MiniGrid-DoorKey-8x8-v0 --env-kwargs "{\"highlight\": $HIGHLIGHT}")
"${record[@]}" --out "$runs/recording" --episodes 1500
"${record[@]}" --out "$runs/test-recording" --episodes 128 --seed 1000000
reelworld train pocket --data "$runs/recording" --out "$runs/run" --tokenizer.steps 1500 --dynamics.steps 2500 --threads 1
reelworld pack "$runs/run" --out "$out" --name "DoorKey" --known-limitations \
  "The step counter and the time limit of 640 steps are not in the picture: the world never ends an episode by time." \
  "After the goal is reached recordings end, so what happens there is made up; start over." \
  "Larger rooms, other objects and other colours than DoorKey-8x8's have never been seen."
reelworld eval "$out" --data "$runs/test-recording" --train-data "$runs/recording" --split all --clips 64 \
  --out "$runs/eval" --threads 1 --card
