// Before the page is drawn: light where this browser chose it with the switch; dark for everybody else.
"use strict";
try {
  if (localStorage.getItem("scheme") === "light") document.documentElement.dataset.scheme = "light";
} catch {
  // A browser that keeps nothing stays dark.
}
