// Settings panel: sampling settings and key map.

import { cap, glyph } from "./keyboard.js";
import { Panel } from "./panel.js";

const $ = (id) => document.getElementById(id);
const storage = (keyMap, name) => {
  const shape = Object.entries(keyMap.streams).map(([stream, spec]) => `${stream}:${spec.kind}:${spec.n}`);
  return `reelworld keys ${name} ${shape.join(" ")}`;
};

/** Load the key map that this browser has stored for a world. */
export function loadKeys(keyMap, name) {
  try {
    const text = localStorage.getItem(storage(keyMap, name));
    if (text) keyMap.restore(text);
  } catch {
    // the browser has no storage
  }
}

function storeKeys(keyMap, name) {
  try {
    if (keyMap.edited) localStorage.setItem(storage(keyMap, name), keyMap.toText());
    else localStorage.removeItem(storage(keyMap, name));
  } catch {
    // the browser has no storage
  }
}

export class Settings {
  #keyMap = null;
  #name = "";
  #sampler = null;
  #capturing = null; // action that the next key is bound to
  #on;

  /** @param on {{keys(), sample(sampler), previews()}} change handlers */
  constructor(on) {
    this.#on = on;
    new Panel("panel", "settings", () => this.#capture(null));
    $("previews").onclick = () => on.previews();
    for (const id of ["temperature", "passes"]) $(id).oninput = () => this.#sample();
    $("sampler-reset").onclick = () => {
      this.#showSampler(this.#sampler);
      this.#sample();
    };
    $("keys-reset").onclick = () => {
      this.#keyMap.useDefaults();
      this.#changed();
    };
  }

  /** Show a world's settings; after a reconnection they are sent again. */
  show(world, keyMap) {
    const isNew = this.#name !== world.name;
    this.#keyMap = keyMap;
    this.#name = world.name;
    this.#sampler = world.sampler;
    $("keys-section").hidden = !keyMap.choices.length;
    $("sampler-section").hidden = !world.sampler;
    $("previews").hidden = !world.action_previews;
    if (world.sampler && isNew) this.#showSampler(world.sampler);
    else if (world.sampler && this.#isChanged()) this.#sample();
    this.#listKeys();
  }

  /** Bind a key to the waiting action; returns false when there is none. */
  bindNext(code) {
    if (!this.#capturing) return false;
    const choice = this.#capturing;
    this.#capture(null);
    if (code !== "Escape") {
      this.#keyMap.bind(choice, code);
      this.#changed();
      $("status").textContent = `${choice.name} is now bound to ${glyph(code)}`;
    }
    $("key-list").querySelectorAll("button.bind")[this.#keyMap.choices.indexOf(choice)]?.focus();
    return true;
  }

  #isChanged = () => Number($("temperature").value) !== this.#sampler.temperature || Number($("passes").value) !== this.#sampler.steps;

  #showSampler({ temperature, steps }) {
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
    storeKeys(this.#keyMap, this.#name);
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
    button.ariaLabel = `Remove ${code.startsWith("Pad") ? "gamepad " : ""}${glyph(code)} from ${choice.name}`;
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
