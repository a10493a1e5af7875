// The bar below the picture: where one is, what has been loaded, and marks where the model looked.
import { make } from "./page.js";

// More cells than this cannot be told apart on any screen.
const MOST_CELLS = 2000;

export class Bar {
  constructor(parts, list, onChoice) {
    this.parts = parts;
    this.count = list.frames.length;
    parts.slider.max = this.count - 1;
    parts.slider.addEventListener("input", () => onChoice(Number(parts.slider.value)));
    parts.loaded.width = Math.min(this.count, MOST_CELLS);
    this.drawing = parts.loaded.getContext("2d");
    this.places = [...new Set(list.inputs.map((one) => one.shown).filter((place) => place !== null))].sort((a, b) => a - b);
    const keys = new Set(list.inputs.filter((one) => one.is_key).map((one) => one.shown));
    const boxed = new Set(list.boxes.map((one) => one.at));
    for (const place of this.places) this.#mark(place, keys.has(place), boxed.has(place), onChoice);
  }

  #mark(place, isKey, isBoxed, onChoice) {
    const words = `picture ${place + 1}, ${isKey ? "a key image" : "seen by the model"}${isBoxed ? ", with boxes" : ""}`;
    const mark = make("button", { type: "button", className: `viewer-mark${isKey ? " is-key" : ""}`, title: words });
    mark.setAttribute("aria-label", words);
    mark.tabIndex = -1;
    mark.dataset.place = place;
    mark.style.left = `${this.count > 1 ? (100 * place) / (this.count - 1) : 50}%`;
    mark.addEventListener("click", () => onChoice(place));
    this.parts.keys.append(mark);
  }

  loaded(index) {
    const { width } = this.parts.loaded;
    this.drawing.fillStyle = getComputedStyle(this.parts.loaded).color;
    this.drawing.fillRect(Math.floor((index * width) / this.count), 0, 1, 1);
  }

  show(index, words) {
    this.parts.slider.value = index;
    this.parts.slider.setAttribute("aria-valuetext", words);
    for (const mark of this.parts.keys.children) mark.classList.toggle("is-here", Number(mark.dataset.place) === index);
  }
}
