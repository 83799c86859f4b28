// Makes one tree of elements like another by touching only what differs. In: the element on the page and the new HTML for it.
// Elements with `data-key` keep their identity when they move; scroll, focus and selection stay. Called by: page.js.
//
// data-own="style"   attributes the page itself sets and the server must not remove
// <time data-as>     its text belongs to clock.js: left alone while its data is the same
// data-keep          everything below belongs to the page (a chart, a field being typed in)

export function morph(element, html) {
  const wanted = document.createElement("template");
  wanted.innerHTML = html;
  children(element, wanted.content);
}

function children(have, want) {
  const keyed = new Map();
  for (const child of have.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  const wantedKeys = new Set();
  for (const child of want.children) if (child.dataset?.key) wantedKeys.add(child.dataset.key);
  let here = have.firstChild;
  for (const next of [...want.childNodes]) {
    while (here && keyOf(here) && !wantedKeys.has(keyOf(here))) here = drop(here);
    const match = keyOf(next) ? keyed.get(keyOf(next)) : alike(here, next) ? here : null;
    if (!match || match.nodeName !== next.nodeName) { have.insertBefore(next, here); continue; }
    if (match === here) here = here.nextSibling;
    else have.insertBefore(match, here);
    node(match, next);
  }
  while (here) here = drop(here);
}

function drop(child) {
  const after = child.nextSibling;
  child.remove();
  return after;
}

const keyOf = (child) => child?.dataset?.key;
const alike = (have, want) => have && !keyOf(have) && have.nodeType === want.nodeType && have.nodeName === want.nodeName;

function node(have, want) {
  if (have.nodeType !== Node.ELEMENT_NODE) {
    if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
    return;
  }
  const timed = have.dataset.as && have.dataset.as === want.dataset.as && have.dataset.ms === want.dataset.ms;
  attributes(have, want, timed);
  if (have.dataset.keep !== undefined || timed) return;
  children(have, want);
  field(have, want);
}

function attributes(have, want, timed) {
  const own = have.dataset.own?.split(" ") ?? [];
  if (timed) own.push("title");
  if (have.nodeName === "DETAILS") own.push("open");
  for (const {name} of [...have.attributes]) if (!want.hasAttribute(name) && !own.includes(name)) have.removeAttribute(name);
  for (const {name, value} of want.attributes) {
    if (!own.includes(name) && have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
}

function field(have, want) {
  if (have === document.activeElement) return;
  if (have.nodeName === "INPUT" && have.value !== want.value) have.value = want.value;
  if (have.nodeName === "SELECT" && have.value !== want.value) have.value = want.value;
}
