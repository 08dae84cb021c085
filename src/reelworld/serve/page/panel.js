// A panel at the side, or from below on a phone; one is open at a time. Escape closes it.

const $ = (id) => document.getElementById(id);
let openPanel = null;

export class Panel {
  #panel;
  #button;
  #closed;

  /** @param closed what to do when it is closed */
  constructor(id, buttonId, closed = () => {}) {
    this.#panel = $(id);
    this.#button = $(buttonId);
    this.#closed = closed;
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
    this.#closed();
    this.#button.focus();
  }

  #show(isOpen) {
    this.#panel.hidden = !isOpen;
    this.#button.ariaExpanded = String(isOpen);
    document.body.classList.toggle("has-panel", isOpen);
  }
}

/** Close what is open; says whether something was. */
export function closePanel() {
  const was = openPanel;
  was?.close();
  return was !== null;
}
