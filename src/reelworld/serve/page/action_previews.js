// Action previews: a small animation of each action in its button.

const FRAME_MS = 350;
let shown = []; // {canvas, strip, frames}
let timer = 0;

/** True where actions have no names, as latent actions do. */
export const needsPreviews = (keyMap) =>
  keyMap.choices.length > 0 && keyMap.choices.every((c) => /^action \d+$/.test(c.name)) && keyMap.choices.length <= 16;

/** Show the previews of a message in the buttons. */
export async function showPreviews(message, buttons) {
  const loaded = await Promise.all(message.previews.map(async (preview) => ({ ...preview, strip: await load(preview.image) })));
  clearInterval(timer);
  shown.forEach(({ canvas }) => canvas.remove());
  shown = [];
  for (const { stream, value, frames, strip } of loaded) {
    const button = buttons.get(`@${stream} ${JSON.stringify(value)}`);
    if (!button) continue;
    const canvas = document.createElement("canvas");
    canvas.className = "preview";
    canvas.width = strip.width / frames;
    canvas.height = strip.height;
    canvas.ariaHidden = "true";
    button.append(canvas);
    button.classList.add("has-preview");
    shown.push({ canvas, strip, frames });
  }
  document.body.classList.toggle("has-previews", shown.length > 0);
  if (!shown.length) return;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return draw(Infinity);
  let tick = 0;
  draw(0);
  timer = setInterval(() => draw((tick += 1)), FRAME_MS);
}

/** Remove the previews, before the buttons are rebuilt. */
export function clearPreviews() {
  clearInterval(timer);
  shown = [];
  document.body.classList.remove("has-previews");
}

function draw(tick) {
  for (const { canvas, strip, frames } of shown) {
    const at = Number.isFinite(tick) ? Math.min(tick % (frames + 2), frames - 1) : frames - 1; // the last frame is held
    canvas.getContext("2d").drawImage(strip, -at * canvas.width, 0);
  }
}

const load = (base64) =>
  createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" }));
