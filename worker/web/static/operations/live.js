// Keeps a part of a page as it is now: looks again when the server tells of a change, and once in a while anyway.
// <div data-live="/address/of/the/part">...</div>
"use strict";
(() => {
  const AT_MOST_EVERY_MS = 1000, ANYWAY_EVERY_MS = 10000;
  const part = document.querySelector("[data-live]");
  if (!part) return;
  let lookedAt = Date.now(), planned = 0;

  async function look() {
    planned = 0;
    lookedAt = Date.now();
    try {
      const answer = await fetch(part.dataset.live, { headers: { "X-Background": "1" }, redirect: "manual" });
      if (answer.ok) {
        part.innerHTML = await answer.text();
        part.dispatchEvent(new CustomEvent("htmx:afterSwap", { bubbles: true }));
        part.classList.remove("stale");
      } else if (answer.type === "opaqueredirect" || answer.status === 401) {
        location.reload();
      } else {
        stale();
      }
    } catch {
      stale();
    }
  }

  function stale() {
    if (part.classList.contains("stale")) return;
    part.classList.add("stale");
    const line = document.createElement("p");
    line.className = "trouble";
    line.setAttribute("role", "alert");
    line.textContent = "The server does not answer: what stands here is old. It is asked again every few seconds.";
    part.prepend(line);
  }

  function soon() {
    if (!planned && !document.hidden) planned = setTimeout(look, Math.max(0, lookedAt + AT_MOST_EVERY_MS - Date.now()));
  }

  // Only a page that somebody can see listens: by HTTP/1.1 a browser has six connections to a server for all of its tabs,
  // and as many tabs of operations would keep the images of a case from loading.
  let told = null;
  function listen() {
    if (document.hidden) {
      told?.close();
      told = null;
    } else if (!told) {
      told = new EventSource("/api/events");
      told.addEventListener("change", soon);
      told.addEventListener("reset", soon);
    }
  }

  listen();
  setInterval(soon, ANYWAY_EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    listen();
    soon();
  });
  addEventListener("pagehide", () => told?.close());
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    told = null;
    listen();
    soon();
  });
})();
