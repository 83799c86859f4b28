// Forms by which a viewer changes something. In: forms with `data-act`, what the session says came of it. Out: messages {act}, words in the
// form, focus. Called by: page.js.
//
// data-name    a field for the viewer's name, remembered in this browser
// .as-you      after its label: says the remembered name in its place, and data-not-you asks for another
// data-focus   the field that is focused once, when its form opens
// data-after   the address to go to when the act was done

const waiting = new Map();
let number = 0;
let heard = 0;
let opened = "";

const stored = () => { try { return localStorage.getItem("wafer-name") ?? ""; } catch { return ""; } };
const store = (name) => { try { localStorage.setItem("wafer-name", name); } catch { /* a private window asks each time */ } };

export function nameForms() {
  for (const field of document.querySelectorAll("input[data-name]")) {
    if (field.dataset.named !== undefined) continue;
    field.dataset.named = "";
    field.value ||= stored();
    if (field.value) foldName(field);
  }
}

// A remembered name is said in words, so that nobody acts under another's by oversight.
function foldName(field) {
  const label = field.closest("label"), words = label.nextElementSibling;
  if (!words?.matches(".as-you")) return;
  words.querySelector("b").textContent = field.value;
  label.hidden = true;
  words.hidden = false;
  words.querySelector("[data-not-you]").onclick = () => {
    label.hidden = false;
    words.hidden = true;
    field.value = "";
    field.focus();
  };
}

export function focusForm() {
  const form = document.querySelector("form[data-act]:has([data-focus])"), key = form?.dataset.key ?? "";
  if (key === opened) return;
  opened = key;
  if (!form) return;
  const empty = [...form.querySelectorAll("input[data-focus]")].find((field) => field.type === "radio" || !field.value);
  (empty ?? form.querySelector("input:not([type=hidden]):not([data-name])")).focus({preventScroll: true});
  form.scrollIntoView({block: "nearest"});
}

export function act(form, button, send) {
  if (form.hasAttribute("aria-busy")) return; // pressed twice is meant once
  const given = Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));
  if (given.by) store(given.by.trim());
  number += 1;
  waiting.set(number, form);
  form.setAttribute("aria-busy", "true");
  form.querySelector("[data-told]").textContent = "";
  send({act: button?.value || form.dataset.act, given, number});
}

export function told(answer, {go, say}) {
  if (!answer || answer.number === heard) return;
  heard = answer.number;
  const form = waiting.get(answer.number);
  waiting.delete(answer.number);
  form?.removeAttribute("aria-busy");
  if (!answer.done) { const place = form?.querySelector("[data-told]"); if (place) place.textContent = answer.words; else say(answer.words); return; }
  say(answer.words);
  if (form?.dataset.after) go(form.dataset.after, {replace: true});
}
