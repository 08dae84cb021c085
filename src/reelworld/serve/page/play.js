// The player: keys and touches in, frames out, and a word for the person whenever something is expected of them.

import { Connection } from "./connection.js";
import { KeyMap, glyph, makeButtons } from "./keyboard.js";

const $ = (id) => document.getElementById(id);
const screen = $("screen");
const pixels = screen.getContext("2d");
const glow = $("glow").getContext("2d");
const REPEAT_AFTER = 320; // milliseconds a key is held before a turn-based world repeats it
const REPEAT_EVERY = 110;
const GLOW_EVERY = 200; // blurring a large area is the dearest thing on this page

let world = null;
let keyMap = null;
let buttons = new Map();
let shortcuts = {};
let isPaused = false;
let wasPlaying = false; // when the tab was hidden
let last = null; // newest frame shown
let inputId = 0;
let sent = ""; // actions the server holds, as JSON
let repeatTimer = 0;
let glowedAt = 0;
const held = []; // codes, oldest first
const sentAt = new Map(); // input id -> time
const delays = [];
const shownAt = [];

const connection = new Connection({ hello, making, frame, lost, closed });

// ---------------------------------------------------------------- what the person is told

function show(state, title = "", text = "", button = "", press = null) {
  document.body.dataset.state = state;
  $("overlay").hidden = !title;
  $("overlay-title").textContent = title;
  $("overlay-text").textContent = text;
  $("status").textContent = [title, text].filter(Boolean).join(". ");
  const action = $("overlay-button");
  action.hidden = !button;
  action.textContent = button;
  action.onclick = press;
}

function showWhatIsExpected() {
  const isOver = last?.terminated || last?.truncated;
  if (isOver) {
    const steps = `${last.step} ${last.step === 1 ? "step" : "steps"}`;
    const points = last.total ? `, reward ${number(last.total)}` : "";
    show("ended", last.terminated ? "Episode finished" : "Time is up", steps + points, again(), reset);
  } else if (isPaused && !last?.step && keyMap.codes.size) {
    show("ready", hasKeyboard() ? "Press any key to start" : "Ready when you are", "", "Play", () => pause(false));
  } else if (isPaused) {
    show("paused", keyMap.codes.size ? "Paused" : "Ready", "", "Play", () => pause(false));
  } else {
    show("playing");
  }
  $("pause").firstElementChild.textContent = isPaused ? "Play" : "Pause";
  $("pause").disabled = isOver;
}

const hasKeyboard = () => matchMedia("(hover: hover)").matches; // as far as a page can know
const again = () => (hasKeyboard() ? `Play again (${glyph(shortcuts.reset)})` : "Play again");
const number = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(2));
const median = (sorted) => sorted[Math.floor(sorted.length / 2)];

function showMeters() {
  if (!last) return;
  $("step").textContent = last.step;
  $("reward").textContent = number(last.total);
  $("model").innerHTML = `${last.milliseconds.toFixed(last.milliseconds < 10 ? 1 : 0)} <small>ms</small>`;
  const now = performance.now();
  while (shownAt.length && shownAt[0] < now - 1000) shownAt.shift();
  $("fps").textContent = isPaused || document.body.dataset.state !== "playing" ? "\u2013" : shownAt.length;
  if (delays.length) {
    const sorted = [...delays].sort((a, b) => a - b);
    const p95 = sorted[Math.floor(0.95 * (sorted.length - 1))];
    $("delay").innerHTML = `${Math.round(median(sorted))} <small>/ ${Math.round(p95)} ms</small>`;
  }
}

// ---------------------------------------------------------------- what the server says

function hello(message) {
  world = message;
  keyMap = new KeyMap(world.actions);
  isPaused = world.paused;
  last = null;
  sent = "";
  inputId = 0;
  sentAt.clear();
  releaseAll();
  const free = (codes) => codes.find((code) => !keyMap.codes.has(code));
  shortcuts = { reset: free(["KeyR", "Backspace", "F2"]), pause: free(["KeyP", "Escape", "F4"]) };
  $("reset").lastElementChild.textContent = glyph(shortcuts.reset);
  $("pause").lastElementChild.textContent = glyph(shortcuts.pause);
  $("pause").hidden = $("fps-meter").hidden = world.turn_based;
  $("name").textContent = document.title = world.name;
  const pace = world.turn_based ? "one step per key" : `${number(world.fps)} frames/s`;
  const alone = keyMap.codes.size ? "" : ", runs by itself";
  $("about").textContent = `recipe ${world.recipe}, ${world.width}\u00d7${world.height}, ${pace}${alone}`;
  $("delay").parentElement.hidden = !keyMap.codes.size;
  $("hint").hidden = !world.turn_based;
  $("hint").textContent = hasKeyboard() ? "Your turn: each key press is one step" : "Your turn: each tap is one step";
  [screen.width, screen.height] = [world.width, world.height];
  buttons = makeButtons(keyMap, $("pad"), $("keys"));
  for (const button of new Set(buttons.values())) listenToTouch(button);
  fit();
  $("stage").focus({ preventScroll: true });
}

/** The world makes several frames at once, and it takes a while. */
function making({ share, frames }) {
  const what = frames === 1 ? "frame" : `${frames} frames`;
  const text = `Imagining the next ${what}\u2026 ${Math.floor(100 * share)}%`;
  if (!last) show("connecting", "One moment", text); // nothing can be seen yet
  $("hint").textContent = text;
  $("hint").hidden = false;
}

