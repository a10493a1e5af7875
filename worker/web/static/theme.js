// Before the page is drawn: the scheme that this browser chose with the switch; else what the system prefers.
"use strict";
try {
  const chosen = localStorage.getItem("scheme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.scheme = chosen;
} catch {
  // A browser that keeps nothing uses the system's scheme.
}
