// A world beside the real game: the button, the second picture, and a curve of how far apart they are.

import { sentence, toast } from "./recorder.js";

const $ = (id) => document.getElementById(id);
const LEAST = 10; // dB at the bottom of the curve
const MOST = 50; // at its top; equal pictures stand there, too
const KEPT = 240; // steps that the curve reaches back
let points = []; // {step, psnr}

export const isBeside = (world) => world.pictures.length > 1;

/** Show the button where the world has a game; ``reconnect`` plays again at the address of the page. */
export function offerBeside(world, reconnect) {
  const isOn = isBeside(world);
  document.body.classList.toggle("is-beside", isOn);
  for (const id of ["game-picture", "world-caption", "apart"]) $(id).hidden = !isOn;
  const steps = world.held > 1 ? ` Each step is ${world.held} of the game's.` : "";
  $("apart-note").textContent = `Same start, same keys.${steps} No going back: the real game cannot.`;
  const button = $("beside");
  button.hidden = !world.beside;
  button.ariaPressed = String(isOn);
  button.classList.toggle("is-on", isOn);
  button.classList.toggle("is-absent", world.beside?.problem !== "" && !isOn);
  button.onclick = () => {
    if (!isOn && world.beside.problem) return toast(sentence(world.beside.problem));
    setBeside(!isOn);
    reconnect();
  };
  points = [];
  draw();
}

/** Put the wish into the address, so that it outlives a reload. */
export function setBeside(isOn) {
  const address = new URL(location.href);
  if (isOn) address.searchParams.set("beside", "1");
  else address.searchParams.delete("beside");
  history.replaceState(null, "", address);
}

export const wantsBeside = () => new URLSearchParams(location.search).get("beside") === "1";

/** Take what is told of a pair of pictures. */
export function showApart({ step, psnr, world_ended: hasEnded }) {
  if (points.length && step <= points.at(-1).step) points = []; // another episode
  points.push({ step, psnr });
  if (points.length > KEPT) points.shift();
  $("psnr").textContent = psnr === null ? "equal" : `${psnr.toFixed(1)} dB`;
  $("world-ended").hidden = !hasEnded;
  draw();
}

/** Draw the curve; higher is closer. */
function draw() {
  const width = 200;
  const height = 40;
  const span = Math.max(40, points.length - 1);
  const first = points[0]?.step ?? 0;
  const y = (psnr) => height - (height * (Math.min(MOST, Math.max(LEAST, psnr ?? MOST)) - LEAST)) / (MOST - LEAST);
  const line = points.map(({ step, psnr }) => `${((width * (step - first)) / span).toFixed(1)},${y(psnr).toFixed(1)}`);
  $("curve").setAttribute("points", line.join(" "));
  $("curve-end").setAttribute("d", line.length ? `M${line.at(-1)}h0` : "");
}
