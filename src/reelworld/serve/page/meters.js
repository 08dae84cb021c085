// The figures in the corner: frames per second, the model's time, the delay from a key to its picture, the queue.

const $ = (id) => document.getElementById(id);
const KEPT = 60; // delays that the quantiles are of
const sentAt = new Map(); // input id -> time
const delays = [];
const shownAt = [];

export const number = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(2).replace(/^-(0\.00)$/, "$1"));

export const sentInput = (id) => sentAt.set(id, performance.now());
export const forgetFrames = () => (shownAt.length = 0);
export const forgetInputs = () => sentAt.clear();

/** Take note of a frame that is on screen now. */
export function shownFrame({ input }) {
  const now = performance.now();
  if (sentAt.has(input)) {
    delays.push(now - sentAt.get(input));
    if (delays.length > KEPT) delays.shift();
  }
  for (const id of sentAt.keys()) if (id <= input) sentAt.delete(id);
  shownAt.push(now);
}

/** Write the figures. */
export function showMeters(last, isRunning) {
  if (!last) return;
  $("step").textContent = last.step;
  $("reward").textContent = number(last.total);
  $("queue").textContent = last.waiting;
  $("model").innerHTML = `${last.milliseconds.toFixed(last.milliseconds < 10 ? 1 : 0)} <small>ms</small>`;
  const now = performance.now();
  while (shownAt.length && shownAt[0] < now - 1000) shownAt.shift();
  $("fps").textContent = isRunning ? shownAt.length : "\u2013";
  if (!delays.length) return;
  const sorted = [...delays].sort((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.floor(share * (sorted.length - 1))]);
  $("delay").innerHTML = `${at(0.5)} <small>/ ${at(0.95)} ms</small>`;
}
