// Fetches frames, keeps as many as memory allows, and fetches ahead those that are next.
// In: the list of a series. Out: { id, about, pixels } by place in the list; on failure an Error with the reason.

const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array };
// Browsers open six connections to a server: two stay free for what is looked at.
const AHEAD_AT_ONCE = 4;
const MOST_BYTES = (navigator.deviceMemory ?? 8) <= 4 ? 192 * 2 ** 20 : 512 * 2 ** 20;

export async function read(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { headers: { Accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server cannot be reached; check whether it runs, then scroll on or load the page again");
  }
  if (response.ok) return response;
  if (response.status === 401) throw new Error("your session has ended: load the page again and log in");
  let reason = `the server answered ${response.status}`;
  try {
    reason = (await response.json()).detail ?? reason;
  } catch {
    // No JSON: the status is all there is.
  }
  throw new Error(typeof reason === "string" ? reason : JSON.stringify(reason));
}

export class Frames {
  // `onLoaded(index)` is called for each frame that has come.
  constructor(list, onLoaded) {
    this.list = list;
    this.onLoaded = onLoaded;
    this.held = new Map();
    this.failed = new Map();
    this.underway = new Map();
    this.bytes = 0;
    this.place = 0;
    this.direction = 1;
    this.ahead = 0;
    this.ended = new AbortController();
  }

  get count() {
    return this.list.frames.length;
  }

  has(index) {
    return this.held.has(index);
  }

  // Returns a frame. One that failed is tried again when it is asked for again.
  get(index, { background = false } = {}) {
    if (this.held.has(index)) return Promise.resolve(this.held.get(index));
    if (!this.underway.has(index)) {
      const fetched = this.#fetch(index, "usual", background).then(
        (frame) => this.#keep(index, frame),
        (error) => {
          this.failed.set(index, error.message);
          throw error;
        },
      );
      this.underway.set(index, fetched);
      const over = () => this.underway.delete(index);
      fetched.then(over, over);
    }
    return this.underway.get(index);
  }

  // Returns another look at a frame: "stored" (nothing subtracted) or "file" (through the file's own curve).
  async other(index, look) {
    const frame = await this.get(index);
    frame.looks ??= {};
    frame.looks[look] ??= await this.#fetch(index, look, false);
    return frame.looks[look];
  }

  // Fetches ahead around a place, first in the direction of scrolling.
  aim(index, direction) {
    this.place = index;
    this.direction = direction || this.direction;
    this.#fill();
  }

  end() {
    this.ended.abort();
    this.held.clear();
  }

  #fill() {
    while (this.ahead < AHEAD_AT_ONCE && !this.ended.signal.aborted) {
      const next = this.#nearestMissing();
      if (next === null) return;
      this.ahead += 1;
      const over = () => {
        this.ahead -= 1;
        this.#fill();
      };
      this.get(next, { background: true }).then(over, over);
    }
  }

  #nearestMissing() {
    const each = this.held.size ? this.bytes / this.held.size : 0;
    const reach = each ? Math.max(2, Math.floor(MOST_BYTES / each / 2) - 1) : 2;
    for (let step = 1; step <= Math.min(reach, this.count); step += 1) {
      for (const way of [this.direction, -this.direction]) {
        const index = this.place + way * step;
        const wanted = index >= 0 && index < this.count && !this.held.has(index);
        if (wanted && !this.underway.has(index) && !this.failed.has(index)) return index;
      }
    }
    return null;
  }

  async #fetch(index, look, background) {
    const [instance, number] = this.list.frames[index];
    const address = this.list.frame_url.replace("{instance}", instance).replace("{number}", number);
    const headers = background ? { Accept: "application/json", "X-Background": "1" } : { Accept: "application/json" };
    const response = await read(look === "usual" ? address : `${address}?look=${look}`, { headers, signal: this.ended.signal });
    const about = JSON.parse(response.headers.get("Frame-Values"));
    const bytes = await response.arrayBuffer();
    const Values = TYPES[about.kind] ?? Uint8Array;
    if (about.kind === "shown") Object.assign(about, { min: 0, max: 255 });
    return { id: `frame:${instance}/${number}/${look}`, index, instance, about, pixels: new Values(bytes) };
  }

  #keep(index, frame) {
    this.failed.delete(index);
    this.held.set(index, frame);
    this.bytes += frame.pixels.byteLength;
    while (this.bytes > MOST_BYTES && this.held.size > 1) {
      const far = [...this.held.keys()].reduce((a, b) => (Math.abs(a - this.place) >= Math.abs(b - this.place) ? a : b));
      if (far === index) break;
      this.bytes -= this.held.get(far).pixels.byteLength;
      this.held.delete(far);
    }
    this.onLoaded(index);
    return frame;
  }
}

// Says what a pixel of a frame holds, in the unit that its file gives.
export function valueInWords({ about, pixels }, column, row) {
  const at = row * about.columns + column;
  if (about.kind === "rgb") return pixels.subarray(3 * at, 3 * at + 3).join(" ");
  const value = pixels[at] * about.slope + about.intercept;
  return `${Number.isInteger(value) ? value : Number(value.toPrecision(5))}${about.unit ? ` ${about.unit}` : ""}`;
}
