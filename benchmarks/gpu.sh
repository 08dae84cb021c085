#!/usr/bin/env bash
# Everything that wants a GPU, in at most 25 minutes on one data-centre card: worlds to ship, and their evaluations.
#   benchmarks/gpu.sh                              results and packed worlds in runs/gpu/keep
#   QUICK=1 DEVICE=cpu OUT=/tmp/try benchmarks/gpu.sh   every command once, in minutes, without a card
set -eu
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda} OUT=${OUT:-runs/gpu} QUICK=${QUICK:-0}
begun=$SECONDS
mkdir -p "$OUT/keep"

few() { [ "$QUICK" = 1 ] && echo "$1" || echo "$2"; }
size() { [ "$QUICK" = 1 ] && echo "$1:tiny" || echo "$1$2"; }
say() { printf '\n=== %s (minute %d)\n' "$1" $(((SECONDS - begun) / 60)); }

say recording
reelworld record CarRacing-v3 --out "$OUT/cars" --episodes "$(few 8 400)" --max-steps "$(few 40 500)"
reelworld record CarRacing-v3 --out "$OUT/cars-test" --episodes "$(few 4 64)" --max-steps "$(few 40 320)" --seed 1000000
reelworld record MiniGrid-DoorKey-8x8-v0 --out "$OUT/doors" --episodes "$(few 10 1500)"
reelworld record MiniGrid-DoorKey-8x8-v0 --out "$OUT/doors-test" --episodes "$(few 4 128)" --seed 1000000

world() { # name, size of pocket, minutes, data, then further settings: train, pack, measure, bench
  local name=$1 system=$2 minutes=$3 data=$4
  shift 4
  say "$name"
  reelworld train "$system" --data "$OUT/$data" --out "$OUT/$name" --device "$DEVICE" --max-minutes "$minutes" "$@"
  reelworld pack "$OUT/$name" --out "$OUT/keep/$name"
  reelworld eval "$OUT/keep/$name" --data "$OUT/$data-test" --train-data "$OUT/$data" --split all --device "$DEVICE" \
    --clips "$(few 2 64)" --free-run-steps "$(few 5 300)" --key-tests "$(few 1 64)" --control-starts "$(few 4 200)" \
    --inverse-steps "$(few 2 800)" --stability-steps "$(few 50 1000)" --stability-runs "$(few 1 8)" \
    --simulator-episodes "$(few 1 16)" --out "$OUT/$name/eval" --card
  cp "$OUT/$name/eval/results.json" "$OUT/keep/$name-eval.json"
  reelworld bench "$OUT/keep/$name" --device "$DEVICE" --steps "$(few 5 200)" --warmup "$(few 1 20)" --allow-busy \
    --out "$OUT/keep/$name-bench.json"
}

arm() { # worlds of the two-link arm from three seeds, beside everything else
  local quick
  quick=$(few "--tokenizer.steps 6 --frame-prior.steps 3 --dynamics.steps 6" "")
  for part in recording=3600=0 test-recording=64=1000000 reward-recording=256=2000000; do
    IFS== read -r folder episodes seed <<<"$part"
    reelworld record dm_control/reacher-easy --out "$OUT/robots/reacher/$folder" --episodes "$(few 8 "$episodes")" \
      --max-steps "$(few 50 100)" --seed "$seed"
  done
  # shellcheck disable=SC2086
  python benchmarks/robot_worlds.py --tasks reacher --runs "$OUT/robots" --clips "$(few 4 48)" --threads 4 \
    --out "$OUT/keep/ivideogpt-robots-gpu.json" --train-flags --device "$DEVICE" $quick
}
arm >"$OUT/arm.log" 2>&1 &
arm=$!

long=$(few "" "--tokenizer.width 192 --tokenizer.steps 60000 --tokenizer.batch 64 --dynamics.steps 100000 --dynamics.batch 32")
# shellcheck disable=SC2086
world driving "$(size pocket :medium)" "$(few 1 12)" cars --tokenizer.time-fraction 0.3 --dynamics.context-noise 0.15 $long
world doorkey "$(size pocket '')" "$(few 1 3)" doors
world genie-driving "$(size genie '')" "$(few 1 4)" cars
say "the arm, begun at first (its log: $OUT/arm.log)"
wait $arm
say "done: $OUT/keep"
