// Where the game begins: anywhere, at a moment of a recording, at a picture of one's own.

import { Panel } from "./panel.js";
import { toast } from "./recorder.js";

const $ = (id) => document.getElementById(id);
let panel = null;
let player = "";
let shownFor = "";

/** @param begin {(start) => void} begins at the moment of that number, or anywhere; ``nextId`` numbers an upload */
export function offerStarts({ begin, nextId, begun }) {
  panel = new Panel("starts", "start-from");
  const anywhere = () => {
    panel.close();
    begin(undefined);
  };
  $("start-random").onclick = anywhere;
  $("start-upload").onclick = () => $("start-file").click();
  $("start-file").onchange = async ({ target }) => {
    if (target.files[0]) await upload(target.files[0], nextId(), begun);
    target.value = "";
  };
  const stage = $("stage");
  stage.ondragover = (event) => event.preventDefault();
  stage.ondrop = (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) upload(file, nextId(), begun);
  };
  $("start-list").onclick = ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    panel.close();
    begin(Number(button.dataset.start));
  };
}

/** Show the moments of a world, once. */
export async function showStarts(world) {
  player = world.player;
  $("start-from").hidden = !world.images;
  $("starts-recorded").hidden = !world.starts;
  if (shownFor === world.name || !world.starts) return;
  shownFor = world.name;
  const answer = await fetch(`api/starts${location.search}`);
  if (!answer.ok) return;
  const { starts } = await answer.json();
  const items = await Promise.all(starts.map(async ({ image }, i) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(image), (c) => c.charCodeAt(0))]));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.start = i;
    button.ariaLabel = `Start at moment ${i + 1}`;
    button.append(canvas);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  $("start-list").replaceChildren(...items);
}

async function upload(file, id, begun) {
  const address = new URL("api/image", location.href);
  address.search = location.search;
  address.searchParams.set("player", player);
  address.searchParams.set("id", id);
  try {
    const answer = await fetch(address, { method: "POST", body: file });
    if (!answer.ok) return toast(await answer.text());
    if (panel.isOpen) panel.close();
    begun();
  } catch {
    toast("The picture did not reach the server; it may be too large.");
  }
}
