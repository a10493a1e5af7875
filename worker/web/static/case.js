// The pages of a case: its claim, its decisions and their forms, and what of its images was on the screen.
import "./beside.js";
import { all, find, isEscape, isForPage } from "./page.js";

// Decisions: one open at a time, its first field or its button focused -------------------------------------------------

function openDecision(details) {
  if (details.closest("[inert]")) return;
  details.open = true;
  const first = find("[data-first]", details) ?? find("input:not([type=hidden]), select, textarea, button", details);
  first?.focus();
  details.scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (isEscape(event)) {
    for (const details of all("details.decision[open]")) {
      details.open = false;
      find("summary", details).focus();
    }
    return;
  }
  if (event.key.length !== 1 || !isForPage(event)) return;
  const decision = all("details.decision").find((details) => details.dataset.key.includes(event.key));
  if (!decision) return;
  event.preventDefault();
  openDecision(decision);
}

function decisions() {
  document.addEventListener("keydown", onKey);
  for (const details of all("details.decision")) {
    details.addEventListener("toggle", () => {
      if (!details.open) return;
      for (const other of all("details.decision[open]")) if (other !== details) other.open = false;
    });
  }
}

// A case that is left is free for others at once ----------------------------------------------------------------------

function releaseWhenLeft() {
  const claimed = find("[data-claimed]");
  if (!claimed) return;
  let leaving = false;
  document.addEventListener("submit", (event) => (leaving ||= !event.defaultPrevented));
  addEventListener("pagehide", () => {
    const token = find("input[name=csrf_token]");
    if (leaving || !token) return;
    navigator.sendBeacon(claimed.dataset.claimed, new URLSearchParams({ csrf_token: token.value }));
  });
  // Back with the browser's button: the page comes out of its memory, and the case must be claimed again.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}

// A case that another person has open: its forms wait until it is free -------------------------------------------------

function whose(within) {
  if (!find("[data-claimed]")) return;
  const isTaken = Boolean(find("[data-taken], [data-nobody]", within));
  for (const part of all("[data-decides]")) part.inert = isTaken;
  for (const button of all("[data-release]")) button.hidden = isTaken;
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.matches("[data-claimed]")) whose(event.target);
});

// How many of the case's images a person has had before them goes with their decision ---------------------------------

function looked() {
  const told = ({ detail }) => {
    for (const field of all("[data-looked]")) field.value = String(detail.seen);
    const some = `You have had ${detail.seen} of ${detail.frames} image${detail.frames === 1 ? "" : "s"} on the screen.`;
    const broken = detail.broken ? ` ${detail.broken} cannot be shown.` : "";
    for (const line of all("[data-looked-words]")) {
      line.textContent = some + broken;
      line.classList.toggle("few", Boolean(detail.broken) || !detail.seen);
    }
  };
  for (const line of all("[data-looked-words]")) {
    line.textContent = "No image has been on the screen yet.";
    line.classList.add("few");
  }
  document.addEventListener("viewer:frame", told);
  document.addEventListener("viewer:failed", told);
}

// Lists in forms grow and shrink --------------------------------------------------------------------------------------

function growingForms(within) {
  for (const button of all("[data-add], [data-remove]", within)) button.hidden = false;
}

function grow(fieldset) {
  const most = Number(fieldset.dataset.most ?? Infinity);
  const list = find(".row-list", fieldset);
  const fields = all("input, textarea", list);
  const empty = fields.find((field) => !field.value);
  // What is typed next must go into a field, and never be taken for keys.
  if (empty || list.children.length >= most) {
    (empty ?? fields.at(-1))?.focus();
    return;
  }
  const number = Number(fieldset.dataset.rows);
  fieldset.dataset.rows = String(number + 1);
  const holder = document.createElement("div");
  holder.append(find("template", fieldset).content.cloneNode(true));
  for (const element of all("*", holder)) {
    for (const name of ["name", "id", "for", "aria-describedby"]) {
      const value = element.getAttribute(name);
      if (value) element.setAttribute(name, value.replace("NEW", String(number)));
    }
  }
  growingForms(holder);
  list.append(...holder.children);
  find("input, select, textarea", list.lastElementChild)?.focus();
}

function forms() {
  growingForms(document);
  document.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add]");
    if (add) grow(add.closest("fieldset"));
    const remove = event.target.closest("[data-remove]");
    if (!remove) return;
    const { form } = remove;
    remove.closest(".one-row").remove();
    form.dispatchEvent(new Event("input"));
  });
}

// Boxes: drawn on the picture, and shown there as they are typed ------------------------------------------------------

const BOX_SCALE = 1000;

function showBoxes(form) {
  const viewer = find(".viewer");
  if (!viewer || !form) return;
  const boxes = [];
  for (const place of form.closest("details").open ? all("[data-box]", form) : []) {
    const sides = all("input", place).map((field) => (field.value === "" ? NaN : Number(field.value) / BOX_SCALE));
    const label = find("select, input:not([type=number])", place.parentElement)?.value ?? "";
    if (sides.every((side) => side >= 0 && side <= 1)) boxes.push({ box: sides, label: `${label} (yours)` });
  }
  viewer.dispatchEvent(new CustomEvent("viewer:own", { detail: { boxes } }));
}

function drawnBoxes() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-draw]");
    if (!button) return;
    const { form } = button;
    const place = button.closest("[data-box]");
    const done = (box) => {
      all("input", place).forEach((field, number) => (field.value = String(Math.round(box[number] * BOX_SCALE))));
      showBoxes(form);
      find("select, input:not([type=number])", place.parentElement)?.focus();
    };
    find(".viewer")?.dispatchEvent(new CustomEvent("viewer:draw", { detail: { done } }));
  });
  for (const form of all("form.findings")) {
    form.addEventListener("input", () => showBoxes(form));
    form.closest("details").addEventListener("toggle", () => showBoxes(form));
  }
  document.addEventListener("viewer:ready", ({ detail }) => {
    document.body.classList.toggle("can-draw", detail.canDraw);
    showBoxes(find("form.findings"));
  });
}

// ---------------------------------------------------------------------------------------------------------------------

decisions();
releaseWhenLeft();
forms();
looked();
drawnBoxes();
