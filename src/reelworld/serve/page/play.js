// The player: keys and touches in, frames out, and a word for the person whenever something is expected of them.

import { isBeside, offerBeside, setBeside, showApart, wantsBeside } from "./beside.js";
import { Connection } from "./connection.js";
import { clearEffects, needsPictures, showEffects } from "./effects.js";
import { watchGamepads } from "./gamepad.js";
import { KeyMap, glyph, makeButtons } from "./keyboard.js";
import { forgetFrames, forgetInputs, number, sentInput, shownFrame, showMeters } from "./meters.js";
import { closePanel } from "./panel.js";
import { offerRecording, sentence, showRecorded, showRecording, toast } from "./recorder.js";
import { Settings, rememberedKeys } from "./settings.js";
import { offerStarts, showStarts } from "./starts.js";

const $ = (id) => document.getElementById(id);
const screen = $("screen");
const pixels = screen.getContext("2d");
const gamePixels = $("game").getContext("2d");
const glow = $("glow").getContext("2d");
const REPEAT_AFTER = 320; // milliseconds a key is held before a turn-based world repeats it
const REPEAT_EVERY = 110;
const NO_WORLD = 4003; // the code of a connection that found nothing to play
const GAP = 16; // between two pictures
const GLOW_EVERY = 200; // blurring a large area is the dearest thing on this page

let world = null;
let keyMap = null;
let buttons = new Map();
let shortcuts = {};
let isPaused = false;
let wasPlaying = false; // when the tab was hidden
let last = null; // newest frame shown
let lastEffects = null; // newest pictures of what actions do
let inputId = 0;
let sent = ""; // actions the server holds, as JSON
let repeatTimer = 0;
let backTimer = 0;
let glowedAt = 0;
const held = []; // codes, oldest first

