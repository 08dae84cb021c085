// Start of an episode: random, a recorded frame, or an uploaded image.

import { Panel } from "./panel.js";
import { capitalize, toast } from "./recorder.js";

const $ = (id) => document.getElementById(id);
let panel = null;
let player = "";
let shownFor = "";

/** @param start {(index) => void} starts an episode from a recorded frame, or a random one; ``nextId`` numbers an upload */
export function setUpStart({ start, nextId, started }) {
  panel = new Panel("start-panel", "start-from");
  $("start-random").onclick = () => {
    panel.close();
    start(undefined);
  };
  $("start-upload").onclick = () => $("start-file").click();
  $("start-file").onchange = async ({ target }) => {
    if (target.files[0]) await upload(target.files[0], nextId(), started);
    target.value = "";
  };
  const stage = $("stage");
  stage.ondragover = (event) => event.preventDefault();
  stage.ondrop = (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) upload(file, nextId(), started);
  };
  $("start-list").onclick = ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    panel.close();
    start(Number(button.dataset.index));
  };
}

/** Show the recorded frames of a world, once. */
export async function showInitialContexts(world) {
  player = world.player;
  $("start-from").hidden = !world.image_upload;
  $("start-recorded").hidden = !world.initial_contexts;
  if (shownFor === world.name || !world.initial_contexts) return;
  shownFor = world.name;
  const answer = await fetch(`api/initial-contexts${location.search}`);
  if (!answer.ok) return;
  const { initial_contexts: contexts } = await answer.json();
  const items = await Promise.all(contexts.map(async ({ image }, i) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(image), (c) => c.charCodeAt(0))]));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.index = i;
    button.ariaLabel = `Start from recorded frame ${i + 1}`;
    button.append(canvas);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  $("start-list").replaceChildren(...items);
}

async function upload(file, id, started) {
  const address = new URL("api/image", document.baseURI);
  address.search = location.search;
  address.searchParams.set("player", player);
  address.searchParams.set("id", id);
  try {
    const answer = await fetch(address, { method: "POST", body: file });
    if (!answer.ok) return toast(capitalize(await answer.text()));
    if (panel.isOpen) panel.close();
    started();
  } catch {
    toast("Upload failed. The file may be too large.");
  }
}
