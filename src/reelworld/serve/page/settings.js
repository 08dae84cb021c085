// The panel of settings: how the world draws, and which keys mean what.

import { cap, glyph } from "./keyboard.js";
import { Panel } from "./panel.js";

const $ = (id) => document.getElementById(id);
const storage = (keyMap, name) => {
  const shape = Object.entries(keyMap.streams).map(([stream, spec]) => `${stream}:${spec.kind}:${spec.n}`);
  return `reelworld keys ${name} ${shape.join(" ")}`;
};

/** Take the keys that this browser remembers for a world. */
export function rememberedKeys(keyMap, name) {
  try {
    const text = localStorage.getItem(storage(keyMap, name));
    if (text) keyMap.restore(text);
  } catch {
    // a browser that keeps nothing
  }
}

function remember(keyMap, name) {
  try {
    if (keyMap.edited) localStorage.setItem(storage(keyMap, name), keyMap.toText());
    else localStorage.removeItem(storage(keyMap, name));
  } catch {
    // a browser that keeps nothing
  }
}

export class Settings {
  #keyMap = null;
  #name = "";
  #drawing = null;
  #capturing = null; // the action that waits for its key
  #on;

  /** @param on {{keys(), sample(drawing), effects()}} what to do when these change */
  constructor(on) {
    this.#on = on;
    new Panel("panel", "settings", () => this.#capture(null));
    $("effects").onclick = () => on.effects();
    for (const id of ["temperature", "passes"]) $(id).oninput = () => this.#sample();
    $("drawing-reset").onclick = () => {
      this.#showDrawing(this.#drawing);
      this.#sample();
    };
    $("keys-reset").onclick = () => {
      this.#keyMap.useDefaults();
      this.#changed();
    };
  }

  /** Show a world; what was set for it before a connection was lost holds again. */
  show(world, keyMap) {
    const isNew = this.#name !== world.name;
    this.#keyMap = keyMap;
    this.#name = world.name;
    this.#drawing = world.sampler;
    $("keys-section").hidden = !keyMap.choices.length;
    $("drawing-section").hidden = !world.sampler;
    $("effects").hidden = !world.effects;
    if (world.sampler && isNew) this.#showDrawing(world.sampler);
    else if (world.sampler && this.#isChanged()) this.#sample();
    this.#listKeys();
  }

  /** Offer a key to the action that waits for one; says whether it was taken. */
  take(code) {
    if (!this.#capturing) return false;
    const choice = this.#capturing;
    this.#capture(null);
    if (code !== "Escape") {
      this.#keyMap.bind(choice, code);
      this.#changed();
      $("status").textContent = `${choice.name} is now on ${glyph(code)}`;
    }
    $("key-list").querySelectorAll("button.bind")[this.#keyMap.choices.indexOf(choice)]?.focus();
    return true;
  }

  #isChanged = () => Number($("temperature").value) !== this.#drawing.temperature || Number($("passes").value) !== this.#drawing.steps;

  #showDrawing({ temperature, steps }) {
    $("temperature").max = Math.max(2, temperature);
    $("passes").max = Math.max(24, steps);
    $("temperature").value = temperature;
    $("passes").value = steps;
    this.#showValues();
  }

  #showValues() {
    $("temperature-value").textContent = Number($("temperature").value).toFixed(2);
    $("passes-value").textContent = $("passes").value;
  }

  #sample() {
    this.#showValues();
    this.#on.sample({ temperature: Number($("temperature").value), steps: Number($("passes").value) });
  }

  #changed() {
    remember(this.#keyMap, this.#name);
    this.#listKeys();
    this.#on.keys();
  }

  #capture(choice) {
    this.#capturing = choice;
    for (const button of $("key-list").querySelectorAll("button.bind")) {
      const isThis = choice !== null && button.dataset.action === choice.action;
      button.classList.toggle("is-waiting", isThis);
      button.textContent = isThis ? "Press a key\u2026" : "Add key";
    }
  }

  #listKeys() {
    const lines = this.#keyMap.choices.map((choice) => {
      const line = document.createElement("li");
      const name = document.createElement("span");
      name.textContent = choice.name;
      line.append(name, ...this.#keyMap.codesOf(choice).map((code) => this.#dropButton(choice, code)), this.#bindButton(choice));
      return line;
    });
    $("key-list").replaceChildren(...lines);
    $("keys-reset").disabled = !this.#keyMap.edited;
  }

  #dropButton(choice, code) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `drop${code.startsWith("Pad") ? " of-gamepad" : ""}`;
    button.ariaLabel = `Take ${code.startsWith("Pad") ? "gamepad " : ""}${glyph(code)} away from ${choice.name}`;
    button.append(cap(code));
    button.onclick = () => {
      this.#keyMap.unbind(code);
      this.#changed();
      $("key-list").querySelectorAll("button.bind")[this.#keyMap.choices.indexOf(choice)]?.focus();
    };
    return button;
  }

  #bindButton(choice) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "bind";
    button.dataset.action = choice.action;
    button.textContent = "Add key";
    button.ariaLabel = `Add a key for ${choice.name}`;
    button.onclick = () => this.#capture(choice);
    return button;
  }
}
