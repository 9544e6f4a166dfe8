// What nodes do that takes a while, and how far each of it is.

import { h } from "./dom.js";
import { bytes, count, duration } from "./format.js";

let nodes = []; // of the newest state

// remember keeps the nodes for dialogs, which are drawn without the page.
export function remember(all) {
  nodes = all;
}

// ofKind shows what any node does of a kind.
export function ofKind(kind) {
  return nodes.flatMap((n) => (n.health?.tasks ?? []).filter((t) => t.kind === kind).map((t) => row(t, n.name)));
}

// ofNode shows what a node does.
export function ofNode(n) {
  const all = n.health?.tasks ?? [];
  return all.length > 0 && h("div", { class: "tasks" }, all.map((t) => row(t)));
}

function row(t, at) {
  const share = t.total > 0 ? Math.min(100, (100 * t.done) / t.total) : null;
  return h("div", { class: "task", key: [at, t.kind, t.subject].join(" "), role: "status", "data-task": t.kind },
    h("p", {}, `${at ? at + ": " : ""}${words(t)}`),
    share === null ? h("div", { class: "bar-moving" })
      : h("div", { class: "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share), "aria-label": t.kind }, h("i", { style: { width: share + "%" } })),
    h("p", { class: "muted" }, far(t)));
}

// words say what a task does now.
export function words(t) {
  return t.kind + (t.subject ? " " + t.subject : "") + (t.parts ? `, vBucket ${t.part} of ${t.parts}` : "") + ": " + (t.step || "begins");
}

// far is how much of its step is done, how fast, and how long the rest takes at that rate.
export function far(t) {
  if (!t.total) return `for ${duration(t.seconds)} now`;
  const size = t.unit === "B" ? bytes : (n) => count(n) + " " + t.unit;
  const done = t.unit === "B" ? `${bytes(t.done)} of ${bytes(t.total)}` : `${count(t.done)} of ${count(t.total)} ${t.unit}`;
  if (!(t.done > 0 && t.step_seconds >= 1)) return done;
  const perSecond = t.done / t.step_seconds;
  return `${done}, ${perSecond >= 1 ? size(perSecond) + "/s, " : ""}${duration((t.total - t.done) / perSecond)} left`;
}
