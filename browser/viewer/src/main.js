// Opens a viewer in each [data-viewer] of the page, also in those that are put there later, and ends those that leave.
import { Viewer } from "./viewer.js";

const open = new Map();

function look() {
  for (const [root, viewer] of open) {
    if (root.isConnected) continue;
    viewer.end();
    open.delete(root);
  }
  for (const root of document.querySelectorAll("[data-viewer]")) {
    if (open.has(root)) continue;
    const viewer = new Viewer(root);
    open.set(root, viewer);
    if (root.classList.contains("viewer-page")) root.focus({ preventScroll: true });
    viewer.open();
  }
}

new MutationObserver(look).observe(document.documentElement, { childList: true, subtree: true });
look();
