// One WebSocket to the server: opens it, opens it again when it is lost, reads frames. See docs/protocol.md.

const PROTOCOL = 3;
const HEADER_BYTES = 28;
const [RAW, JPEG] = [2, 3]; // encodings of an image; 1 is PNG
const FINAL = new Set([1008, 1011, 4000, 4001, 4002, 4003]); // the server said why; only a person can mend it

export class Connection {
  #socket = null;
  #wait = 500;
  #on;

  /** @param on {{hello(world), making(progress), effects(pictures), recording(state), recorded(files), beside(distance), frame(frame), lost(), closed(reason, code)}} what to do when these happen */
  constructor(on) {
    this.#on = on;
  }

  open() {
    const address = new URL("api/play", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.search = location.search; // carries the token when there is one
    address.searchParams.set("takes", "raw,jpeg");
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

  /** Leave, and come back at the address that the page has now. */
  reopen() {
    const socket = this.#socket;
    if (socket.readyState === WebSocket.CLOSED) return this.open();
    socket.onmessage = null;
    socket.onclose = () => this.open(); // a place is free again before the next one is asked for
    socket.close();
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #readText(text) {
    const message = JSON.parse(text);
    if (message.type === "making") return this.#on.making(message);
    if (message.type === "effects") return this.#on.effects(message);
    if (message.type === "recording") return this.#on.recording(message);
    if (message.type === "beside") return this.#on.beside(message);
    if (message.type === "recorded") return this.#on.recorded(message);
    if (message.type !== "hello") return; // newer servers may say more
    if (message.protocol !== PROTOCOL) return location.reload(); // the server was updated under this page
    this.#wait = 500;
    this.#on.hello(message);
  }
}

/** Split a binary message into its header and its image. */
function readFrame(buffer) {
  const view = new DataView(buffer);
  const flags = view.getUint8(2);
  return {
    terminated: (flags & 1) !== 0,
    truncated: (flags & 2) !== 0,
    waiting: view.getUint8(3),
    sequence: view.getUint32(4, true),
    step: view.getUint32(8, true),
    input: view.getUint32(12, true),
    reward: view.getFloat32(16, true),
    total: view.getFloat32(20, true),
    milliseconds: view.getFloat32(24, true),
    image: readImage(view.getUint8(1), new Uint8Array(buffer, HEADER_BYTES)),
  };
}

/** What createImageBitmap takes: a file as it came, or the pixels themselves. */
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
