// What each action does, as a small moving picture in its button.

const EVERY = 350; // milliseconds per picture
let shown = []; // {canvas, image, frames, at}
let timer = 0;

/** True where the names of actions say nothing, as those do that were found in video. */
export const needsPictures = (keyMap) =>
  keyMap.choices.length > 0 && keyMap.choices.every((c) => /^action \d+$/.test(c.name)) && keyMap.choices.length <= 16;

/** Put the pictures of a message into the buttons. */
export async function showEffects(message, buttons) {
  const loaded = await Promise.all(message.effects.map(async (effect) => ({ ...effect, strip: await load(effect.image) })));
  clearInterval(timer);
  shown.forEach(({ canvas }) => canvas.remove());
  shown = [];
  for (const { stream, value, frames, strip } of loaded) {
    const button = buttons.get(`@${stream} ${JSON.stringify(value)}`);
    if (!button) continue;
    const canvas = document.createElement("canvas");
    canvas.className = "effect";
    canvas.width = strip.width / frames;
    canvas.height = strip.height;
    canvas.ariaHidden = "true";
    button.append(canvas);
    button.classList.add("has-effect");
    shown.push({ canvas, strip, frames });
  }
  document.body.classList.toggle("has-effects", shown.length > 0);
  if (!shown.length) return;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return draw(Infinity);
  let turn = 0;
  draw(0);
  timer = setInterval(() => draw((turn += 1)), EVERY);
}

/** Forget the pictures: the buttons are made anew. */
export function clearEffects() {
  clearInterval(timer);
  shown = [];
  document.body.classList.remove("has-effects");
}

function draw(turn) {
  for (const { canvas, strip, frames } of shown) {
    const at = Number.isFinite(turn) ? Math.min(turn % (frames + 2), frames - 1) : frames - 1; // the last one stays a while
    canvas.getContext("2d").drawImage(strip, -at * canvas.width, 0);
  }
}

const load = (base64) =>
  createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" }));
