// One page: shows what the session sends, sends back what the viewer does. In: `shown` of the session (HTML, title, clock, address,
// link state, what came of an act). Out: messages {hello}, {go}, {rows}, {visible}, {zone}, {retry}, {act}. Called by: screen.js, once per session.

import {morph} from "./morph.js";
import {setServerNow, show as showTimes} from "./clock.js";
import {brush, place, window_, zoomed} from "./waterfall.js";
import {listen, reach} from "./keys.js";
import {act, focusForm, nameForms, told} from "./forms.js";

const screen = document.getElementById("screen");
let session = null;
let here = location.pathname + location.search;

function connect(given) {
  session = given;
  given.changed(draw);
  globalThis.Bokeh.documents[0].on_event("connection_lost", lost);
  draw();
  given.send({hello: true, go: here, visible: !document.hidden, zone: -new Date().getTimezoneOffset(), place: Intl.DateTimeFormat().resolvedOptions().timeZone});
}

function draw() {
  const shown = session.read();
  if (!shown.html) return;
  if (shown.server_ms) setServerNow(shown.server_ms);
  status(shown);
  told(shown.told, {go, say});
  if (shown.address !== here) return; // an answer to an address the viewer has left
  document.title = shown.title;
  const tails = atEnd();
  keepChart(() => morph(screen, shown.html));
  for (const list of document.querySelectorAll("[data-tail]")) if (tails.get(list) ?? true) list.scrollTop = list.scrollHeight;
  screen.removeAttribute("aria-busy");
  document.querySelectorAll("[data-nav]").forEach((link) => {
    if (link.dataset.nav === shown.nav) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  });
  showTimes(document);
  place();
  reach();
  nameForms();
  focusForm();
  document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
}

// Lists of a run that goes on follow their end, unless the viewer has scrolled up.
const atEnd = () => new Map([...document.querySelectorAll("[data-tail]")].map((list) => [list, list.scrollTop + list.clientHeight > list.scrollHeight - 8]));

// The chart is Bokeh's own element: it moves into the page's slot and back, and is never morphed.
function keepChart(work) {
  const chart = document.getElementById("chart-home"), stage = document.getElementById("offstage");
  work();
  const slot = document.querySelector("[data-chart]") ?? stage;
  if (chart.parentElement !== slot) { slot.append(chart); dispatchEvent(new Event("resize")); }
}

function status(shown) {
  const link = document.getElementById("link"), banner = document.getElementById("banner");
  link.dataset.state = shown.stale ? "stale" : "live";
  link.lastElementChild.textContent = shown.stale ? "stale" : "live";
  link.title = shown.stale ? "The read API does not answer" : "Changes arrive as they happen";
  if (banner.dataset.html !== (shown.stale ?? "")) {
    banner.dataset.html = shown.stale ?? "";
    banner.innerHTML = shown.stale ?? "";
    showTimes(banner);
  }
  banner.hidden = !shown.stale;
  const bell = document.getElementById("bell"), alerts = shown.alerts;
  bell.hidden = !alerts?.number;
  if (alerts?.number) { bell.textContent = alerts.words; bell.dataset.look = alerts.look; bell.title = `${alerts.words} unattended`; }
}

function go(url, {push = true, replace = false} = {}) {
  if (push && url !== here) history[replace ? "replaceState" : "pushState"]({}, "", url);
  const what = (address) => { const [path, query] = address.split("?"), given = new URLSearchParams(query); return [path, given.get("run"), given.get("job") && path === "/job" ? given.get("job") : ""].join(); };
  const moved = what(url) !== what(here);
  here = url;
  if (moved) { scrollTo(0, 0); screen.setAttribute("aria-busy", "true"); }
  session?.send({go: url});
}

const change = (name, value) => {
  const url = new URL(here, location.origin);
  if (value) url.searchParams.set(name, value); else url.searchParams.delete(name);
  return url.pathname + url.search;
};

