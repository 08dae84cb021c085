// Key map: keys to actions, and the buttons on screen. Gamepad buttons are keys as well (see gamepad.js).

import { padGlyph, withGamepad } from "./gamepad.js";
import { sticksOf } from "./stick.js";

const GLYPHS = {
  ArrowLeft: "\u2190", ArrowRight: "\u2192", ArrowUp: "\u2191", ArrowDown: "\u2193", Space: "Space", Enter: "Enter",
  ShiftLeft: "Shift", ShiftRight: "Shift", ControlLeft: "Ctrl", ControlRight: "Ctrl", Escape: "Esc", Tab: "Tab",
  Backspace: "\u232b", Comma: ",", Period: ".", Slash: "/", Semicolon: ";", Minus: "-", Equal: "=",
};
const PADS = [
  { ArrowUp: "up", ArrowLeft: "left", ArrowDown: "down", ArrowRight: "right" },
  { KeyW: "up", KeyA: "left", KeyS: "down", KeyD: "right" },
];

export const glyph = (code) =>
  GLYPHS[code] ?? padGlyph(code) ?? code.replace(/^(Key|Digit)/, "").replace(/^Numpad/, "Num ");
export const isOnKeyboard = (code) => !code.startsWith("Pad") && !code.startsWith("@");

/** Key map of a world. */
export class KeyMap {
  /** @param actions {Object} stream name -> {kind, names, low, high, null, keys} */
  constructor(actions) {
    this.streams = actions;
    this.edited = false;
    this.choices = Object.entries(actions).flatMap(([stream, spec]) => singleActions(stream, spec));
    this.useDefaults();
  }

  /** Use the world's default keys. */
  useDefaults() {
    const pads = new Set();
    const keys = Object.entries(this.streams).map(([stream, spec]) => [stream, withGamepad(spec.keys, pads)]);
    this.#use(Object.fromEntries(keys));
    this.edited = false;
  }

  /** Use keys stored as JSON; returns false when they do not fit this world. */
  restore(text) {
    try {
      const keys = JSON.parse(text);
      const fits = isPlain(keys) && Object.entries(keys).every(([stream, map]) =>
        isPlain(map) && Object.values(map).every((value) => isAction(this.streams[stream], value)));
      if (!fits) return false;
      this.#use(keys);
      this.edited = true;
      return true;
    } catch {
      return false;
    }
  }

  /** The keys as JSON, for ``restore``. */
  toText = () => JSON.stringify(this.keys);

  /** Bind a key to an action, instead of the action that had it. */
  bind(choice, code) {
    this.#drop((codes) => codes === code);
    (this.keys[choice.stream] ??= {})[code] = choice.value;
    this.#use(this.keys);
    this.edited = true;
  }

  /** Remove a key. */
  unbind(code) {
    this.#drop((codes) => codes === code);
    this.#use(this.keys);
    this.edited = true;
  }

  /** Return the single keys of an action. */
  codesOf = (choice) =>
    this.chords.filter((c) => c.codes.length === 1 && c.action === choice.action && !c.codes[0].startsWith("@")).map((c) => c.codes[0]);

  #drop(which) {
    for (const map of Object.values(this.keys)) for (const codes of Object.keys(map)) if (which(codes)) delete map[codes];
  }

  #use(keys) {
    this.keys = keys;
    const chord = (stream, value, codes) => ({ stream, value, codes, action: `${stream} ${JSON.stringify(value)}` });
    this.chords = Object.entries(keys).flatMap(([stream, map]) =>
      Object.entries(map).map(([codes, value]) => chord(stream, value, codes.split("+"))));
    // Every button on screen is a key as well, so that an action without one can still be played.
    this.chords.push(...this.choices.map((c) => chord(c.stream, c.value, [c.button])));
    this.sticks = Object.entries(this.streams).flatMap(([stream, spec]) => sticksOf(stream, spec, keys[stream] ?? {}));
    this.chords.push(...this.sticks.map((stick) => stick.chord));
    this.codes = new Set(this.chords.flatMap((c) => c.codes));
  }

  /**
   * Map held keys to actions. Per stream the longest chord wins, among equal ones the newest key. On
   * continuous streams the remaining keys add their difference from the null action.
   * @param held {string[]} codes in the order they were pressed
   * @param pressed {string|null} the key of this turn: an id that it chooses wins over those of keys held before
   */
  resolve(held, pressed = null) {
    const actions = {};
    for (const [stream, spec] of Object.entries(this.streams)) {
      const down = this.chords.filter((c) => c.stream === stream && c.codes.every((code) => held.includes(code)));
      const chosen = down.filter((c) => c.codes.includes(pressed));
      const active = (spec.kind === "discrete" && chosen.length ? chosen : down)
        .sort((a, b) => b.codes.length - a.codes.length || newest(b, held) - newest(a, held));
      if (!active.length) continue;
      actions[stream] = spec.kind === "discrete" ? active[0].value : blend(active, spec);
    }
    return actions;
  }
}

