// A case's page: the images of another study of the patient beside the case's own, for comparison. Without this script,
// or with Ctrl, they open in a tab of their own.

import { find } from "./page.js";

function beside(place) {
  const page = find(".case");
  const holder = find("[data-beside-viewer]");
  const head = find("[data-beside-head]");
  const words = find("[data-beside-words]");
  let openedBy = null;

  const show = (isShown) => {
    place.hidden = head.hidden = !isShown;
    page.classList.toggle("has-beside", isShown);
  };

  const open = (link) => {
    openedBy = link;
    words.textContent = words.title = link.dataset.words;
    const viewer = document.createElement("div");
    viewer.className = "viewer";
    viewer.dataset.viewer = link.dataset.beside;
    show(true);
    holder.replaceChildren(viewer);
    page.scrollIntoView({ block: "nearest" });
    viewer.tabIndex = 0;
    viewer.focus({ preventScroll: true });
  };

  const close = () => {
    show(false);
    holder.replaceChildren();
    openedBy?.focus({ preventScroll: true });
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-beside]");
    if (event.target.closest("[data-beside-close]")) close();
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(link);
  });
  // What the page counts and draws is about the case's own images.
  for (const name of ["viewer:ready", "viewer:frame", "viewer:failed"]) {
    place.addEventListener(name, (event) => event.stopPropagation());
  }
}

const place = find("[data-beside-place]");
if (place) beside(place);
