#!/usr/bin/env bash
# CarRacing at 64x64, action repeat 3: record, train, pack, measure. Writes src/reelworld/shipped/driving.
set -eu
cd "$(dirname "$0")/.."
runs=runs/carracing out=src/reelworld/shipped/driving
reelworld record CarRacing-v3 --out "$runs/recording" --episodes 60 --max-steps 320
reelworld record CarRacing-v3 --out runs/worlds/driving/test-recording --episodes 64 --max-steps 320 --seed 1000000
reelworld train pocket --data "$runs/recording" --out "$runs/run" --max-minutes 6 --tokenizer-steps 1600 --threads 1
reelworld pack "$runs/run" --out "$out" --name "Driving" --limits \
  "After some seconds of free driving the road is another one than it was: the world does not remember where it has been." \
  "Far bends appear, move and vanish; textures of grass and kerbs are soft." \
  "It learned from six CPU-minutes on 60 short drives; crashes, skids and driving backwards are rare in them."
reelworld eval "$out" --data runs/worlds/driving/test-recording --train-data "$runs/recording" --split all --clips 64 \
  --free-run-steps 300 --drift-steps 1000 --out runs/worlds/driving/eval --threads 1 --card
