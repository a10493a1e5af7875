// One viewer on a page: the list of a series or a job -> pictures that a person scrolls, windows and plays.
import { Bar } from "./bar.js";
import { MODES, listen } from "./controls.js";
import { Frames, read } from "./frames.js";
import { drawMarks, inputFor, inputInWords, ownPlace, sightInWords } from "./marks.js";
import { OwnBoxes } from "./own_boxes.js";
import { layOut, make, showHelp } from "./page.js";
import { Picture } from "./picture.js";
import { Automatic, dragged, inWords, windowsOf } from "./windows.js";

const SLOWEST = 1;
const FASTEST = 60;

export class Viewer {
  constructor(root) {
    this.root = root;
    this.parts = layOut(root);
    this.over = new AbortController();
    this.index = 0;
    this.wanted = 0;
    this.choice = 0;
    this.byHand = null;
    this.inverted = false;
    this.unsubtracted = false;
    this.count = 0;
    this.seen = new Set();
    this.broken = new Set();
    this.own = new OwnBoxes(this);
    this.automatic = new Automatic();
    this.showsInput = false;
    this.mode = matchMedia("(pointer: coarse)").matches ? "scroll" : "window";
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Images");
    root.show = (index) => this.goTo(index);
    root.addEventListener("viewer:own", ({ detail }) => this.own.show(detail.boxes), { signal: this.over.signal });
    root.addEventListener("viewer:draw", ({ detail }) => this.own.draw(detail.done), { signal: this.over.signal });
    this.say("Loading …");
  }

  async open() {
    try {
      this.list = await (await read(this.root.dataset.viewer, { credentials: "same-origin" })).json();
    } catch (error) {
      this.fail(error.message);
      return;
    }
    this.count = this.list.frames.length;
    this.rate = this.list.rate ?? 12;
    this.bar = new Bar(this.parts, this.list, (index) => this.goTo(index));
    this.frames = new Frames(this.list, (index) => this.bar.loaded(index));
    this.#connect();
    this.root.dispatchEvent(new CustomEvent("viewer:ready", { bubbles: true, detail: { frames: this.count, canDraw: ownPlace(this.list) !== null } }));
    await this.goTo(this.list.first);
    this.#fetchInput();
  }

