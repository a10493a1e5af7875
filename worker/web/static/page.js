// Small helps on every page: times in the reader's zone, the light switch, keys, forms that grow. Pages work without.
"use strict";

const KEYS_TYPED_INTO = "input, textarea, select, [contenteditable]";
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Times ---------------------------------------------------------------------------------------------------------------

const day = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });

function localTimes(within) {
  for (const time of all("time[datetime]:not([data-local])", within)) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const milliseconds = String(moment.getMilliseconds()).padStart(3, "0");
    time.textContent = "clock" in time.dataset ? `${clock.format(moment)}.${milliseconds}` : day.format(moment);
    time.dataset.local = "";
  }
}

function localZone() {
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "longOffset" }).formatToParts(new Date());
  const distance = parts.find((part) => part.type === "timeZoneName")?.value.replace("GMT", "UTC") ?? "";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const place of all("[data-zone]")) place.textContent = zone === "UTC" ? "UTC" : `${zone} (${distance})`;
}

// Light or dark -------------------------------------------------------------------------------------------------------

function lightSwitch() {
  const button = find("[data-theme-switch]");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const root = document.documentElement;
    root.dataset.scheme = root.dataset.scheme === "light" ? "dark" : "light";
    try {
      localStorage.setItem("scheme", root.dataset.scheme);
    } catch {
      // Kept for this page only.
    }
  });
}

// Help ----------------------------------------------------------------------------------------------------------------

function help() {
  const dialog = find("#help");
  const button = find("[data-help-open]");
  if (!dialog || !button) return;
  button.hidden = false;
  button.addEventListener("click", () => dialog.showModal());
}

// Lists: a line is chosen with j and k and opened with Enter ----------------------------------------------------------

let chosen = "";

function mark() {
  for (const row of all("tr[data-href]")) row.classList.toggle("chosen", row.id === chosen);
}

function step(by) {
  const rows = all("tr[data-href]");
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.id === chosen);
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)];
  chosen = next.id;
  mark();
  next.scrollIntoView({ block: "nearest" });
  find("a", next)?.focus({ preventScroll: true });
}

function lists() {
  document.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-href]");
    if (row && !event.target.closest("a, button, input, select, form") && !String(getSelection())) {
      location.assign(row.dataset.href);
    }
  });
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest?.("tr[data-href]");
    if (row) {
      chosen = row.id;
      mark();
    }
  });
}

// Decisions: one open at a time, its first field or its button focused -------------------------------------------------

function openDecision(details) {
  if (details.closest("[inert]")) return;
  details.open = true;
  const first = find("[data-first]", details) ?? find("input:not([type=hidden]), select, textarea, button", details);
  first?.focus();
  details.scrollIntoView({ block: "nearest" });
}

function decisions() {
  for (const details of all("details.decision")) {
    details.addEventListener("toggle", () => {
      if (!details.open) return;
      for (const other of all("details.decision[open]")) if (other !== details) other.open = false;
    });
  }
  // Enter twice must not send a decision twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    if (away && form.method === "post") {
      event.preventDefault();
      sendWhenBack(form, event.submitter);
      return;
    }
    if (form.method === "post") {
      form.dataset.sent = "yes";
      setTimeout(() => delete form.dataset.sent, 3000);
    }
    leaving = true;
  });
}

// A case that is left is free for others at once ----------------------------------------------------------------------

let leaving = false;

