// Play page: input to the server, frames to the screen, and the state of the game.

import { clearPreviews, needsPreviews, showPreviews } from "./action_previews.js";
import { Connection } from "./connection.js";
import { watchGamepads } from "./gamepad.js";
import { setUpStart, showInitialContexts } from "./initial_contexts.js";
import { KeyMap, glyph, makeButtons } from "./keyboard.js";
import { clearFrames, clearInputs, number, sentInput, shownFrame, showMeters } from "./meters.js";
import { closePanel } from "./panel.js";
import { capitalize, showRecordButton, showRecorded, showRecording, toast } from "./recorder.js";
import { isSideBySide, setSideBySide, showComparison, showReferenceEnv, wantsSideBySide } from "./reference_env.js";
import { Settings, loadKeys } from "./settings.js";
import { makeSticks, tiltSticks } from "./stick.js";

const $ = (id) => document.getElementById(id);
const screen = $("screen");
const pixels = screen.getContext("2d");
const envPixels = $("env").getContext("2d");
const glow = $("glow").getContext("2d");
const REPEAT_AFTER = 320; // milliseconds a key is held before a turn-based world repeats it
const REPEAT_EVERY = 110;
const NO_WORLD = 4003; // close code: the world or its environment cannot be played
const GAP = 16; // between two pictures
const GLOW_EVERY = 200; // milliseconds: blurring a large area is the most expensive part of this page

let world = null;
let keyMap = null;
let buttons = new Map();
let shortcuts = {};
let isPaused = false;
let wasPlaying = false; // when the tab was hidden
let last = null; // newest frame shown
let lastPreviews = null; // newest action previews
let inputId = 0;
let sent = ""; // last actions sent, as JSON
let repeatTimer = 0;
let backTimer = 0;
let glowedAt = 0;
const held = []; // codes, oldest first

const connection = new Connection({
  hello, progress, action_previews: previews, recording: showRecording, recorded: showRecorded, comparison: showComparison,
  frame, lost, closed,
});
const settings = new Settings({
  keys: useKeys,
  sample: (sampler) => connection.send({ type: "sample", ...sampler }),
  previews: () => connection.send({ type: "action_previews" }),
});

// ---------------------------------------------------------------- state of the game

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

function showState() {
  const isOver = last?.terminated || last?.truncated;
  if (isOver) {
    const steps = `${last.step} ${last.step === 1 ? "step" : "steps"}`;
    const points = last.total ? `, reward ${number(last.total)}` : "";
    show("ended", last.terminated ? "Episode finished" : "Time limit reached", steps + points, playAgain(), () => reset());
  } else if (isPaused && !last?.step && keyMap.choices.length) {
    const note = isReal() && world.record ? "Every episode is recorded" : "";
    show("ready", hasKeyboard() ? "Press any key to start" : "Tap to start", note, "Play", () => pause(false));
  } else if (isPaused && !last?.step) {
    show("paused", "Ready", "", "Play", () => pause(false));
  } else if (isPaused) {
    show("paused"); // no overlay: the picture stays visible for stepping and rewinding
    $("status").textContent = "Paused";
  } else {
    show("playing");
  }
  document.body.classList.toggle("is-paused", isPaused);
  $("pause").querySelector(".label").textContent = isPaused ? "Play" : "Pause";
  $("pause").disabled = isOver;
  $("single").disabled = !isPaused || isOver;
  $("back").disabled = !last?.step;
}

const hasKeyboard = () => matchMedia("(hover: hover)").matches; // the best guess of a page
const playAgain = () => (hasKeyboard() ? `Play again (${glyph(shortcuts.reset)})` : "Play again");
const isReal = () => world.views[0] === "env";
const isRunning = () => !isPaused && document.body.dataset.state === "playing";

// ---------------------------------------------------------------- messages of the server

