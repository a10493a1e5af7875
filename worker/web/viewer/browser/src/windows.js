// Which windows a frame can be shown with, and what dragging does to one. A window is { name, low, high } in modality
// values: grey rises from low to high.

const COLOUR = { name: "As stored", low: 0, high: 255 };

// Returns the windows of a frame, the one to begin with first.
export function windowsOf(frame, list) {
  const { about } = frame;
  if (about.kind === "rgb") return [COLOUR];
  const own = about.windows.map((one, number) => ({ ...one, name: one.name || (about.windows.length > 1 ? `File ${number + 1}` : "File") }));
  const curve = about.by_file ? [{ name: "File's curve", byFile: true, ...bounds(about.auto) }] : [];
  const all = [...curve, ...own, ...list.presets];
  const auto = { ...about.auto, name: "Automatic" };
  const whole = [about.low, about.high].map((value) => value * about.slope + about.intercept).sort((a, b) => a - b);
  const full = { name: "All values", low: whole[0], high: Math.max(whole[1], whole[0] + Math.abs(about.slope)) };
  return own.length || curve.length ? [...all, auto, full] : [auto, ...all, full];
}

function bounds({ low, high }) {
  return { low, high };
}

// Centre and width as PS3.3 C.11.2.1.2.1 counts them, for people.
export function inWords(window) {
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