function releaseWhenLeft() {
  const claimed = find("[data-claimed]");
  if (!claimed) return;
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

// The server cannot be reached: what stands on the page is of then, and nothing can be decided ------------------------

const LOOK_AGAIN_MS = 2000;
let away = false;
let looking;

function isAway() {
  if (away) return;
  away = true;
  looking = setInterval(look, LOOK_AGAIN_MS);
  const line = document.createElement("p");
  line.id = "away";
  line.className = "trouble";
  line.setAttribute("role", "alert");
  line.textContent = `The server has not answered since ${clock.format(new Date())}. What you see may have changed, and no decision can be sent. What you typed stays; the page goes on by itself when the server is back.`;
  find("main").prepend(line);
  for (const place of all("[data-claimed]")) place.replaceChildren();
}

function isBack() {
  if (!away) return;
  away = false;
  clearInterval(looking);
  find("#away")?.remove();
}

async function look() {
  const answer = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
  if (answer?.ok) isBack();
}

async function sendWhenBack(form, button) {
  await look();
  if (away) find("#away")?.scrollIntoView({ block: "nearest" });
  else form.requestSubmit(button);
}

// Who scrolls through pictures that are here already, or types, is at work though nothing is asked of the server.
let wasActive = false;

function connection() {
  document.addEventListener("htmx:sendError", isAway);
  document.addEventListener("htmx:afterRequest", (event) => {
    const status = event.detail.xhr?.status ?? 0;
    if (status >= 500) isAway();
    else if (status) isBack();
  });
  for (const name of ["keydown", "pointerdown", "wheel"]) {
    document.addEventListener(name, () => (wasActive = true), { passive: true, capture: true });
  }
  document.addEventListener("htmx:configRequest", (event) => {
    if (wasActive && event.target.matches("[data-claimed]")) delete event.detail.headers["X-Background"];
    wasActive = false;
  });
}

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

// Filters: a choice is applied at once --------------------------------------------------------------------------------

function filters() {
  for (const form of all("form[data-filters]")) {
    for (const choice of all("select", form)) choice.addEventListener("change", () => form.requestSubmit());
  }
}

// The seconds in which a decision can be taken back -------------------------------------------------------------------

function countdown() {
  const line = find("[data-until]");
  if (!line) return;
  const until = Date.now() + Number(find("[data-left]", line).textContent) * 1000;
  const timer = setInterval(() => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left > 0) {
      find("[data-left]", line).textContent = String(left);
      return;
    }
    clearInterval(timer);
    find("form", line).replaceWith(line.dataset.begun);
  }, 250);
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
    if (remove) remove.closest(".one-row").remove();
  });
}

// Boxes: drawn on the picture, and shown there as they are typed ------------------------------------------------------

const BOX_SCALE = 1000;

function showBoxes(form) {
  const viewer = find(".viewer");
  if (!viewer || !form || !find("[data-box]", form)) return;
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
    const form = event.target.closest("form.findings");
    if (event.target.closest("[data-remove]")) showBoxes(form);
    const button = event.target.closest("[data-draw]");
    if (!button) return;
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

// Keys ----------------------------------------------------------------------------------------------------------------

const press = (selector) => find(selector)?.click();

const PLAIN_KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => press("[data-next]"),
  q: () => press("[data-release]"),
  u: () => press("[data-undo]"),
  f: () => find("#filter")?.focus(),
  v: () => find(".viewer")?.focus(),
  p: () => press(".has-beside [data-beside-close], a[data-beside]"),
  "/": () => find("#find")?.focus(),
  "?": () => find("#help")?.showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape") {
    for (const details of all("details.decision[open]")) {
      details.open = false;
      find("summary", details).focus();
    }
    if (event.target.matches(KEYS_TYPED_INTO)) event.target.blur();
    return;
  }
  if (event.target.matches(KEYS_TYPED_INTO) || find("dialog[open]")) return;
  const decision = all("details.decision").find((details) => details.dataset.key.includes(event.key));
  const action = decision ? () => openDecision(decision) : PLAIN_KEYS[event.key];
  if (!action || event.key.length !== 1) return;
  event.preventDefault();
  action();
}

// ---------------------------------------------------------------------------------------------------------------------

localTimes(document);
localZone();
lightSwitch();
help();
lists();
decisions();
releaseWhenLeft();
countdown();
forms();
connection();
looked();
filters();
drawnBoxes();
document.addEventListener("keydown", onKey);
document.addEventListener("htmx:afterSwap", (event) => {
  localTimes(event.target);
  if (event.target.matches("[data-claimed]")) whose(event.target);
  const focused = document.activeElement === document.body && chosen ? find(`#${chosen} a`) : null;
  mark();
  focused?.focus({ preventScroll: true });
});
