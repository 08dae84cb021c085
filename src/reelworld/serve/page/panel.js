// Side panel, at the bottom on a phone. One is open at a time; Escape closes it.

const $ = (id) => document.getElementById(id);
let openPanel = null;

export class Panel {
  #panel;
  #button;
  #onClose;

  constructor(id, buttonId, onClose = () => {}) {
    this.#panel = $(id);
    this.#button = $(buttonId);
    this.#onClose = onClose;
    this.#button.onclick = () => (this.isOpen ? this.close() : this.open());
    this.#panel.querySelector(".close").onclick = () => this.close();
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  open() {
    openPanel?.close();
    openPanel = this;
    this.#show(true);
    this.#panel.querySelector(".close").focus();
  }

  close() {
    openPanel = null;
    this.#show(false);
    this.#onClose();
    this.#button.focus();
  }

  #show(isOpen) {
    this.#panel.hidden = !isOpen;
    this.#button.ariaExpanded = String(isOpen);
    document.body.classList.toggle("has-panel", isOpen);
  }
}

/** Close the open panel; returns true when there was one. */
export function closePanel() {
  const panel = openPanel;
  panel?.close();
  return panel !== null;
}