const connection = new Connection({ hello, making, effects, recording: showRecording, recorded: showRecorded, beside: showApart, frame, lost, closed });
const settings = new Settings({
  keys: useKeys,
  sample: (drawing) => connection.send({ type: "sample", ...drawing }),
  effects: () => connection.send({ type: "effects" }),
});

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
    show("ended", last.terminated ? "Episode finished" : "Time is up", steps + points, playAgain(), () => reset());
  } else if (isPaused && !last?.step && keyMap.choices.length) {
    const kept = isReal() && world.record ? "Every episode you play is kept" : "";
    show("ready", hasKeyboard() ? "Press any key to start" : "Ready when you are", kept, "Play", () => pause(false));
  } else if (isPaused && !last?.step) {
    show("paused", "Ready", "", "Play", () => pause(false));
  } else if (isPaused) {
    show("paused"); // nothing covers the picture: people look at it, go back and step
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

const hasKeyboard = () => matchMedia("(hover: hover)").matches; // as far as a page can know
const playAgain = () => (hasKeyboard() ? `Play again (${glyph(shortcuts.reset)})` : "Play again");
const isReal = () => world.pictures[0] === "game";
const isRunning = () => !isPaused && document.body.dataset.state === "playing";

// ---------------------------------------------------------------- what the server says

function hello(message) {
  world = message;
  keyMap = new KeyMap(world.actions);
  isPaused = world.paused;
  last = lastEffects = null;
  sent = "";
  inputId = 0;
  forgetInputs();
  releaseAll();
  rememberedKeys(keyMap, world.name);
  for (const id of ["pause", "single", "fps-meter"]) $(id).hidden = world.turn_based;
  $("back").hidden = !world.rewind;
  const query = new URLSearchParams(location.search);
  for (const own of ["world", "beside"]) query.delete(own);
  $("home").hidden = !world.gallery;
  $("home").href = query.size ? `./?${query}` : "./";
  $("name").textContent = document.title = world.name;
  const pace = world.turn_based ? "one step per key" : `${number(world.fps)} frames/s`;
  const alone = keyMap.choices.length ? "" : ", runs by itself";
  const kind = isReal() ? "the real game" : `recipe ${world.recipe}`;
  $("model-name").textContent = isReal() ? "Game" : "Model";
  screen.ariaLabel = isReal() ? "What the real game shows" : "What the world shows";
  const held = isReal() && world.held > 1 ? `, each action held for ${world.held} of the game's steps` : "";
  $("about").textContent = `${kind}, ${world.width}\u00d7${world.height}, ${pace}${alone}${held}`;
  $("delay").parentElement.hidden = !keyMap.choices.length;
  $("hint").hidden = !world.turn_based;
  $("hint").textContent = hasKeyboard() ? "Your turn: each key press is one step" : "Your turn: each tap is one step";
  for (const canvas of [screen, $("game")]) [canvas.width, canvas.height] = [world.width, world.height];
  useKeys();
  settings.show(world, keyMap);
  showStarts(world);
  offerRecording(world, (message) => connection.send(message));
  offerBeside(world, again);
  const shown = $("tools").querySelectorAll("button:not([hidden])").length;
  $("tools").classList.toggle("is-many", shown > 6); // two rows on a phone
  fit();
  if (world.effects && needsPictures(keyMap)) connection.send({ type: "effects" });
  $("stage").focus({ preventScroll: true });
}

/** The keys are known, or others now: make the buttons, and find keys for the player's own wishes. */
function useKeys() {
  releaseAll();
  clearEffects();
  buttons = makeButtons(keyMap, $("pad"), $("keys"));
  for (const button of new Set(buttons.values())) listenToTouch(button);
  const free = (codes) => codes.find((code) => !keyMap.codes.has(code));
  shortcuts = {
    reset: free(["KeyR", "Home", "F2"]), back: free(["Backspace", "KeyB", "F6"]),
    pause: free(["KeyP", "KeyK", "F4"]), single: free(["Period", "KeyN", "F7"]),
  };
  for (const [id, code] of Object.entries(shortcuts)) $(id).querySelector("kbd").textContent = glyph(code);
  if (lastEffects) showEffects(lastEffects, buttons);
}

function effects(message) {
  lastEffects = message;
  showEffects(message, buttons);
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
  pixels.drawImage(image, 0, 0); // the world; what stands beside it falls off the canvas
  if (isBeside(world)) gamePixels.drawImage(image, -world.width, 0);
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
  if (isNewState || before.step === 0 || last.step === 0 || isPaused) showWhatIsExpected();
  if (last.step > 0 || !world.turn_based) $("hint").hidden = true;
  if (world.turn_based || isPaused || isNewState) showMeters(last, isRunning());
}

function lost() {
  releaseAll();
  show("lost", world ? "Connection lost" : "No server yet", "Trying again\u2026");
}

function closed(reason, code) {
  releaseAll();
  const text = `${sentence(reason || "the server closed it")}.`;
  if (wantsBeside() && code === NO_WORLD) {
    return show("closed", "The real game is not here", text, "Play the world alone", () => {
      setBeside(false);
      again();
    });
  }
  show("closed", "The game has stopped", text, "Try again", again);
}

function again() {
  show("connecting", "Connecting");
  connection.reopen();
}

// ---------------------------------------------------------------- what the person does

function sendInput(message) {
  inputId += 1;
  sentInput(inputId);
  connection.send({ ...message, id: inputId });
}

function reset(start = undefined) {
  sendInput({ type: "reset", start });
  if (isPaused) pause(false);
  $("stage").focus({ preventScroll: true });
}

function pause(value) {
  if (world.turn_based || isPaused === value) return;
  isPaused = value;
  connection.send({ type: "pause", paused: value });
  forgetFrames();
  showWhatIsExpected();
  $("stage").focus({ preventScroll: true });
}

/** Go one step back; a real-time world waits there. */
function back() {
  if (!last?.step || !world.rewind) return;
  if (!world.turn_based && !isPaused) isPaused = true; // the server pauses by itself
  sendInput({ type: "rewind", steps: 1 });
}

function single() {
  if (isPaused && !world.turn_based) sendInput({ type: "step" });
}

function press(code) {
  if (settings.take(code)) return;
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
  if (settings.take(code)) return event.preventDefault();
  if (code === "Escape" && closePanel()) return;
  if (document.activeElement instanceof HTMLInputElement) return; // a slider has uses for keys
  const isOnButton = document.activeElement instanceof HTMLButtonElement;
  if (isOnButton && (code === "Enter" || code === "Space")) return;
  if (keyMap.codes.has(code) || Object.values(shortcuts).includes(code)) event.preventDefault();
  if (code === shortcuts.back) return back(); // held, it goes on going back
  if (code === shortcuts.single) return single();
  if (event.repeat) return;
  if (code === shortcuts.reset) reset();
  else if (code === shortcuts.pause) pause(!isPaused);
  else if (keyMap.codes.has(code)) press(code);
  else if (document.body.dataset.state === "ready" && code !== "Tab") pause(false);
  else if (!event.shiftKey && /^(Key|Digit|Arrow|Space)/.test(code)) {
    toast(`${glyph(code)} does nothing here. The buttons name the keys; Settings changes them.`);
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
offerStarts({ begin: reset, nextId: () => (inputId += 1), begun: () => $("stage").focus({ preventScroll: true }) });
$("single").onclick = single;
$("back").onpointerdown = () => {
  back();
  clearTimeout(backTimer);
  backTimer = setTimeout(function again() {
    back();
    backTimer = setTimeout(again, REPEAT_EVERY);
  }, REPEAT_AFTER);
};
$("back").onpointerup = $("back").onpointerleave = $("back").onpointercancel = () => clearTimeout(backTimer);
$("back").onclick = ({ detail }) => detail === 0 && back(); // the keyboard's click; a pointer was seen above
$("screen").onclick = () => $("stage").focus({ preventScroll: true });

// ---------------------------------------------------------------- the canvas

/** Scale the canvas by a whole number of screen pixels, so that every pixel of the world is a square. */
function fit() {
  if (!world) return;
  const box = $("stage").getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  const [first] = $("pictures").children;
  const frills = first.offsetHeight - screen.offsetHeight; // the words below a picture
  const below = $("apart").hidden ? 0 : $("apart").offsetHeight;
  const roomFor = (columns, rows) => Math.min(
    (((box.width - GAP * (columns - 1)) / columns) * ratio) / world.width,
    (((box.height - below) / rows - frills) * ratio) / world.height,
  );
  const n = world.pictures.length;
  const [abreast, stacked] = [roomFor(n, 1), roomFor(1, n)].map((room) => (room >= 2 ? Math.floor(room) : room));
  const isStacked = stacked > abreast;
  const scale = Math.max(abreast, stacked) / ratio;
  $("pictures").classList.toggle("is-stacked", isStacked);
  for (const canvas of [screen, $("game")]) {
    canvas.style.width = `${world.width * scale}px`;
    canvas.style.height = `${world.height * scale}px`;
  }
}

new ResizeObserver(fit).observe($("stage"));
setInterval(() => showMeters(last, isRunning()), 250);
watchGamepads({ press: (code) => world && press(code), release, here: (isHere) => document.body.classList.toggle("has-gamepad", isHere) });
connection.open();
