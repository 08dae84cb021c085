// Recording: the server writes episodes into the folder of --record.

const $ = (id) => document.getElementById(id);
let isOn = false;
let toastTimer = 0;

/** Show the button where the server records; ``send`` switches recording. */
export function showRecordButton(world, send) {
  showRecording({ on: false });
  $("record").hidden = !world.record;
  $("record").onclick = () => send({ type: "record", on: !isOn });
}

export function showRecording({ on, problem = "" }) {
  isOn = on;
  $("record").classList.toggle("is-on", on);
  $("record").ariaPressed = String(on);
  $("record").querySelector(".label").textContent = on ? "Recording" : "Record";
  if (problem) toast(capitalize(problem));
}

export const showRecorded = ({ video, frames }) => toast(`Saved ${frames} frames: ${video}`);

export const capitalize = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;

/** Show a message for a while. */
export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("toast").hidden = true), 6000);
}
