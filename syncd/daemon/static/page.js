/* Keeps a page up to date: fetches it again every few seconds and changes only what is different, so that scroll
   position, focus, selection and whatever is open stay as they are. Nothing here writes to the server. */
"use strict";

(() => {
  const EVERY = Number(document.body.dataset.refresh) * 1000;
  const SLOWEST = 60000;
  const stale = document.getElementById("stale");
  let failures = 0;
  let fresh = Date.now();
  let timer = 0;
  let asking = false;

  document.documentElement.classList.add("js");

  /* ------------------------------------------------------------------ morphing */

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE && node.id ? node.id : null);

  const alike = (one, other) =>
    one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

  /** Make `old` what `wanted` is, touching nothing that is the same already. */
  function morph(old, wanted) {
    if (old.isEqualNode(wanted)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = wanted.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!wanted.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of wanted.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (!old.hasAttribute("data-keep")) morphChildren(old, wanted);
  }

  function morphChildren(old, wanted) {
    const kept = new Set([...wanted.children].map(keyOf));
    const keyed = new Map();
    for (const child of [...old.children]) {
      if (!child.id) continue;
      if (kept.has(child.id)) keyed.set(child.id, child);
      else child.remove();
    }
    let here = old.firstChild;
    for (const child of [...wanted.childNodes]) {
      const key = keyOf(child);
      const known = key ? keyed.get(key) : null;
      if (known && known !== here && alike(known, child)) {
        old.insertBefore(known, here);
        morph(known, child);
      } else if (here && alike(here, child)) {
        const next = here.nextSibling;
        morph(here, child);
        here = next;
      } else {
        old.insertBefore(document.importNode(child, true), here);
      }
    }
    while (here) {
      const next = here.nextSibling;
      here.remove();
      here = next;
    }
  }

  /* ---------------------------------------------------------------- refreshing */

  async function refresh() {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const answer = await fetch(location.pathname + location.search, { cache: "no-store", redirect: "error" });
      if (answer.status >= 500) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const id of ["main", "foot"]) morph(document.getElementById(id), page.getElementById(id));
      if (document.title !== page.title) document.title = page.title;
      failures = 0;
      fresh = Date.now();
      stale.hidden = true;
      document.dispatchEvent(new Event("refreshed"));
    } catch {
      failures += 1;
      if (failures > 1) {
        const since = new Date(fresh).toLocaleTimeString();
        const words = `syncd, or its state database, does not answer. What you see is as of ${since}.`;
        if (stale.textContent !== words) stale.textContent = words;
        stale.hidden = false;
      }
    } finally {
      asking = false;
      plan();
    }
  }

  function plan() {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.min(EVERY * 2 ** Math.min(failures, 6), SLOWEST));
  }

  if (EVERY > 0) {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(timer);
      else refresh();
    });
    plan();
  }

  /* ------------------------------------------------------------------- copying */

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const command = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(command);
      button.textContent = "copied";
    } catch {
      const code = button.parentElement.querySelector("code");
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
})();
