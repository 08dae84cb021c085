// Keys to actions, and the buttons that show them.

const GLYPHS = {
  ArrowLeft: "\u2190", ArrowRight: "\u2192", ArrowUp: "\u2191", ArrowDown: "\u2193", Space: "Space", Enter: "Enter",
  ShiftLeft: "Shift", ShiftRight: "Shift", ControlLeft: "Ctrl", ControlRight: "Ctrl", Escape: "Esc", Tab: "Tab",
  Backspace: "Backspace", Comma: ",", Period: ".", Slash: "/", Semicolon: ";", Minus: "-", Equal: "=",
};
const PADS = [
  { ArrowUp: "up", ArrowLeft: "left", ArrowDown: "down", ArrowRight: "right" },
  { KeyW: "up", KeyA: "left", KeyS: "down", KeyD: "right" },
];

export const glyph = (code) => GLYPHS[code] ?? code.replace(/^(Key|Digit)/, "").replace(/^Numpad/, "Num ");

/** The key map of a world: which keys mean which actions. */
export class KeyMap {
  /** @param actions {Object} stream name -> {kind, names, low, high, null, keys} */
  constructor(actions) {
    this.streams = actions;
    this.chords = Object.entries(actions).flatMap(([stream, spec]) =>
      Object.entries(spec.keys).map(([keys, value]) => ({ stream, value, codes: keys.split("+") })),
    );
    this.codes = new Set(this.chords.flatMap((chord) => chord.codes));
  }

  /**
   * Turn held keys into actions: per stream the longest chord wins, the newest key among equals. On
   * continuous streams the keys that are left over add what they differ from rest.
   * @param held {string[]} codes in the order they were pressed
   * @param pressed {string|null} only chords with this key count (a turn belongs to one key press)
   */
  resolve(held, pressed = null) {
    const actions = {};
    for (const [stream, spec] of Object.entries(this.streams)) {
      const active = this.chords
        .filter((c) => c.stream === stream && c.codes.every((code) => held.includes(code)))
        .filter((c) => pressed === null || c.codes.includes(pressed))
        .sort((a, b) => b.codes.length - a.codes.length || newest(b, held) - newest(a, held));
      if (!active.length) continue;
      actions[stream] = spec.kind === "continuous" ? blend(active, spec) : active[0].value;
    }
    return actions;
  }
}

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

/** Name an action for a person. */
function nameOf(spec, value) {
  if (spec.kind === "discrete") return spec.names[value] ?? `action ${value}`;
  const rest = spec.null ?? value.map(() => 0);
  const moved = value.map((_, i) => i).filter((i) => value[i] !== rest[i]);
  const sign = (i) => (rest[i] <= spec.low[i] ? "" : value[i] > rest[i] ? " +" : " \u2212"); // a pedal has one way
  return moved.map((i) => `${spec.names[i] ?? `axis ${i + 1}`}${sign(i)}`).join(", ") || "rest";
}

/**
 * Make one button per action that single keys reach; directions go to the pad, the rest to the list.
 * @returns {Map<string, HTMLElement>} code -> its button
 */
export function makeButtons(keyMap, pad, list) {
  pad.replaceChildren();
  list.replaceChildren();
  const singles = keyMap.chords.filter((chord) => chord.codes.length === 1);
  const places = PADS.find((p) => singles.some(({ codes: [code] }) => code in p)) ?? {};
  const buttons = new Map();
  const byAction = new Map();
  for (const { stream, value, codes: [code] } of singles) {
    const name = nameOf(keyMap.streams[stream], value).replaceAll("_", " ");
    const action = `${stream} ${JSON.stringify(value)}`;
    const known = byAction.get(action);
    if (known && !(code in places)) {
      known.insertBefore(cap(code), known.lastChild);
      buttons.set(code, known);
      continue;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key";
    button.dataset.code = code;
    button.ariaLabel = `${name} (${glyph(code)})`;
    const label = document.createElement("span");
    label.className = "label";
    label.textContent = name;
    button.append(cap(code), label);
    if (code in places) {
      button.classList.add(places[code]);
      pad.append(button);
    } else {
      list.append(button);
    }
    byAction.set(action, button);
    buttons.set(code, button);
  }
  return buttons;
}

function cap(code) {
  const key = document.createElement("kbd");
  key.textContent = glyph(code);
  key.classList.toggle("arrow", code.startsWith("Arrow"));
  return key;
}