const actions = {
  theme: () => say(`${window.waferTheme()} theme`),
  help: () => { const dialog = document.getElementById("help"); dialog.open ? dialog.close() : dialog.showModal(); },
  find: () => document.querySelector(".find input").select(),
  copy: async () => {
    try { await navigator.clipboard.writeText(location.href); say("Link copied"); } catch { say("This browser does not allow copying: take the link from the address bar"); }
  },
  retry: () => session?.send({retry: true}),
  zoom: (factor, shift) => {
    const zoom = zoomed(factor, shift), body = document.querySelector(".wf");
    if (zoom === null || !body) return;
    body.dataset.zoom = zoom;
    place();
    go(change("zoom", zoom), {replace: true});
  },
  go,
};

function say(words) {
  const place_ = document.getElementById("said");
  place_.textContent = words;
  place_.className = "said";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place_.className = "unseen"; }, 2200);
}

const visible = () => session?.send({visible: !document.hidden});
document.addEventListener("visibilitychange", visible);
addEventListener("popstate", () => go(location.pathname + location.search, {push: false}));

document.addEventListener("click", (event) => {
  const doing = event.target.closest("[data-do]");
  if (doing) { event.preventDefault(); actions[doing.dataset.do]?.(...(doing.dataset.with?.split(",").map(Number) ?? [])); return; }
  const link = event.target.closest("a[href]");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (link) {
    const own = link.origin === location.origin && !link.hasAttribute("download") && !link.target && link.getAttribute("href").startsWith("/");
    if (plain && own && link.hash && link.pathname + link.search === location.pathname + location.search) { event.preventDefault(); document.querySelector(link.hash)?.focus(); return; }
    if (plain && own) { event.preventDefault(); go(link.pathname + link.search, {replace: link.dataset.replace !== undefined}); }
    return;
  }
  const spot = event.target.closest("[data-go]");
  if (spot && plain) { go(spot.dataset.go); return; }
  const row = event.target.closest("[data-row][data-href]");
  if (event.target.closest("form, summary")) return;
  if (row && plain && !String(getSelection())) { row.focus(); go(row.dataset.href, {replace: row.dataset.replace !== undefined}); }
});

function submitted(form) {
  const values = [...new FormData(form)].filter(([, value]) => value);
  const query = new URLSearchParams(values).toString();
  go(form.getAttribute("action") + (query ? `?${query}` : ""), {replace: form.dataset.replace !== undefined});
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method === "dialog") return;
  event.preventDefault();
  if (form.dataset.act !== undefined) { act(form, event.submitter, (message) => session?.send(message)); return; }
  if (form.dataset.search !== undefined) { go(`/runs?${new URLSearchParams({q: form.q.value.trim(), level: "all"})}`); form.q.blur(); } else submitted(form);
});
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-filter]");
  if (form) submitted(form);
});
document.addEventListener("pointerdown", (event) => {
  brush(event, (zoom) => { document.querySelector(".wf").dataset.zoom = zoom; place(); go(change("zoom", zoom), {replace: true}); });
});
document.addEventListener("dblclick", (event) => { if (event.target.closest(".wf-axis, .wf-map")) actions.zoom(0); });
document.addEventListener("scroll", (event) => { if (event.target.classList?.contains("wf-scroll")) window_((message) => session?.send(message)); }, true);
addEventListener("resize", place);
listen(actions);

setInterval(() => { if (!document.hidden) { showTimes(document); place(); } }, 1000);
showTimes(document);
// The whole view is in the address, so a page whose session is gone (a restart, a laptop that slept) simply loads again.
function lost() {
  const link = document.getElementById("link");
  link.dataset.state = "cut";
  link.lastElementChild.textContent = "no connection";
  link.title = "The server of this page does not answer; it is tried again every 2 s";
  const again = async () => {
    const alive = await fetch("healthz", {cache: "no-store"}).then((answer) => answer.ok, () => false);
    if (alive) location.reload(); else setTimeout(again, 2000);
  };
  setTimeout(again, 1000);
}

// A socket that opened after its session was given up shows nothing: the page loads again.
setTimeout(() => { if (!document.documentElement.dataset.drawn) location.reload(); }, 60_000);
window.waferPageReady({connect});
