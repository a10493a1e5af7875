// Small helps on every page: times in the reader's zone, the light switch, keys, lists, a server that is away. Pages
// work without.

const KEYS_TYPED_INTO = "input, textarea, select, [contenteditable]";
export const find = (selector, within = document) => within.querySelector(selector);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];

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

// Enter twice must not send a form twice; where the server is away it waits --------------------------------------------

function sendingOnce() {
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
  });
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

// Whether a key is pressed by itself, and for nothing but the page: no text is typed, and no dialog waits for it.
const isPlain = (event) => !(event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented);
export const isEscape = (event) => isPlain(event) && event.key === "Escape";
export const isForPage = (event) => isPlain(event) && !event.target.matches(KEYS_TYPED_INTO) && !find("dialog[open]");

function onKey(event) {
  if (isEscape(event)) {
    if (event.target.matches(KEYS_TYPED_INTO)) event.target.blur();
    return;
  }
  if (!isForPage(event)) return;
  const action = PLAIN_KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// ---------------------------------------------------------------------------------------------------------------------

localTimes(document);
localZone();
lightSwitch();
help();
lists();
sendingOnce();
countdown();
connection();
filters();
document.addEventListener("keydown", onKey);
document.addEventListener("htmx:afterSwap", (event) => {
  localTimes(event.target);
  const focused = document.activeElement === document.body && chosen ? find(`#${chosen} a`) : null;
  mark();
  focused?.focus({ preventScroll: true });
});
