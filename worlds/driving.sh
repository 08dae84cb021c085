#!/usr/bin/env bash
# CarRacing at 64x64, action repeat 3: record, train, measure, pack. Writes src/reelworld/shipped/driving.
set -eu
cd "$(dirname "$0")/.."
runs=runs/driving out=src/reelworld/shipped/driving
reelworld record CarRacing-v3 --out "$runs/recording" --episodes 120 --max-steps 500
reelworld record CarRacing-v3 --out "$runs/test-recording" --episodes 64 --max-steps 320 --seed 1000000
reelworld train pocket:medium --data "$runs/recording" --out "$runs/run" --max-minutes 75 --tokenizer-share 0.27 \
  --tokenizer-width 160 --tokenizer-steps 12000 --steps 14000 --context-noise 0.15 --event-share 0.1 --threads 1