  // What the model saw takes the server a while to draw: it begins before anybody asks, when the first picture is there.
  #fetchInput() {
    if (!this.list.input_url || this.over.signal.aborted) return;
    const { input } = inputFor(this.list, this.index).input;
    const headers = { "X-Background": "1" };
    fetch(this.list.input_url.replace("{input}", input), { headers, signal: this.over.signal }).catch(() => {});
  }

  // --- which picture

  step(by) {
    return this.goTo(this.wanted + by);
  }

  nextMark(way) {
    const places = this.bar.places.filter((place) => (place - this.wanted) * way > 0);
    if (places.length) this.goTo(way > 0 ? places[0] : places.at(-1));
  }

  async goTo(index) {
    const wanted = Math.min(Math.max(index, 0), this.count - 1);
    const direction = Math.sign(wanted - this.wanted);
    this.wanted = wanted;
    const slow = setTimeout(() => this.say("Loading …"), 150);
    try {
      const frame = await this.frames.get(wanted);
      if (this.wanted === wanted) await this.#display(wanted, frame);
    } catch (error) {
      if (this.wanted === wanted && error.name !== "AbortError") this.#displayFailure(wanted, error.message);
    } finally {
      clearTimeout(slow);
      // First what is looked at, then what lies around it.
      if (this.wanted === wanted && !this.over.signal.aborted) this.frames.aim(wanted, direction);
    }
  }

  async #display(index, frame) {
    this.picture ??= new Picture(this.parts.canvas);
    this.index = index;
    this.loaded = this.frame = frame;
    this.parts.pane.classList.remove("is-broken");
    this.say("");
    this.seen.add(index);
    this.broken.delete(index);
    await this.redraw();
    if (this.index === index) this.#tellPlace("viewer:frame", {});
  }

  #tellPlace(name, more) {
    const counts = { seen: this.seen.size, broken: this.broken.size, frames: this.count };
    const detail = { index: this.index, number: this.index + 1, ...counts, ...more };
    this.root.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
  }

  #displayFailure(index, reason) {
    this.index = index;
    this.loaded = this.frame = null;
    this.parts.pane.classList.add("is-broken");
    this.broken.add(index);
    this.#showPlace();
    this.fail(`Picture ${index + 1} cannot be shown: ${reason}`);
  }

  // --- how it is shown

  get windows() {
    return windowsOf(this.frame, this.list, this.automatic);
  }

  get window() {
    return this.byHand ?? this.windows[Math.min(this.choice, this.windows.length - 1)];
  }

  async redraw() {
    const { loaded } = this;
    if (!loaded) return;
    const plain = this.unsubtracted && loaded.about.subtracted;
    const frame = plain ? await this.frames.other(this.index, "stored") : loaded;
    if (this.loaded !== loaded) return;
    this.frame = frame;
    const { window } = this;
    if (window.byFile) {
      const shown = await this.frames.other(this.index, "file");
      if (this.frame !== frame) return;
      this.picture.show(shown, { low: 0, high: 255 }, this.inverted);
    } else {
      this.picture.show(frame, window, this.inverted !== (frame.about.inverted ?? false));
    }
    this.#showPlace();
    this.#showWindow(window);
    this.#showInput();
    drawMarks(this);
  }

  toggleSubtraction() {
    if (!this.loaded?.about.subtracted) return;
    this.unsubtracted = !this.unsubtracted;
    this.byHand = null;
    this.redraw();
  }

  chooseWindow(choice) {
    if (!this.frame || choice >= this.windows.length) return;
    this.choice = choice;
    this.byHand = null;
    this.redraw();
  }

  // Sets the window to what dragging so far makes of the one that it began with: dragging back brings that back.
  dragWindow(from, dx, dy) {
    if (!this.frame) return;
    this.byHand = dragged(from, dx, dy);
    this.redraw();
  }

  invert() {
    this.inverted = !this.inverted;
    this.parts.invert.setAttribute("aria-pressed", this.inverted);
    this.redraw();
  }

  reset() {
    this.choice = 0;
    this.byHand = null;
    if (this.inverted) this.invert();
    this.picture?.fit();
    this.redraw();
  }

  panBy(dx, dy) {
    if (!this.frame) return;
    this.picture.panBy(dx, dy);
    drawMarks(this);
  }

  zoomBy(factor, at) {
    if (!this.frame) return;
    this.picture.zoomBy(factor, at);
    drawMarks(this);
  }

  middle() {
    const { clientWidth, clientHeight } = this.parts.pane;
    return [clientWidth / 2, clientHeight / 2];
  }

  setMode(mode) {
    this.mode = mode;
    for (const one of this.parts.modes.children) one.setAttribute("aria-pressed", one.dataset.mode === mode);
    this.parts.pane.dataset.mode = mode;
  }

  leave() {
    if (this.own.isDrawing) this.own.end(null);
    else this.root.blur();
  }

  // --- cine

  toggleCine() {
    this.playing = !this.playing;
    this.parts.cine.textContent = this.playing ? "Stop" : "Play";
    this.parts.cine.setAttribute("aria-pressed", this.playing);
    if (this.playing) this.#play();
    this.#showPlace();
  }

  changeRate(factor) {
    this.rate = Math.min(Math.max(this.rate * factor, SLOWEST), FASTEST);
    this.#showPlace();
  }

  #play() {
    let due = performance.now() + 1000 / this.rate;
    const tick = async (now) => {
      if (!this.playing || this.over.signal.aborted) return;
      if (now >= due) {
        due = Math.max(due + 1000 / this.rate, now);
        // Nothing is left out: a picture that has not come yet is waited for.
        await this.goTo((this.index + 1) % this.count);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  // --- what the model saw

  toggleInput() {
    if (!this.list.input_url) return;
    this.showsInput = !this.showsInput;
    this.parts.input.setAttribute("aria-pressed", this.showsInput);
    this.parts.seenBox.hidden = !this.showsInput;
    this.#showInput();
  }

  #showInput() {
    if (!this.showsInput) return;
    const found = inputFor(this.list, this.index);
    const address = this.list.input_url.replace("{input}", found.input.input);
    const { seen } = this.parts;
    if (seen.getAttribute("src") === address && seen.complete && seen.naturalWidth) this.#nameInput(found);
    else this.#loadInput(address, found);
  }

  #loadInput(address, found) {
    const { seen, seenWords } = this.parts;
    seenWords.textContent = "Drawing what the model saw …";
    seen.classList.add("is-away");
    const isWanted = () => seen.getAttribute("src") === address;
    seen.onload = () => isWanted() && this.#nameInput(found);
    seen.onerror = async () => {
      // An image's failure has no reason in it; asked for once more, the server gives one.
      const reason = await read(address).then(() => "load the page again", (error) => error.message);
      if (isWanted()) seenWords.textContent = `What the model saw cannot be shown: ${reason}`;
    };
    if (!isWanted()) seen.src = address;
  }

  #nameInput(found) {
    this.parts.seenBox.classList.toggle("is-other", !found.isHere);
    this.parts.seen.classList.remove("is-away");
    this.parts.seenWords.textContent = inputInWords(this.list, this.index, found);
    this.parts.seen.alt = this.parts.seenWords.textContent;
  }

  // --- words

  say(text) {
    this.parts.message.textContent = text;
    this.parts.message.classList.remove("is-failure");
  }

  fail(reason) {
    this.say(reason);
    this.parts.message.classList.add("is-failure");
    this.#tellPlace("viewer:failed", { reason });
  }

  help() {
    showHelp(this.root);
  }

  pointAt(x, y) {
    this.parts.value.textContent = "";
    if (x === null || !this.frame || !this.picture) return;
    const { about, pixels } = this.frame;
    const [column, row] = this.picture.pixelAt(x, y);
    if (column < 0 || row < 0 || column >= about.columns || row >= about.rows) return;
    const at = row * about.columns + column;
    const value = about.kind === "rgb" ? pixels.subarray(3 * at, 3 * at + 3).join(" ") : this.#valueInWords(pixels[at]);
    this.parts.value.textContent = `${column + 1}, ${row + 1}: ${value}`;
  }

  #valueInWords(stored) {
    const { slope, intercept, unit } = this.frame.about;
    const value = stored * slope + intercept;
    return `${Number.isInteger(value) ? value : Number(value.toPrecision(5))}${unit ? ` ${unit}` : ""}`;
  }

  #showPlace() {
    const [, , position, edges] = this.list.frames[this.index];
    const words = `${this.index + 1} / ${this.count}`;
    this.parts.number.textContent = this.playing ? `${words} · ${Math.round(this.rate)}/s` : words;
    const outside = this.list.in_stack && this.index >= this.list.in_stack ? "outside the stack" : "";
    const view = this.loaded?.about.view ?? "";
    this.parts.place.textContent = position === null ? outside || view : `${position.toFixed(1)} mm`;
    const letters = (edges === null ? this.loaded?.about.edges : this.list.edges[edges]) ?? ["", "", "", ""];
    this.parts.edges.forEach((element, number) => (element.textContent = letters[number]));
    const { words: sight, kind } = sightInWords(this.list, this.index);
    this.parts.sight.textContent = sight;
    this.parts.sight.dataset.kind = kind;
    this.bar.show(this.index, words);
  }

  #showWindow(window) {
    const { subtracted, not_subtracted: whyNot } = this.frame.about;
    const isColour = this.frame.about.kind === "rgb" && !this.byHand;
    const words = [!isColour && inWords(window), this.inverted && "inverted", subtracted && "less its mask"];
    this.parts.window.textContent = words.filter(Boolean).join(" · ");
    this.parts.subtract.hidden = !this.loaded.about.subtracted;
    this.parts.subtract.setAttribute("aria-pressed", Boolean(subtracted));
    this.parts.subtract.title = `${this.loaded.about.subtracted} (s)`;
    const notes = [...this.list.problems, ...(whyNot ? [whyNot] : [])];
    this.parts.notes.hidden = !notes.length;
    this.parts.notes.textContent = notes.join("; ");
    const names = this.windows.map((one, number) => `${number + 1}  ${one.name}`);
    const options = this.byHand ? [...names, window.name] : names;
    if (this.parts.windows.dataset.names !== options.join("\n")) {
      this.parts.windows.replaceChildren(...options.map((name, value) => make("option", { value }, name)));
      this.parts.windows.dataset.names = options.join("\n");
    }
    this.parts.windows.value = this.byHand ? names.length : Math.min(this.choice, names.length - 1);
  }

  // --- begin and end

  #connect() {
    const { parts } = this;
    for (const [mode, words] of Object.entries(MODES)) {
      const choice = make("button", { type: "button", title: `dragging: ${words.toLowerCase()}` }, words);
      choice.dataset.mode = mode;
      choice.addEventListener("click", () => this.setMode(mode));
      parts.modes.append(choice);
    }
    this.setMode(this.mode);
    parts.windows.addEventListener("change", () => this.chooseWindow(Number(parts.windows.value)));
    parts.invert.addEventListener("click", () => this.invert());
    parts.reset.addEventListener("click", () => this.reset());
    parts.subtract.addEventListener("click", () => this.toggleSubtraction());
    parts.cine.addEventListener("click", () => this.toggleCine());
    parts.input.addEventListener("click", () => this.toggleInput());
    parts.help.addEventListener("click", () => this.help());
    parts.cine.hidden = parts.bar.hidden = this.count < 2;
    parts.input.hidden = !this.list.input_url;
    listen(this, this.over.signal);
    this.sizes = new ResizeObserver(() => {
      this.picture?.resize();
      if (this.frame) drawMarks(this);
    });
    this.sizes.observe(parts.canvas);
  }

  end() {
    this.playing = false;
    this.over.abort();
    this.sizes?.disconnect();
    this.frames?.end();
    this.picture?.end();
  }
}
