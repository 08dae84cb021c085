// Meters: frames per second, time of a model step, input delay, queue.

const $ = (id) => document.getElementById(id);
const MAX_DELAYS = 60; // for the quantiles
const sentAt = new Map(); // input id -> time
const delays = [];
const shownAt = [];

export const number = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(2).replace(/^-(0\.00)$/, "$1"));

export const sentInput = (id) => sentAt.set(id, performance.now());
export const clearFrames = () => (shownAt.length = 0);
export const clearInputs = () => sentAt.clear();

/** Count a frame that has been shown. */
export function shownFrame({ input }) {
  const now = performance.now();
  if (sentAt.has(input)) {
    delays.push(now - sentAt.get(input));
    if (delays.length > MAX_DELAYS) delays.shift();
  }
  for (const id of sentAt.keys()) if (id <= input) sentAt.delete(id);
  shownAt.push(now);
}

/** Update the meters. */
export function showMeters(last, isRunning) {
  if (!last) return;
  $("step").textContent = last.step;
  $("reward").textContent = number(last.total);
  $("queue").textContent = last.pending;
  $("model").innerHTML = `${last.milliseconds.toFixed(last.milliseconds < 10 ? 1 : 0)} <small>ms</small>`;
  const now = performance.now();
  while (shownAt.length && shownAt[0] < now - 1000) shownAt.shift();
  $("fps").textContent = isRunning ? shownAt.length : "\u2013";
  if (!delays.length) return;
  const sorted = [...delays].sort((a, b) => a - b);
  const quantile = (q) => Math.round(sorted[Math.floor(q * (sorted.length - 1))]);
  $("delay").innerHTML = `${quantile(0.5)} <small>/ ${quantile(0.95)} ms</small>`;
}
