// Fetches the part of the page that changes, every other second while somebody looks at it.
"use strict";

const live = document.getElementById("live");

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(live.dataset.source, { redirect: "error" }).catch(() => null);
  if (answer && answer.status === 401) {
    window.location.reload();
    return;
  }
  const stale = !answer || !answer.ok;
  live.classList.toggle("stale", stale);
  if (stale) return;
  const fresh = await answer.text();
  // Whoever is about to press a button finds it where it was.
  if (live.contains(document.activeElement) && document.activeElement.tagName === "BUTTON") return;
  live.innerHTML = fresh;
}

setInterval(refresh, 2000);
