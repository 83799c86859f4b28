// Times in the viewer's zone and durations that tick. In: elements with `data-as` and `data-ms`, the server's clock. Called by: page.js.
//
// data-as="clock"    14:03:22 today, else 21 Nov 14:03; the title says UTC
// data-as="minute"   14:03 today, else 21 Nov 14:03
// data-as="hour"     14:03, whatever the day
// data-as="ago"      12 s ago, by the server's clock
// data-as="elapsed"  time since data-ms, growing
// Words of a duration are those of clock.py; a test compares them.

let offset = 0;

export const serverNow = () => Date.now() + offset;
export const setServerNow = (ms) => { offset = ms - Date.now(); };

export function duration(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "–";
  seconds = Math.max(seconds, 0);
  for (const [below, factor, unit, digits] of [[1e-6, 1e9, "ns", 0], [1e-3, 1e6, "µs", 0], [1, 1e3, "ms", 0], [60, 1, "s", 1]]) {
    if (seconds >= below) continue;
    const value = seconds * factor;
    if (unit === "s" && even(value) >= 60) return "1m 00s";
    return `${value < 10 && digits ? value.toFixed(digits) : even(value)} ${unit}`;
  }
  const whole = even(seconds), two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${two(Math.floor(whole % 3600 / 60))}m`;
  return `${Math.floor(whole / 86400)}d ${two(Math.floor(whole % 86400 / 3600))}h`;
}

// Python rounds halves to even; so do we, or the same instant would read differently after a reload.
function even(value) {
  const down = Math.floor(value), rest = value - down;
  return rest === 0.5 ? (down % 2 ? down + 1 : down) : Math.round(value);
}

const time = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});
const minute = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit"});
const day = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short", hour: "2-digit", minute: "2-digit"});
const date = new Intl.DateTimeFormat("en-GB", {year: "numeric", month: "2-digit", day: "2-digit"});

export function clock(ms, precise) {
  const moment = new Date(ms);
  if (!isToday(moment)) return day.format(moment).replace(",", "");
  return precise ? `${time.format(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}` : time.format(moment);
}

const isToday = (moment) => date.format(moment) === date.format(new Date(serverNow()));

const utc = (ms) => new Date(ms).toISOString().replace("T", " ").replace("Z", " UTC");

const whole = (seconds) => duration(Math.floor(seconds)).replace(".0 s", " s"); // what ticks once a second shows no tenths

const words = {
  clock: (ms, element) => clock(ms, element.dataset.precise !== undefined),
  minute: (ms) => { const moment = new Date(ms); return isToday(moment) ? minute.format(moment) : day.format(moment).replace(",", ""); },
  hour: (ms) => minute.format(new Date(ms)),
  ago: (ms) => { const s = (serverNow() - ms) / 1000; return s < 1 ? "now" : `${whole(s)} ago`; },
  elapsed: (ms) => { const s = (serverNow() - ms) / 1000; return s < 1 ? duration(s) : whole(s); },
};

export function show(root) {
  for (const element of root.querySelectorAll("[data-as]")) {
    const ms = Number(element.dataset.ms);
    const text = words[element.dataset.as](ms, element);
    if (element.textContent !== text) element.textContent = text;
    const title = utc(ms);
    if (element.title !== title) element.title = title;
  }
}