/** List the actions of single keys: each has a button and a row in the settings. */
function singleActions(stream, spec) {
  const found = new Map();
  for (const [codes, value] of Object.entries(spec.keys)) {
    const action = `${stream} ${JSON.stringify(value)}`;
    if (!codes.includes("+") && !found.has(action)) {
      found.set(action, { stream, value, action, button: `@${action}`, name: nameOf(spec, value).replaceAll("_", " ") });
    }
  }
  return [...found.values()];
}

const isPlain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

const isAction = (spec, value) =>
  spec.kind === "discrete"
    ? Number.isInteger(value) && value >= 0 && value < spec.n
    : Array.isArray(value) && value.length === spec.n && value.every(Number.isFinite);

const newest = (chord, held) => Math.max(...chord.codes.map((code) => held.indexOf(code)));

function blend(active, spec) {
  const rest = spec.null ?? active[0].value.map(() => 0);
  const sum = [...active[0].value];
  const used = new Set(active[0].codes);
  for (const chord of active.slice(1)) {
    if (chord.codes.some((code) => used.has(code))) continue;
    chord.codes.forEach((code) => used.add(code));
    chord.value.forEach((x, i) => (sum[i] += x - rest[i]));
  }
  return sum.map((x, i) => Math.min(spec.high[i] ?? 1, Math.max(spec.low[i] ?? -1, x)));
}

/** Drop the parts of a joint name, such as "left+coast", that it shares with the null action, "straight+coast". */
function withoutRest(name, rest) {
  const parts = name?.split("+");
  const still = rest?.split("+");
  if (!parts || parts.length === 1 || parts.length !== still?.length) return name;
  return parts.filter((part, i) => part !== still[i]).join("+") || name;
}

/** Return the display name of an action. */
function nameOf(spec, value) {
  if (spec.kind === "discrete") return withoutRest(spec.names[value], spec.names[spec.null]) ?? `action ${value + 1}`;
  const rest = spec.null ?? value.map(() => 0);
  const moved = value.map((_, i) => i).filter((i) => value[i] !== rest[i]);
  const sign = (i) => (rest[i] <= spec.low[i] ? "" : value[i] > rest[i] ? " +" : " \u2212"); // one-sided range, such as a pedal
  return moved.map((i) => `${spec.names[i] ?? `axis ${i + 1}`}${sign(i)}`).join(", ") || "rest";
}

/**
 * Create one button per single action: directions in the pad, others in the list.
 * @returns {Map<string, HTMLElement>} code -> its button
 */
export function makeButtons(keyMap, pad, list) {
  pad.replaceChildren();
  list.replaceChildren();
  const places = PADS.find((p) => keyMap.choices.some((c) => keyMap.codesOf(c).some((code) => code in p))) ?? {};
  const buttons = new Map();
  for (const choice of keyMap.choices) {
    const codes = keyMap.codesOf(choice);
    const shown = codes.filter(isOnKeyboard);
    const direction = shown.find((code) => code in places);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key";
    button.dataset.code = choice.button;
    button.ariaLabel = shown.length ? `${choice.name} (${shown.map(glyph).join(", ")})` : choice.name;
    const label = document.createElement("span");
    label.className = "label";
    label.textContent = choice.name;
    button.append(...(direction ? [direction] : shown).map(cap), label);
    if (direction) button.classList.add(places[direction]);
    (direction ? pad : list).append(button);
    for (const code of [choice.button, ...codes]) buttons.set(code, button);
  }
  return buttons;
}

export function cap(code) {
  const key = document.createElement("kbd");
  key.textContent = glyph(code);
  key.classList.toggle("arrow", code.startsWith("Arrow"));
  return key;
}
