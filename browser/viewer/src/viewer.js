// One viewer on a page: the list of a series or a job -> pictures that a person scrolls, windows and plays.
import { Bar } from "./bar.js";
import { Cine } from "./cine.js";
import { MODES, listen } from "./controls.js";
import { Frames, read, valueInWords } from "./frames.js";
import { drawMarks, ownPlace, sightInWords } from "./marks.js";
import { OwnBoxes } from "./own_boxes.js";
import { layOut, make, showHelp } from "./page.js";
import { Picture } from "./picture.js";
import { SeenInput } from "./seen_input.js";
import { Automatic, dragged, showWindow, windowsOf } from "./windows.js";

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
    this.cine = new Cine(this);
    this.seenInput = new SeenInput(this);
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
    this.cine.rate = this.list.rate ?? this.cine.rate;
    this.bar = new Bar(this.parts, this.list, (index) => this.goTo(index));
    this.frames = new Frames(this.list, (index) => this.bar.loaded(index));
    this.#connect();
    this.root.dispatchEvent(new CustomEvent("viewer:ready", { bubbles: true, detail: { frames: this.count, canDraw: ownPlace(this.list) !== null } }));
    await this.goTo(this.list.first);
    this.seenInput.begin();
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
    this.showPlace();
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
    this.showPlace();
    showWindow(this, window);
    this.seenInput.show();
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
    const { about } = this.frame;
    const [column, row] = this.picture.pixelAt(x, y);
    if (column < 0 || row < 0 || column >= about.columns || row >= about.rows) return;
    this.parts.value.textContent = `${column + 1}, ${row + 1}: ${valueInWords(this.frame, column, row)}`;
  }

  showPlace() {
    const [, , position, edges] = this.list.frames[this.index];
    const words = `${this.index + 1} / ${this.count}`;
    this.parts.number.textContent = this.cine.inWords(words);
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
    parts.cine.addEventListener("click", () => this.cine.toggle());
    parts.input.addEventListener("click", () => this.seenInput.toggle());
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
    this.cine.playing = false;
    this.over.abort();
    this.sizes?.disconnect();
    this.frames?.end();
    this.picture?.end();
  }
}
