#!/usr/bin/env bash
# Robots of dm_control at 64x64, 25 frames a second: a pole on a cart (rewards everywhere), a two-link arm (sparse ones).
set -eu
cd "$(dirname "$0")/.."
for robot in cartpole-swingup=200 reacher-easy=3600; do # two joints and a target that lies anywhere want more
  episodes=${robot#*=} robot=${robot%=*}
  runs=runs/robots/${robot%%-*}
  reelworld record "dm_control/$robot" --out "$runs/recording" --episodes "$episodes" --max-steps 100 --processes 1
  reelworld record "dm_control/$robot" --out "$runs/test-recording" --episodes 64 --max-steps 100 --seed 1000000 --processes 1
done
# Few steps of the arm pay: rewards are measured on more episodes.
reelworld record dm_control/reacher-easy --out runs/robots/reacher/reward-recording --episodes 256 --max-steps 100 --seed 2000000 --processes 1
