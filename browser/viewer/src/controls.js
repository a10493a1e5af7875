// Mouse, touch and keys -> what the viewer is to do. In: events on its elements. Out: calls of its methods.

// Pixels of dragging for one picture.
const DRAG_STEP = 8;
const WHEEL_STEP = 60;

export const MODES = { window: "Window", scroll: "Scroll", pan: "Move", zoom: "Size" };

export function listen(viewer, signal) {
  listenToPointers(viewer, signal);
  listenToWheel(viewer, signal);
  viewer.root.addEventListener("keydown", (event) => onKey(viewer, event), { signal });
}

function listenToPointers(viewer, signal) {
  const { pane } = viewer.parts;
  const held = new Map();
  let rest = 0;
  const place = (event) => {
    const box = pane.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const on = (name, handle) => pane.addEventListener(name, handle, { signal });
  on("pointerdown", (event) => {
    viewer.root.focus({ preventScroll: true });
    pane.setPointerCapture(event.pointerId);
    const at = place(event);
    const mode = viewer.own.isDrawing ? "draw" : modeOf(viewer, event);
    held.set(event.pointerId, { at, from: at, window: viewer.frame && viewer.window, mode });
    rest = 0;
    event.preventDefault();
  });
  on("pointermove", (event) => {
    const pointer = held.get(event.pointerId);
    if (!pointer) {
      viewer.pointAt(...place(event));
      return;
    }
    const [x, y] = place(event);
    const [dx, dy] = [x - pointer.at[0], y - pointer.at[1]];
    if (pointer.mode === "draw") viewer.own.outline(pointer.from, [x, y]);
    else if (held.size === 2) {
      const other = [...held.entries()].find(([id]) => id !== event.pointerId)[1].at;
      pinch(viewer, pointer.at, [x, y], other);
    } else if (pointer.mode === "scroll") {
      rest += dy;
      const steps = Math.trunc(rest / DRAG_STEP);
      rest -= steps * DRAG_STEP;
      if (steps) viewer.step(steps);
    } else if (pointer.mode === "pan") viewer.panBy(dx, dy);
    else if (pointer.mode === "zoom") viewer.zoomBy(Math.exp(-dy / 150), viewer.middle());
    else if (pointer.window) viewer.dragWindow(pointer.window, x - pointer.from[0], y - pointer.from[1]);
    pointer.at = [x, y];
  });
  for (const name of ["pointerup", "pointercancel"]) {
    on(name, (event) => {
      const pointer = held.get(event.pointerId);
      held.delete(event.pointerId);
      if (pointer?.mode === "draw") viewer.own.end(name === "pointerup" ? [pointer.from, place(event)] : null);
    });
  }
  on("pointerleave", () => viewer.pointAt(null));
  on("contextmenu", (event) => event.preventDefault());
}

function modeOf(viewer, event) {
  if (event.button === 1 || event.shiftKey) return "pan";
  if (event.button === 2 || event.ctrlKey) return "zoom";
  return viewer.mode;
}

function pinch(viewer, from, to, other) {
  const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
  viewer.panBy((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
  viewer.zoomBy(apart(to, other) / apart(from, other), [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2]);
}

function listenToWheel(viewer, signal) {
  let rest = 0;
  const onWheel = (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP;
    if (event.ctrlKey) {
      const box = viewer.parts.pane.getBoundingClientRect();
      viewer.zoomBy(Math.exp(-pixels / 400), [event.clientX - box.left, event.clientY - box.top]);
      return;
    }
    // A notch of a mouse is one picture; a track pad sends many small moves.
    rest = Math.sign(rest) === Math.sign(pixels) ? rest + pixels : pixels;
    if (Math.abs(pixels) >= WHEEL_STEP) rest = Math.sign(pixels) * Math.max(WHEEL_STEP, Math.min(Math.abs(rest), 120));
    const steps = Math.trunc(rest / WHEEL_STEP);
    if (!steps) return;
    rest = 0;
    viewer.step(Math.sign(steps));
  };
  viewer.parts.pane.addEventListener("wheel", onWheel, { signal, passive: false });
}

const STEPS = { ArrowDown: 1, ArrowRight: 1, j: 1, ArrowUp: -1, ArrowLeft: -1, k: -1, PageDown: 10, PageUp: -10 };

function onKey(viewer, event) {
  const { key, target } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || viewer.root.querySelector("dialog[open]")) return;
  // Select, slider and buttons keep the keys that are theirs.
  if (target.tagName === "SELECT" || (target.tagName === "BUTTON" && [" ", "Enter"].includes(key))) return;
  if (!act(viewer, key)) return;
  event.preventDefault();
  event.stopPropagation();
}

// No letter that decides about a case is taken here: a page's keys work while the viewer has the focus.
function act(viewer, key) {
  if (key in STEPS) viewer.step(STEPS[key]);
  else if (key === "Home") viewer.goTo(0);
  else if (key === "End") viewer.goTo(viewer.count - 1);
  else if (key === " ") viewer.cine.toggle();
  else if (key === "[" || key === "]") viewer.cine.changeRate(key === "]" ? 1.25 : 0.8);
  else if (key === "." || key === ",") viewer.nextMark(key === "." ? 1 : -1);
  else if (key === "m") viewer.seenInput.toggle();
  else if (key === "i") viewer.invert();
  else if (key === "d") viewer.toggleSubtraction();
  else if (key === "0") viewer.reset();
  else if (key === "+" || key === "=") viewer.zoomBy(1.25, viewer.middle());
  else if (key === "-") viewer.zoomBy(0.8, viewer.middle());
  else if (key === "?") viewer.help();
  else if (key === "Escape") viewer.leave();
  else if (/^[1-9]$/.test(key)) viewer.chooseWindow(Number(key) - 1);
  else return false;
  return true;
}
