// Conveniences only: every page works without this file.
"use strict";

const box = document.getElementById("text");

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === box) {
    box.form.requestSubmit();
  }
  if (event.key === "/" && box && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    box.closest("details")?.setAttribute("open", "");
    box.focus();
    box.select();
  }
});

// An alert saved as a file may be dropped onto the box.
box?.addEventListener("drop", async (event) => {
  const file = event.dataTransfer?.files[0];
  if (file) {
    event.preventDefault();
    box.value = await file.text();
  }
});

// A second tap on a verdict would be a second verdict.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
  }
  form.dataset.sent = "yes";
  form.setAttribute("aria-busy", "true");
});
window.addEventListener("pageshow", () => {
  for (const form of document.forms) {
    delete form.dataset.sent;
    form.removeAttribute("aria-busy");
  }
});
