// Analog input of continuous streams of two numbers: a pad to drag on, and a gamepad's stick.

const DIRECTIONS = [
  ["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"],
  ["KeyD", "KeyA", "KeyW", "KeyS"],
];
const DEAD = 0.12; // deflection of a gamepad's stick that counts as none

/**
 * Return the stick of a stream in a list; empty unless the stream has two numbers.
 * Full deflection is the action of the direction's key, or the end of the range where it has none.
 */
export function sticksOf(stream, spec, keys) {
  if (spec.kind !== "continuous" || spec.n !== 2) return [];
  const rest = spec.null ?? [0, 0];
  const codes = DIRECTIONS.find((four) => four.every((code) => code in keys));
  const [low, high] = [spec.low.length ? spec.low : [-1, -1], spec.high.length ? spec.high : [1, 1]];
  const ends = codes?.map((code) => keys[code]) ??
    [[high[0], rest[1]], [low[0], rest[1]], [rest[0], high[1]], [rest[0], low[1]]];
  const code = `@stick ${stream}`;
  const name = spec.names.length ? spec.names.join(", ") : stream;
  return [{ stream, code, name, rest, ends, usesArrows: codes === DIRECTIONS[0], chord: { stream, value: rest, codes: [code], action: "" } }];
}

/** Set a stick's action from its deflection: x to the right and y up, each in [-1, 1]. */
export function deflect(stick, x, y) {
  const horizontal = stick.ends[x > 0 ? 0 : 1];
  const vertical = stick.ends[y > 0 ? 2 : 3];
  stick.chord.value = stick.rest.map((r, i) => r + Math.abs(x) * (horizontal[i] - r) + Math.abs(y) * (vertical[i] - r));
}

/**
 * Create a pad to drag on per stick.
 * @param input {Object} press(code), moved() and release(code)
 * @returns {Map<string, HTMLElement>} code -> its pad
 */
export function makeSticks(sticks, list, { press, moved, release }) {
  const pads = new Map();
  for (const stick of sticks) {
    const pad = document.createElement("div");
    pad.className = "stick";
    pad.role = "img";
    pad.ariaLabel = `Drag pad: ${stick.name}`;
    pad.title = `Drag: ${stick.name}`;
    const knob = document.createElement("span");
    pad.append(knob);
    const follow = (event) => {
      const box = pad.getBoundingClientRect();
      const clip = (v) => Math.min(1, Math.max(-1, v));
      const x = clip((2 * (event.clientX - box.left)) / box.width - 1);
      const y = clip(1 - (2 * (event.clientY - box.top)) / box.height);
      knob.style.translate = `${(x * box.width) / 2}px ${(-y * box.height) / 2}px`;
      deflect(stick, x, y);
    };
    const end = () => {
      knob.style.translate = "";
      release(stick.code);
    };
    pad.onpointerdown = (event) => {
      if (event.button !== 0) return;
      event.preventDefault(); // the stage keeps the focus
      pad.setPointerCapture(event.pointerId);
      follow(event);
      press(stick.code);
    };
    pad.onpointermove = (event) => {
      if (!pad.hasPointerCapture(event.pointerId)) return;
      follow(event);
      moved();
    };
    pad.onpointerup = pad.onpointercancel = pad.onlostpointercapture = end;
    pad.oncontextmenu = (event) => event.preventDefault();
    list.append(pad);
    pads.set(stick.code, pad);
  }
  return pads;
}

/**
 * Move the sticks with a gamepad's: the left one for the stream of the arrow keys, the right one for another.
 * @param axes {number[]} x and y of the left stick, then of the right one; y grows downwards
 * @returns {boolean} true when the left stick belongs to a stream, so that it is no set of direction keys
 */
export function tiltSticks(sticks, axes, isHeld, { press, moved, release }) {
  const left = sticks.find((stick) => stick.usesArrows);
  const right = sticks.find((stick) => stick !== left);
  for (const [stick, first] of [[left, 0], [right, 2]]) {
    if (!stick) continue;
    const [x, y] = [axes[first] ?? 0, -(axes[first + 1] ?? 0)];
    const isTilted = Math.hypot(x, y) > DEAD;
    if (isTilted) deflect(stick, x, y);
    if (isTilted && !isHeld(stick.code)) press(stick.code);
    else if (isTilted) moved();
    else if (stick.isTilted) release(stick.code);
    stick.isTilted = isTilted;
  }
  return Boolean(left);
}
