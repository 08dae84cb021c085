// Side by side with the real environment: its button, the second picture, and a curve of their similarity.

import { capitalize, toast } from "./recorder.js";

const $ = (id) => document.getElementById(id);
const MIN_DB = 10; // bottom of the curve
const MAX_DB = 50; // top of the curve, also for equal pictures
const MAX_POINTS = 240; // steps on the curve
let points = []; // {step, psnr}

export const isSideBySide = (world) => world.views.length > 1;

/** Show the button where the world has an environment; ``reconnect`` reopens the connection with the page's address. */
export function showReferenceEnv(world, reconnect) {
  const isOn = isSideBySide(world);
  document.body.classList.toggle("is-side-by-side", isOn);
  for (const id of ["env-picture", "world-caption", "comparison"]) $(id).hidden = !isOn;
  const steps = world.action_repeat > 1 ? ` Each step is ${world.action_repeat} steps of the game.` : "";
  $("comparison-note").textContent = `Same start, same keys.${steps} The real game cannot be rewound.`;
  const button = $("side-by-side");
  button.hidden = !world.reference_env;
  button.ariaPressed = String(isOn);
  button.classList.toggle("is-on", isOn);
  button.classList.toggle("is-unavailable", Boolean(world.reference_env?.problem) && !isOn);
  button.onclick = () => {
    if (!isOn && world.reference_env.problem) return toast(capitalize(world.reference_env.problem));
    setSideBySide(!isOn);
    reconnect();
  };
  points = [];
  draw();
}

/** Store the mode in the page's address, so that a reload keeps it. */
export function setSideBySide(isOn) {
  const address = new URL(location.href);
  if (isOn) address.searchParams.set("reference_env", "1");
  else address.searchParams.delete("reference_env");
  history.replaceState(null, "", address);
}

export const wantsSideBySide = () => new URLSearchParams(location.search).get("reference_env") === "1";

/** Show the similarity of a pair of pictures. */
export function showComparison({ step, psnr, world_ended: hasEnded }) {
  if (points.length && step <= points.at(-1).step) points = []; // another episode
  points.push({ step, psnr });
  if (points.length > MAX_POINTS) points.shift();
  $("psnr").textContent = psnr === null ? "identical" : `${psnr.toFixed(1)} dB`;
  $("world-ended").hidden = !hasEnded;
  draw();
}

/** Draw the curve; higher is more similar. */
function draw() {
  const width = 200;
  const height = 40;
  const span = Math.max(40, points.length - 1);
  const first = points[0]?.step ?? 0;
  const y = (psnr) => height - (height * (Math.min(MAX_DB, Math.max(MIN_DB, psnr ?? MAX_DB)) - MIN_DB)) / (MAX_DB - MIN_DB);
  const line = points.map(({ step, psnr }) => `${((width * (step - first)) / span).toFixed(1)},${y(psnr).toFixed(1)}`);
  $("curve").setAttribute("points", line.join(" "));
  $("curve-end").setAttribute("d", line.length ? `M${line.at(-1)}h0` : "");
}
