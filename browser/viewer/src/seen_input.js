// What the model saw of the picture that is looked at, beside it; drawn by the server.
import { read } from "./frames.js";
import { inputFor, inputInWords } from "./marks.js";

export class SeenInput {
  constructor(viewer) {
    this.viewer = viewer;
    this.isShown = false;
  }

  // It takes the server a while to draw: it begins before anybody asks, when the first picture is there.
  begin() {
    const { list, index, over } = this.viewer;
    if (!list.input_url || over.signal.aborted) return;
    const headers = { "X-Background": "1" };
    fetch(this.#addressOf(inputFor(list, index)), { headers, signal: over.signal }).catch(() => {});
  }

  toggle() {
    const { list, parts } = this.viewer;
    if (!list.input_url) return;
    this.isShown = !this.isShown;
    parts.input.setAttribute("aria-pressed", this.isShown);
    parts.seenBox.hidden = !this.isShown;
    this.show();
  }

  show() {
    if (!this.isShown) return;
    const { list, index, parts } = this.viewer;
    const found = inputFor(list, index);
    const address = this.#addressOf(found);
    const { seen } = parts;
    if (seen.getAttribute("src") === address && seen.complete && seen.naturalWidth) this.#name(found);
    else this.#load(address, found);
  }

  #addressOf(found) {
    return this.viewer.list.input_url.replace("{input}", found.input.input);
  }

  #load(address, found) {
    const { seen, seenWords } = this.viewer.parts;
    seenWords.textContent = "Drawing what the model saw …";
    seen.classList.add("is-away");
    const isWanted = () => seen.getAttribute("src") === address;
    seen.onload = () => isWanted() && this.#name(found);
    seen.onerror = async () => {
      // An image's failure has no reason in it; asked for once more, the server gives one.
      const reason = await read(address).then(() => "load the page again", (error) => error.message);
      if (isWanted()) seenWords.textContent = `What the model saw cannot be shown: ${reason}`;
    };
    if (!isWanted()) seen.src = address;
  }

  #name(found) {
    const { list, index, parts } = this.viewer;
    parts.seenBox.classList.toggle("is-other", !found.isHere);
    parts.seen.classList.remove("is-away");
    parts.seenWords.textContent = inputInWords(list, index, found);
    parts.seen.alt = parts.seenWords.textContent;
  }
}
