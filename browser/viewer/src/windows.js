// Which windows a frame can be shown with, and what dragging does to one. A window is { name, low, high } in modality
// values: grey rises from low to high.
import { make } from "./page.js";

const COLOUR = { name: "As stored", low: 0, high: 255 };

// The automatic windows of frames -> one for each instance, which holds those of all its frames seen so far: a run whose
// window followed each frame would flicker.
export class Automatic {
  #seen = new Map();

  of(frame) {
    const { auto, subtracted } = frame.about;
    const key = `${frame.instance}/${subtracted ? "subtracted" : ""}`;
    const before = this.#seen.get(key) ?? auto;
    const both = { low: Math.min(auto.low, before.low), high: Math.max(auto.high, before.high) };
    this.#seen.set(key, both);
    return both;
  }
}

// Returns the windows of a frame, the one to begin with first.
export function windowsOf(frame, list, automatic) {
  const { about } = frame;
  if (about.kind === "rgb") return [COLOUR];
  const own = about.windows.map((one, number) => ({ ...one, name: one.name || (about.windows.length > 1 ? `From the file ${number + 1}` : "From the file") }));
  const bounds = automatic.of(frame);
  const curve = about.by_file ? [{ name: "File's curve", byFile: true, ...bounds }] : [];
  const all = [...curve, ...own, ...list.presets];
  const auto = { ...bounds, name: "Automatic" };
  const whole = [about.low, about.high].map((value) => value * about.slope + about.intercept).sort((a, b) => a - b);
  const full = { name: "All values", low: whole[0], high: Math.max(whole[1], whole[0] + Math.abs(about.slope)) };
  return own.length || curve.length ? [...all, auto, full] : [auto, ...all, full];
}

// Centre and width as PS3.3 C.11.2.1.2.1 counts them, for people.
function inWords(window) {
  if (window.byFile) return window.name;
  const width = window.high - window.low + 1;
  const center = (window.low + window.high + 1) / 2;
  const digits = width < 20 ? 2 : 0;
  return `W ${width.toFixed(digits)} L ${center.toFixed(digits)}`;
}

// Dragging to the right widens, dragging down darkens, as on most work stations; the step follows the width.
export function dragged(window, dx, dy) {
  const width = Math.max(window.high - window.low, 1e-6);
  const step = width / 300;
  const wider = Math.max(width + dx * step, width * 0.02);
  const center = (window.low + window.high) / 2 + dy * step;
  return { name: "By hand", low: center - wider / 2, high: center + wider / 2 };
}

// Shows how the picture of a viewer is windowed, and the choices there are.
export function showWindow(viewer, window) {
  const { parts, frame, loaded, list } = viewer;
  const { subtracted, not_subtracted: whyNot } = frame.about;
  const isColour = frame.about.kind === "rgb" && !viewer.byHand;
  const words = [!isColour && inWords(window), viewer.inverted && "inverted", subtracted && "less its mask"];
  parts.window.textContent = words.filter(Boolean).join(" · ");
  parts.subtract.hidden = !loaded.about.subtracted;
  parts.subtract.setAttribute("aria-pressed", Boolean(subtracted));
  parts.subtract.title = `${loaded.about.subtracted} (s)`;
  const notes = [...list.problems, ...(whyNot ? [whyNot] : [])];
  parts.notes.hidden = !notes.length;
  parts.notes.textContent = notes.join("; ");
  const names = viewer.windows.map((one, number) => `${number + 1}  ${one.name}`);
  const options = viewer.byHand ? [...names, window.name] : names;
  if (parts.windows.dataset.names !== options.join("\n")) {
    parts.windows.replaceChildren(...options.map((name, value) => make("option", { value }, name)));
    parts.windows.dataset.names = options.join("\n");
  }
  parts.windows.value = viewer.byHand ? names.length : Math.min(viewer.choice, names.length - 1);
}
