// What the keys do. In: key presses outside fields. Out: calls of page.js's actions, or clicks on what the page offers anyway.

const typing = (target) => target.matches?.("input, textarea, select, [contenteditable]");
const rows = () => [...document.querySelectorAll("#screen [data-row]")];
const press = (selector) => document.querySelector(selector)?.click();
const within = (selector) => (document.activeElement?.closest?.(".alert, [data-row]")?.querySelector(selector)
  ?? document.querySelector(`#screen [data-open] ${selector}`) ?? document.querySelector(`#screen header ${selector}`))?.click();
let first = "";
let timer = 0;

function step(by, wanted = () => true) {
  const all = rows(), at = all.indexOf(document.activeElement?.closest?.("[data-row]"));
  const start = at >= 0 ? at : all.findIndex((row) => row.matches("[aria-selected=true]"));
  for (let next = start + by; next >= 0 && next < all.length; next += by) {
    if (!wanted(all[next])) continue;
    all[next].focus({preventScroll: true});
    all[next].scrollIntoView({block: "nearest"});
    return;
  }
}

// The Tab key stops once in each list: at the row last walked to, else at the first, and at that row's alerts. From there j, k and the arrows go on.
let last = null;

export function reach() {
  const stops = new Map();
  for (const row of rows()) {
    const list = row.closest("[role=list], ul, tbody, section");
    if (row === last || !stops.has(list)) stops.set(list, row);
  }
  const found = new Set(stops.values());
  for (const row of rows()) { const wanted = found.has(row) ? 0 : -1; for (const stop of [row, ...row.querySelectorAll(".alert-badge")]) if (stop.tabIndex !== wanted) stop.tabIndex = wanted; }
}

const one = (actions) => ({
  "?": actions.help, "/": actions.find, t: actions.theme, c: actions.copy,
  j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
  n: () => press("#screen [rel=next]"), p: () => history.back(), f: () => press("#screen [data-key-f]"),
  "+": () => actions.zoom(0.5), "=": () => actions.zoom(0.5), "-": () => actions.zoom(2), 0: () => actions.zoom(0),
  h: () => actions.zoom(1, -0.25), l: () => actions.zoom(1, 0.25),
  x: () => document.activeElement?.querySelector?.("[data-fold]")?.click(),
  e: () => step(1, (row) => row.matches("[data-failing]")),
  v: () => press("#screen [data-key-v]:not([aria-current])"), r: () => press("#screen [data-key-r]:not([aria-current])"),
  u: () => press("#screen [rel=up]"), a: () => within("[data-key-a]"), s: () => within("[data-key-s]"),
  o: () => within("[data-key-o]"), "[": () => press("#screen [data-key-before]"), "]": () => press("#screen [data-key-after]"),
});

export function listen(actions) {
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest?.("#screen [data-row]");
    if (row && row !== last) { last = row; reach(); }
  });
  const single = one(actions);
  const after = {gn: () => actions.go("/"), gr: () => actions.go("/runs"), ga: () => actions.go("/alerts")};
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") { document.activeElement?.blur?.(); return; }
    if (typing(event.target)) return;
    const row = event.target.closest?.("[data-row]");
    if (event.key === "Enter" && row && event.target === row) { event.preventDefault(); row.click(); return; }
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !row) return;
    const action = after[first + event.key] ?? (first ? null : single[event.key]);
    clearTimeout(timer);
    first = event.key === "g" && !first ? "g" : "";
    timer = setTimeout(() => { first = ""; }, 1000);
    if (action) { event.preventDefault(); first = ""; action(); }
  });
}
