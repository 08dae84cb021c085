// Keep what is played: the server writes it into the folder it was started with.

const $ = (id) => document.getElementById(id);
let isOn = false;
let toastTimer = 0;

/** Show the button where the server may record; ``send`` asks it to. */
export function offerRecording(world, send) {
  showRecording({ on: false });
  $("record").hidden = !world.record;
  $("record").onclick = () => send({ type: "record", on: !isOn });
}

export function showRecording({ on, problem = "" }) {
  isOn = on;
  $("record").classList.toggle("is-on", on);
  $("record").ariaPressed = String(on);
  $("record").querySelector(".label").textContent = on ? "Recording" : "Record";
  if (problem) toast(problem);
}

export const showRecorded = ({ film, frames }) => toast(`Kept ${frames} frames: ${film}`);

/** Begin with a capital. */
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;

/** Say something for a while. */
export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("toast").hidden = true), 6000);
}
