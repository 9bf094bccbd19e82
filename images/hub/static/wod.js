// What the hub's pages do beyond plain HTML; each of them works without, only less conveniently.
"use strict";

// "Show" beside the password.
for (const button of document.querySelectorAll("button[data-shows]")) {
  const field = document.getElementById(button.dataset.shows);
  button.hidden = false;
  button.addEventListener("click", () => {
    const shown = field.type === "password";
    field.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-pressed", String(shown));
    field.focus();
  });
}

// One login at a time.
for (const form of document.querySelectorAll("form[data-busy]")) {
  const button = form.querySelector("button[type=submit]");
  const label = button.textContent;
  form.addEventListener("submit", () => {
    button.disabled = true;
    button.textContent = form.dataset.busy;
  });
  // The browser's back button brings the page back as it was left.
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    button.textContent = label;
  });
}

// The page that waits for the server.
const pending = document.getElementById("pending");
if (pending) {
  const events = new EventSource(pending.dataset.progress);
  events.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.ready) {
      events.close();
      window.location.reload();
    } else if (event.failed) {
      events.close();
      const failed = document.getElementById("pending-failed");
      failed.querySelector(".lead").textContent = event.message || "";
      pending.hidden = true;
      failed.hidden = false;
    }
  };
}
