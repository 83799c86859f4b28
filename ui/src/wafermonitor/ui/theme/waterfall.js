// The window of the waterfall: which rows are asked for, and which stretch of time the bars show. Called by: page.js.
//
// The server sends rows around the viewport (at most 160) with spacers for the rest. Bars are placed by CSS from four numbers of
// the container (--from, --wide, --now, all seconds since the run's start), so zoom, pan and the growth of open bars move
// every bar without touching one of them.

import {duration, serverNow} from "./clock.js";

const ROW = 26, HEAD = 76; // px, as in run.css: one row; the axis and the map together
let asked = "";

const parts = () => {
  const body = document.querySelector(".wf");
  return body && {body, scroll: body.querySelector(".wf-scroll"), axis: body.querySelector(".wf-axis")};
};

export function range(body) {
  const begin = Number(body.dataset.begin), open = body.dataset.open !== undefined;
  const now = Math.max((serverNow() - begin) / 1000, 0);
  const all = Math.max(open ? Math.max(now, Number(body.dataset.length)) * 1.04 : Number(body.dataset.length), 1e-6);
  const [from, to] = body.dataset.zoom ? body.dataset.zoom.split("-").map(Number) : [0, all];
  return {from, span: Math.max(to - from, all * 1e-5, 1e-7), now, all};
}

export function place() {
  const found = parts();
  if (!found) return;
  const {from, span, now, all} = range(found.body);
  const set = (name, value) => found.body.style.setProperty(name, String(value));
  set("--from", from); set("--wide", span); set("--now", now);
  set("--view-left", Math.max(0, from / all)); set("--view-width", Math.min(1, span / all));
  ticks(found.axis, from, span);
}

function ticks(axis, from, span) {
  const room = Math.max(3, Math.floor(axis.clientWidth / 110)), rough = span / room;
  const steps = [1, 2, 5, 10];
  const power = 10 ** Math.floor(Math.log10(rough));
  const minutes = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
  const step = rough > 1 ? minutes.find((s) => s >= rough) ?? minutes.at(-1) : power * steps.find((s) => s * power >= rough);
  const marks = [];
  for (let at = Math.ceil(from / step - 1e-9) * step; at <= from + span && marks.length < 100; at += step) marks.push(at);
  const html = marks.map((at) => `<span style="left:${((at - from) / span * 100).toFixed(3)}%">${at < step / 2 ? "0" : label(at, step)}</span>`).join("");
  if (axis.dataset.drawn !== html) { axis.innerHTML = html; axis.dataset.drawn = html; }
}

function label(at, step) {
  if (step >= 1) return duration(at).replace(/^(\d+m) 00s$/, "$1").replace(/^(\d+h) 00m$/, "$1").replace(".0 s", " s");
  const [unit, factor] = step >= 1e-3 ? (at >= 1 ? ["s", 1] : ["ms", 1e3]) : ["µs", 1e6];
  return `${Number((at * factor).toPrecision(4))} ${unit}`;
}

export function window_(send) {
  const found = parts();
  if (!found) return;
  const {scroll, body} = found;
  const total = Number(body.dataset.total), first = Number(body.dataset.first), count = Number(body.dataset.count);
  const top = Math.floor(scroll.scrollTop / ROW), bottom = Math.ceil((scroll.scrollTop + scroll.clientHeight - HEAD) / ROW);
  if (top >= first && Math.min(bottom, total) <= first + count) return;
  const wish = `${body.dataset.run}:${top}`;
  if (wish === asked) return;
  asked = wish;
  send({rows: top});
}

export function zoomed(factor, shift = 0) {
  const found = parts();
  if (!found) return null;
  const {from, span, all} = range(found.body);
  if (factor === 0) return "";
  const width = Math.min(span * factor, all), middle = from + span / 2 + span * shift;
  const left = Math.min(Math.max(middle - width / 2, 0), all - width);
  return width >= all * 0.999 ? "" : `${digits(left)}-${digits(left + width)}`;
}

const digits = (value) => value.toFixed(value < 1 ? 7 : 4).replace(/\.?0+$/, "");

export function brush(event, done) {
  const axis = event.target.closest(".wf-axis, .wf-map");
  if (!axis || event.button !== 0) return false;
  const {body} = parts(), box = axis.getBoundingClientRect(), whole = axis.classList.contains("wf-map");
  const {from, span, all} = range(body);
  const at = (x) => Math.min(Math.max((x - box.left) / box.width, 0), 1) * (whole ? all : span) + (whole ? 0 : from);
  const begin = at(event.clientX), mark = document.createElement("i");
  mark.className = "wf-brush";
  axis.append(mark);
  const move = (now) => {
    const [a, b] = [event.clientX, now.clientX].sort((x, y) => x - y).map((x) => Math.min(Math.max(x, box.left), box.right) - box.left);
    Object.assign(mark.style, {left: `${a}px`, width: `${b - a}px`});
  };
  const up = (now) => {
    removeEventListener("pointermove", move);
    mark.remove();
    const end = at(now.clientX);
    if (Math.abs(now.clientX - event.clientX) > 4) done(`${digits(Math.min(begin, end))}-${digits(Math.max(begin, end))}`);
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", up, {once: true});
  event.preventDefault();
  return true;
}
