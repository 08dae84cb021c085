// WebSocket to the server: connects, reconnects, parses frames. See docs/protocol.md.

const PROTOCOL = 4;
const HEADER_BYTES = 28;
const TYPES = ["hello", "progress", "action_previews", "recording", "recorded", "comparison"];
const [RAW, JPEG] = [2, 3]; // encodings of an image; 1 is PNG
const FINAL = new Set([1008, 1011, 4000, 4001, 4002, 4003]); // closed for a reason: only the user can reconnect

export class Connection {
  #socket = null;
  #wait = 500;
  #on;

  /** @param on {{hello, progress, action_previews, recording, recorded, comparison}} handlers by message type, and {{frame, lost, closed}} */
  constructor(on) {
    this.#on = on;
  }

  open() {
    const address = new URL("api/play", document.baseURI);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.search = location.search; // carries the token when there is one
    address.searchParams.set("encodings", "raw,jpeg");
    const socket = new WebSocket(address);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#readText(data) : this.#on.frame(readFrame(data)));
    socket.onclose = ({ code, reason }) => {
      if (FINAL.has(code)) return this.#on.closed(reason, code);
      this.#on.lost();
      setTimeout(() => this.open(), this.#wait);
      this.#wait = Math.min(2 * this.#wait, 5000);
    };
  }

  /** Reconnect with the page's current address. */
  reopen() {
    const socket = this.#socket;
    if (socket.readyState === WebSocket.CLOSED) return this.open();
    socket.onmessage = null;
    socket.onclose = () => this.open(); // only now the place on the server is free
    socket.close();
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #readText(text) {
    const message = JSON.parse(text);
    if (message.type === "hello") {
      if (message.protocol !== PROTOCOL) return location.reload(); // the server was updated
      this.#wait = 500;
    }
    if (TYPES.includes(message.type)) this.#on[message.type](message); // newer servers may have other types
  }
}

/** Split a binary message into its header and its image. */
function readFrame(buffer) {
  const view = new DataView(buffer);
  const flags = view.getUint8(2);
  return {
    terminated: (flags & 1) !== 0,
    truncated: (flags & 2) !== 0,
    pending: view.getUint8(3),
    sequence: view.getUint32(4, true),
    step: view.getUint32(8, true),
    input: view.getUint32(12, true),
    reward: view.getFloat32(16, true),
    total: view.getFloat32(20, true),
    milliseconds: view.getFloat32(24, true),
    image: readImage(view.getUint8(1), new Uint8Array(buffer, HEADER_BYTES)),
  };
}

/** Return an argument for createImageBitmap: a file, or raw pixels. */
function readImage(encoding, bytes) {
  if (encoding !== RAW) return new Blob([bytes], { type: encoding === JPEG ? "image/jpeg" : "image/png" });
  const image = new ImageData(bytes[0] + 256 * bytes[1], bytes[2] + 256 * bytes[3]);
  for (let from = 4, to = 0; from < bytes.length; from += 3, to += 4) {
    image.data[to] = bytes[from];
    image.data[to + 1] = bytes[from + 1];
    image.data[to + 2] = bytes[from + 2];
    image.data[to + 3] = 255;
  }
  return image;
}
