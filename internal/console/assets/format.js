// How numbers, times and keys read.

const sizes = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(n) {
  if (n === undefined || n === null || Number.isNaN(n)) return "–";
  let i = 0;
  while (n >= 1024 && i < sizes.length - 1) {
    n /= 1024;
    i++;
  }
  return (n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)) + " " + sizes[i];
}

export function count(n) {
  return n === undefined || n === null ? "–" : Math.round(n).toLocaleString("en-US");
}

// rate is a number with three digits that count.
export function rate(n) {
  if (n === undefined || n === null || Number.isNaN(n)) return "–";
  if (n >= 1e6) return (n / 1e6).toPrecision(3) + " M";
  if (n >= 1e4) return (n / 1e3).toPrecision(3) + " k";
  return n >= 100 || n === 0 ? Math.round(n).toLocaleString("en-US") : Number(n.toPrecision(3)).toString();
}

// seconds is a duration in its largest unit.
export function seconds(s) {
  if (s === undefined || s === null || Number.isNaN(s)) return "–";
  if (s < 0.0000005) return "0";
  if (s < 0.001) return Math.round(s * 1e6) + " µs";
  if (s < 1) return Number((s * 1e3).toPrecision(3)) + " ms";
  if (s < 120) return Number(s.toPrecision(3)) + " s";
  return duration(s);
}

// secondsOf is how many seconds a duration in Go's notation has, like 1m2.5s.
export function secondsOf(text) {
  const units = { h: 3600, m: 60, s: 1, ms: 1e-3, "µs": 1e-6, ns: 1e-9 };
  return [...text.matchAll(/([\d.]+)(h|ms|m|s|µs|ns)/g)].reduce((sum, [, n, unit]) => sum + Number(n) * units[unit], 0);
}

export function duration(s) {
  s = Math.floor(s);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

export function plural(n, one, many) {
  return count(n) + " " + (n === 1 ? one : many ?? one + "s");
}

export function list(words) {
  if (words.length < 2) return words.join("");
  return words.slice(0, -1).join(", ") + " and " + words[words.length - 1];
}

export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

export function dateTime(time) {
  const d = new Date(time);
  return Number.isNaN(d.getTime()) ? "–" : d.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
}

// host is the name of a node's address without what all have in common.
export function percent(part, whole) {
  return whole > 0 ? Math.round((100 * part) / whole) + " %" : "–";
}
