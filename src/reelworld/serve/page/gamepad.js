// Gamepad input: its buttons have key codes ("Pad0", ...). The left stick acts as the directions.

const GLYPHS = ["A", "B", "X", "Y", "LB", "RB", "LT", "RT", "Select", "Start", "L3", "R3", "\u2191", "\u2193", "\u2190", "\u2192"];
const DIRECTIONS = { ArrowUp: "Pad12", ArrowDown: "Pad13", ArrowLeft: "Pad14", ArrowRight: "Pad15" };
const LETTERS = { KeyW: "Pad12", KeyS: "Pad13", KeyA: "Pad14", KeyD: "Pad15" };
const OTHERS = ["Pad0", "Pad1", "Pad2", "Pad3", "Pad5", "Pad4", "Pad7", "Pad6"];
const THRESHOLD = 0.5; // of a stick or a trigger, to count as pressed

export const padGlyph = (code) => (code.startsWith("Pad") ? GLYPHS[code.slice(3)] ?? code.slice(3) : undefined);

/**
 * Add a gamepad's buttons to a key map: directions for arrow keys (or WASD), other buttons in order.
 * @param taken {Set<string>} gamepad buttons of other streams; those used here are added
 */
export function withGamepad(keys, taken) {
  const singles = Object.keys(keys).filter((codes) => !codes.includes("+"));
  const found = singles.some((code) => code in DIRECTIONS) ? DIRECTIONS : LETTERS;
  const isFree = Object.values(found).every((pad) => !taken.has(pad));
  const directions = isFree ? found : {};
  const others = OTHERS.filter((pad) => !taken.has(pad));
  const places = new Map(singles.map((code) => [code, directions[code] ?? others.shift()]));
  const all = { ...keys };
  for (const [codes, value] of Object.entries(keys)) {
    const pads = codes.split("+").map((code) => places.get(code) ?? directions[code]);
    if (pads.every(Boolean)) all[pads.join("+")] ??= value;
    for (const pad of pads) if (pad) taken.add(pad);
  }
  return all;
}

/**
 * Call ``press`` and ``release`` with codes, and ``connected`` with true or false.
 * ``tilt`` gets the axes of the sticks, and returns true when the left one is no set of direction keys.
 */
export function watchGamepads({ press, release, tilt, connected }) {
  let down = new Set();
  let request = 0;
  const poll = () => {
    const pads = navigator.getGamepads().filter((pad) => pad?.connected);
    const isAnalog = pads.length > 0 && tilt(pads[0].axes);
    const now = new Set(pads.flatMap((pad) => pressedOn(pad, isAnalog)));
    for (const code of now) if (!down.has(code)) press(code);
    for (const code of down) if (!now.has(code)) release(code);
    down = now;
    request = pads.length ? requestAnimationFrame(poll) : 0;
    if (!request) connected(false);
  };
  addEventListener("gamepadconnected", () => {
    connected(true);
    if (!request) poll();
  });
}

function pressedOn(pad, isAnalog) {
  const codes = pad.buttons.flatMap((button, i) => (button.pressed || button.value > THRESHOLD ? [`Pad${i}`] : []));
  const [x = 0, y = 0] = isAnalog ? [] : pad.axes;
  if (y < -THRESHOLD) codes.push("Pad12");
  if (y > THRESHOLD) codes.push("Pad13");
  if (x < -THRESHOLD) codes.push("Pad14");
  if (x > THRESHOLD) codes.push("Pad15");
  return codes;
}