function hello(message) {
  world = message;
  keyMap = new KeyMap(world.actions);
  isPaused = world.paused;
  last = lastPreviews = null;
  sent = "";
  inputId = 0;
  clearInputs();
  releaseAll();
  loadKeys(keyMap, world.name);
  for (const id of ["pause", "single", "fps-meter"]) $(id).hidden = world.turn_based;
  $("back").hidden = !world.rewind;
  const query = new URLSearchParams(location.search);
  for (const own of ["world", "reference_env"]) query.delete(own);
  $("home").hidden = !world.gallery;
  $("home").href = query.size ? `./?${query}` : "./";
  $("name").textContent = document.title = world.name;
  const pace = world.turn_based ? "one step per key" : `${number(world.fps)} fps`;
  const alone = keyMap.choices.length ? "" : ", no controls";
  const kind = isReal() ? "real game" : world.system;
  $("model-name").textContent = isReal() ? "Game" : "Model";
  screen.ariaLabel = isReal() ? "Real game" : "World";
  const repeat = isReal() && world.action_repeat > 1 ? `, action repeat ${world.action_repeat}` : "";
  $("about").textContent = `${kind}, ${world.width}\u00d7${world.height}, ${pace}${alone}${repeat}`;
  $("delay").parentElement.hidden = !keyMap.choices.length;
  $("hint").hidden = !world.turn_based;
  $("hint").textContent = hasKeyboard() ? "Your turn: each key press is one step" : "Your turn: each tap is one step";
  for (const canvas of [screen, $("env")]) [canvas.width, canvas.height] = [world.width, world.height];
  useKeys();
  settings.show(world, keyMap);
  showInitialContexts(world);
  showRecordButton(world, (message) => connection.send(message));
  showReferenceEnv(world, again);
  const shown = $("tools").querySelectorAll("button:not([hidden])").length;
  $("tools").classList.toggle("is-many", shown > 5); // two rows on a phone
  $("tools").style.setProperty("--columns", Math.ceil(shown / 2));
  fit();
  if (world.action_previews && needsPreviews(keyMap)) connection.send({ type: "action_previews" });
  $("stage").focus({ preventScroll: true });
}

/** Build the buttons for the key map, and choose free keys for the shortcuts. */
function useKeys() {
  releaseAll();
  clearPreviews();
  buttons = makeButtons(keyMap, $("pad"), $("keys"));
  for (const button of new Set(buttons.values())) listenToTouch(button);
  for (const [code, pad] of makeSticks(keyMap.sticks, $("keys"), stickInput)) buttons.set(code, pad);
  const free = (codes) => codes.find((code) => !keyMap.codes.has(code));
  shortcuts = {
    reset: free(["KeyR", "Home", "F2"]), back: free(["Backspace", "KeyB", "F6"]),
    pause: free(["KeyP", "KeyK", "F4"]), single: free(["Period", "KeyN", "F7"]),
  };
  for (const [id, code] of Object.entries(shortcuts)) $(id).querySelector("kbd").textContent = glyph(code);
  if (lastPreviews) showPreviews(lastPreviews, buttons);
}

function previews(message) {
  lastPreviews = message;
  showPreviews(message, buttons);
}

/** Show the progress of a world that generates several frames at once. */
function progress({ fraction, frames }) {
  const what = frames === 1 ? "a frame" : `${frames} frames`;
  const text = `Generating ${what}\u2026 ${Math.floor(100 * fraction)}%`;
  if (!last) show("connecting", "Starting", text); // there is no frame yet
  $("hint").textContent = text;
  $("hint").hidden = false;
}

async function frame(message) {
  const image = await createImageBitmap(message.image);
  if (last && last.sequence > message.sequence) return;
  pixels.drawImage(image, 0, 0); // the first view; a second one is outside the canvas
  if (isSideBySide(world)) envPixels.drawImage(image, -world.width, 0);
  const now = performance.now();
  if (now - glowedAt > GLOW_EVERY) {
    glow.drawImage(image, 0, 0, 8, 8);
    glowedAt = now;
  }
  image.close();
  connection.send({ type: "ack", sequence: message.sequence });
  shownFrame(message);
  const before = last;
  last = message;
  const isNewState = !before || before.terminated || before.truncated || last.terminated || last.truncated;
  if (isNewState || before.step === 0 || last.step === 0 || isPaused) showState();
  if (last.step > 0 || !world.turn_based) $("hint").hidden = true;
  if (world.turn_based || isPaused || isNewState) showMeters(last, isRunning());
}

function lost() {
  releaseAll();
  show("lost", world ? "Connection lost" : "No connection", "Reconnecting\u2026");
}

function closed(reason, code) {
  releaseAll();
  const text = `${capitalize(reason || "the server closed the connection")}.`;
  if (wantsSideBySide() && code === NO_WORLD) {
    return show("closed", "Real game not available", text, "Play the world only", () => {
      setSideBySide(false);
      again();
    });
  }
  show("closed", "Disconnected", text, "Reconnect", again);
}

function again() {
  show("connecting", "Connecting");
  connection.reopen();
}

// ---------------------------------------------------------------- input

function sendInput(message) {
  inputId += 1;
  sentInput(inputId);
  connection.send({ ...message, id: inputId });
}

function reset(index = undefined) {
  sendInput({ type: "reset", initial_context: index });
  if (isPaused) pause(false);
  $("stage").focus({ preventScroll: true });
}

function pause(value) {
  if (world.turn_based || isPaused === value) return;
  isPaused = value;
  connection.send({ type: "pause", paused: value });
  clearFrames();
  showState();
  $("stage").focus({ preventScroll: true });
}