async function frame(message) {
  const image = await createImageBitmap(message.image);
  if (last && last.sequence > message.sequence) return;
  pixels.drawImage(image, 0, 0);
  const now = performance.now();
  if (now - glowedAt > GLOW_EVERY) {
    glow.drawImage(image, 0, 0, 8, 8);
    glowedAt = now;
  }
  image.close();
  connection.send({ type: "ack", sequence: message.sequence });
  if (sentAt.has(message.input)) {
    delays.push(now - sentAt.get(message.input));
    if (delays.length > 60) delays.shift();
  }
  for (const id of sentAt.keys()) if (id <= message.input) sentAt.delete(id);
  shownAt.push(now);
  const before = last;
  last = message;
  const isNewState = !before || before.terminated || before.truncated || last.terminated || last.truncated;
  if (isNewState || before.step === 0) showWhatIsExpected();
  if (last.step > 0 || !world.turn_based) $("hint").hidden = true;
  if (world.turn_based || isNewState) showMeters();
}

function lost() {
  releaseAll();
  show("lost", world ? "Connection lost" : "No server yet", "Trying again\u2026");
}

function closed(reason) {
  releaseAll();
  show("closed", "The game has stopped", sentence(reason || "the server closed it"), "Try again", () => {
    show("connecting", "Connecting");
    connection.open();
  });
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

// ---------------------------------------------------------------- what the person does

function sendInput(message) {
  inputId += 1;
  sentAt.set(inputId, performance.now());
  connection.send({ ...message, id: inputId });
}

function reset() {
  sendInput({ type: "reset" });
  if (isPaused) pause(false);
  $("stage").focus({ preventScroll: true });
}

function pause(value) {
  if (world.turn_based || isPaused === value) return;
  isPaused = value;
  connection.send({ type: "pause", paused: value });
  shownAt.length = 0;
  showWhatIsExpected();
  $("stage").focus({ preventScroll: true });
}

function press(code) {
  if (!world || held.includes(code)) return;
  held.push(code);
  buttons.get(code)?.classList.add("is-held");
  if (document.body.dataset.state === "ready") pause(false);
  if (!world.turn_based) return holdActions();
  turn(code);
  clearTimeout(repeatTimer);
  repeatTimer = setTimeout(() => repeat(code), REPEAT_AFTER);
}

function release(code) {
  if (!held.includes(code)) return;
  held.splice(held.indexOf(code), 1);
  const button = buttons.get(code);
  if (!held.some((other) => buttons.get(other) === button)) button?.classList.remove("is-held");
  if (!world.turn_based) holdActions();
}

function releaseAll() {
  [...held].forEach(release);
}

/** Real time: tell the server whenever the held keys mean something else. */
function holdActions() {
  const actions = keyMap.resolve(held);
  const text = JSON.stringify(actions);
  if (text === sent) return;
  sent = text;
  sendInput({ type: "act", actions });
}

/** Turn-based: one press, one step. */
function turn(code) {
  const actions = keyMap.resolve(held, code);
  if (document.body.dataset.state === "playing" && Object.keys(actions).length) sendInput({ type: "act", actions });
}

function repeat(code) {
  if (!held.includes(code)) return;
  if (last?.input === inputId) turn(code); // never ahead of what the person sees
  repeatTimer = setTimeout(() => repeat(code), REPEAT_EVERY);
}

function listenToTouch(button) {
  const { code } = button.dataset;
  button.onpointerdown = (event) => {
    if (event.button !== 0) return;
    event.preventDefault(); // the stage keeps the focus
    button.setPointerCapture(event.pointerId);
    press(code);
  };
  button.onpointerup = button.onpointercancel = button.onlostpointercapture = () => release(code);
  button.oncontextmenu = (event) => event.preventDefault();
  button.onclick = ({ detail }) => {
    if (detail !== 0) return; // a pointer; the handlers above saw it
    press(code);
    setTimeout(() => release(code), 60);
  };
}

addEventListener("keydown", (event) => {
  const { code } = event;
  if (!world || event.ctrlKey || event.metaKey || event.altKey) return;
  const isOnButton = document.activeElement instanceof HTMLButtonElement;
  if (isOnButton && (code === "Enter" || code === "Space")) return;
  if (keyMap.codes.has(code) || code === shortcuts.reset || code === shortcuts.pause) event.preventDefault();
  if (event.repeat) return;
  if (code === shortcuts.reset) reset();
  else if (code === shortcuts.pause) pause(!isPaused);
  else if (keyMap.codes.has(code)) press(code);
  else if (document.body.dataset.state === "ready" && code !== "Tab") pause(false);
});
addEventListener("keyup", ({ code }) => release(code));
addEventListener("blur", releaseAll);
document.addEventListener("visibilitychange", () => {
  if (!world) return;
  if (document.hidden) wasPlaying = !isPaused;
  releaseAll();
  pause(document.hidden || !wasPlaying);
});
$("pause").onclick = () => pause(!isPaused);
$("reset").onclick = reset;
$("screen").onclick = () => $("stage").focus({ preventScroll: true });

// ---------------------------------------------------------------- the canvas

/** Scale the canvas by a whole number of screen pixels, so that every pixel of the world is a square. */
function fit() {
  if (!world) return;
  const box = $("stage").getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  const room = Math.min((box.width * ratio) / world.width, (box.height * ratio) / world.height);
  const scale = (room >= 2 ? Math.floor(room) : room) / ratio;
  screen.style.width = `${world.width * scale}px`;
  screen.style.height = `${world.height * scale}px`;
}

new ResizeObserver(fit).observe($("stage"));
setInterval(showMeters, 250);
connection.open();
