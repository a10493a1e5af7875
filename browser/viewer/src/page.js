// The elements of a viewer, made without HTML strings: what comes from a header stays text.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function button(key, text, title) {
  return make("button", { type: "button", className: `viewer-${key}`, title }, text);
}

// Fills a viewer's div and returns its parts by name.
export function layOut(root) {
  const parts = {
    modes: make("div", { className: "viewer-modes", role: "group" }),
    windows: make("select", { className: "viewer-windows", title: "window (keys 1 to 9)" }),
    invert: button("invert", "Invert", "black for white (i)"),
    reset: button("reset", "Reset", "window, size and place as at first (0)"),
    subtract: button("subtract", "Subtracted", "less its mask (d)"),
    cine: button("cine", "Play", "cine (space)"),
    input: button("input", "Model input", "what the model saw, side by side (m)"),
    help: button("help", "?", "keys (?)"),
    canvas: make("div", { className: "viewer-canvas" }),
    marks: makeSvg("svg", { class: "viewer-marks", "aria-hidden": "true" }),
    message: make("p", { className: "viewer-message", role: "status" }),
    number: make("span", { className: "viewer-number" }),
    place: make("span", { className: "viewer-place" }),
    sight: make("span", { className: "viewer-sight" }),
    window: make("span", { className: "viewer-window" }),
    value: make("span", { className: "viewer-value" }),
    edges: ["left", "top", "right", "bottom"].map((edge) => make("span", { className: `viewer-edge viewer-${edge}` })),
    seenBox: make("figure", { className: "viewer-seen", hidden: true }),
    seen: make("img", { alt: "" }),
    seenWords: make("figcaption"),
    slider: make("input", { type: "range", min: 0, max: 0, step: 1, className: "viewer-slider" }),
    loaded: make("canvas", { className: "viewer-loaded", height: 1 }),
    keys: make("div", { className: "viewer-keys" }),
    notes: make("p", { className: "viewer-notes", hidden: true }),
  };
  parts.subtract.hidden = true;
  parts.modes.setAttribute("aria-label", "what dragging does");
  parts.windows.setAttribute("aria-label", "window");
  parts.slider.setAttribute("aria-label", "picture");
  parts.help.setAttribute("aria-label", "keys");
  parts.seenBox.append(parts.seen, parts.seenWords);
  parts.pane = make("div", { className: "viewer-pane" }, parts.canvas, parts.marks, parts.number, parts.place);
  parts.pane.append(parts.sight, parts.window, parts.value, ...parts.edges, parts.message);
  const tools = [parts.modes, parts.windows, parts.invert, parts.subtract, parts.reset, parts.cine, parts.input, parts.help];
  parts.bar = make("div", { className: "viewer-bar" }, parts.keys, parts.slider, parts.loaded);
  root.replaceChildren(
    make("div", { className: "viewer-tools" }, ...tools),
    make("div", { className: "viewer-panes" }, parts.pane, parts.seenBox),
    parts.bar,
    parts.notes,
  );
  return parts;
}

const KEYS = [
  ["wheel, ↑ ↓, j k", "previous, next picture"],
  ["Page ↑ ↓", "ten pictures"],
  ["Home, End", "first, last picture"],
  ["space", "cine; [ and ] slower, faster"],
  [". ,", "next, previous picture that the model saw"],
  ["m", "what the model saw, side by side"],
  ["1 … 9", "windows, in the order of the list"],
  ["i", "invert"],
  ["d", "with the mask subtracted, or as stored"],
  ["+, −, Ctrl + wheel", "larger, smaller"],
  ["0", "reset"],
  ["drag", "as chosen: window, scroll, move, size"],
  ["Shift + drag, middle button", "move"],
  ["right button", "size"],
  ["one finger", "as chosen; two fingers move and size"],
  ["Esc", "leave the viewer"],
];

export function showHelp(root) {
  const rows = KEYS.map(([keys, what]) => make("tr", {}, make("th", { scope: "row" }, keys), make("td", {}, what)));
  const close = make("button", { type: "button", autofocus: true }, "Close");
  const dialog = make("dialog", { className: "viewer-dialog" });
  dialog.setAttribute("aria-label", "keys of the viewer");
  dialog.append(make("h2", {}, "Keys"), make("table", {}, ...rows), close);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    root.focus();
  });
  root.append(dialog);
  dialog.showModal();
}