/** Rewind one step; a real-time world is paused there. */
function rewind() {
  if (!last?.step || !world.rewind) return;
  if (!world.turn_based && !isPaused) isPaused = true; // as the server does
  sendInput({ type: "rewind", steps: 1 });
}

function single() {
  if (isPaused && !world.turn_based) sendInput({ type: "step" });
}

function press(code) {
  if (settings.bindNext(code)) return;
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

/** Real time: send the actions of the held keys whenever they change. */
function holdActions() {
  const actions = keyMap.resolve(held);
  const text = JSON.stringify(actions);
  if (text === sent) return;
  sent = text;
  sendInput({ type: "act", actions });
}

const stickInput = { press, release, moved: () => world.turn_based || holdActions() };

/** Turn-based: one press, one step. */
function turn(code) {
  const actions = keyMap.resolve(held, code);
  if (document.body.dataset.state === "playing" && Object.keys(actions).length) sendInput({ type: "act", actions });
}

function repeat(code) {
  if (!held.includes(code)) return;
  if (last?.input === inputId) turn(code); // never ahead of the frame on screen
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
    if (detail !== 0) return; // pointers are handled above
    press(code);
    setTimeout(() => release(code), 60);
  };
}

addEventListener("keydown", (event) => {
  const { code } = event;
  if (!world || event.ctrlKey || event.metaKey || event.altKey) return;
  if (settings.bindNext(code)) return event.preventDefault();
  if (code === "Escape" && closePanel()) return;
  if (document.activeElement instanceof HTMLInputElement) return; // sliders use keys
  const isOnButton = document.activeElement instanceof HTMLButtonElement;
  if (isOnButton && (code === "Enter" || code === "Space")) return;
  if (keyMap.codes.has(code) || Object.values(shortcuts).includes(code)) event.preventDefault();
  if (code === shortcuts.back) return rewind(); // repeats while held
  if (code === shortcuts.single) return single();
  if (event.repeat) return;
  if (code === shortcuts.reset) reset();
  else if (code === shortcuts.pause) pause(!isPaused);
  else if (keyMap.codes.has(code)) press(code);
  else if (document.body.dataset.state === "ready" && code !== "Tab") pause(false);
  else if (!event.shiftKey && /^(Key|Digit|Arrow|Space)/.test(code)) {
    toast(`${glyph(code)} is not assigned. The buttons show the keys; Settings changes them.`);
  }
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
$("reset").onclick = () => reset();
setUpStart({ start: reset, nextId: () => (inputId += 1), started: () => $("stage").focus({ preventScroll: true }) });
$("single").onclick = single;
$("back").onpointerdown = () => {
  rewind();
  clearTimeout(backTimer);
  backTimer = setTimeout(function again() {
    rewind();
    backTimer = setTimeout(again, REPEAT_EVERY);
  }, REPEAT_AFTER);
};
$("back").onpointerup = $("back").onpointerleave = $("back").onpointercancel = () => clearTimeout(backTimer);
$("back").onclick = ({ detail }) => detail === 0 && rewind(); // a click of the keyboard; pointers are handled above
$("screen").onclick = () => $("stage").focus({ preventScroll: true });

// ---------------------------------------------------------------- the canvas

/** Scale the canvas by an integer number of device pixels, so that every pixel of the world is square. */
function fit() {
  if (!world) return;
  const box = $("stage").getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  const [first] = $("pictures").children;
  const caption = first.offsetHeight - screen.offsetHeight;
  const below = $("comparison").hidden ? 0 : $("comparison").offsetHeight;
  const roomFor = (columns, rows) => Math.min(
    (((box.width - GAP * (columns - 1)) / columns) * ratio) / world.width,
    (((box.height - below) / rows - caption) * ratio) / world.height,
  );
  const n = world.views.length;
  const [inRow, stacked] = [roomFor(n, 1), roomFor(1, n)].map((room) => (room >= 2 ? Math.floor(room) : room));
  const isStacked = stacked > inRow;
  const scale = Math.max(inRow, stacked) / ratio;
  $("pictures").classList.toggle("is-stacked", isStacked);
  for (const canvas of [screen, $("env")]) {
    canvas.style.width = `${world.width * scale}px`;
    canvas.style.height = `${world.height * scale}px`;
  }
}

new ResizeObserver(fit).observe($("stage"));
setInterval(() => showMeters(last, isRunning()), 250);
watchGamepads({
  press: (code) => world && press(code), release,
  tilt: (axes) => keyMap && tiltSticks(keyMap.sticks, axes, (code) => held.includes(code), stickInput),
  connected: (isOn) => document.body.classList.toggle("has-gamepad", isOn),
});
connection.open();
