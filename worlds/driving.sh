#!/usr/bin/env bash
# CarRacing at 64x64, action repeat 3: record, train, choose the decoding, export, measure. Writes src/reelworld/shipped/driving.
set -eu
cd "$(dirname "$0")/.."
runs=runs/driving out=src/reelworld/shipped/driving
reelworld record CarRacing-v3 --out "$runs/recording" --episodes 120 --max-steps 500
reelworld record CarRacing-v3 --out "$runs/val-recording" --episodes 24 --max-steps 320 --seed 2000000
reelworld record CarRacing-v3 --out "$runs/test-recording" --episodes 64 --max-steps 320 --seed 1000000
reelworld train pocket --data "$runs/recording" --out "$runs/run" --tokenizer.width 160 --tokenizer.levels 8 5 5 5 5 \
  --tokenizer.steps 20000 --dynamics.width 96 --dynamics.steps 3200 --dynamics.context-noise 0.1 --threads 1
# its first line is the decoding that drives best on tracks of neither the training nor the report: given to export below
python benchmarks/driving_decoding.py --world "$runs/run" --data "$runs/val-recording" --split all --out benchmarks/results/driving-decoding.json
reelworld pack "$runs/run" --out "$out" --name "Driving" --passes 2 --temperature 0.9 --known-limitations \
  "After some seconds of free driving the road is another one than it was: the world does not remember where it has been." \
  "Far bends appear, move and vanish." \
  "It learned from 120 drives of half a minute; crashes, skids and driving backwards are rare in them."
reelworld eval "$out" --data "$runs/test-recording" --train-data "$runs/recording" --split all --clips 64 \
  --free-run-steps 300 --stability-steps 1000 --out "$runs/eval" --threads 1 --card
