// Traffic: requests, errors and latencies, now and for the last hour.

import { h } from "../dom.js";
import { chart } from "../chart.js";
import { count, rate, seconds } from "../format.js";
import { clientOps, meters, quantile, steps, within } from "../meters.js";

export const id = "traffic";
export const title = "Traffic";

const spans = [["1 minute", 60e3, "1 min ago"], ["10 minutes", 600e3, "10 min ago"], ["1 hour", 3600e3, "1 h ago"]];
let span = spans[0];

export function render(app) {
  const sum = within(span[1]);
  const parts = steps(span[1], 60);
  const per = (s, n) => (s.span ? n / s.span : undefined);
  const since = meters.ring[0]?.time;
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Traffic"),
      h("div", { class: "choices", role: "group", "aria-label": "Time" }, spans.map((s) =>
        h("button", { key: s[0], "aria-pressed": String(s === span), onClick: () => { span = s; app.draw(); } }, s[0])))),
    !meters.ring.length ? h("p", { class: "muted" }, "Measuring …") : null,
    h("div", { class: "charts" },
      chart({ title: "Requests of clients a second", show: rate, from: span[2], to: "now", lines: [
        { name: "requests", class: "one", points: parts.map((s) => per(s, s.count)) },
        { name: "errors", class: "bad", points: parts.map((s) => per(s, s.errors)) }] }),
      chart({ title: "Latency", show: seconds, from: span[2], to: "now", lines: [
        { name: "p50", class: "one", points: parts.map((s) => quantile(s.buckets, 0.5)) },
        { name: "p99", class: "two", points: parts.map((s) => quantile(s.buckets, 0.99)) }] })),
    table("Clients", sum, (op) => clientOps.has(op), "No client has asked for anything in this time."),
    byNode(sum),
    table("Between nodes and administration", sum, (op) => !clientOps.has(op), "None in this time."),
    h("p", { class: "muted note" }, "Latency is that of the server, from the buckets of dkv_request_duration_seconds. A request that a node forwards counts at both nodes. ",
      since && `The page has measured since ${new Date(since).toLocaleTimeString("en-GB")}; Prometheus keeps more.`),
  ];
}

function table(name, sum, wanted, none) {
  const ops = [...sum.ops].filter(([op, o]) => wanted(op) && o.count > 0).sort((a, b) => b[1].count - a[1].count);
  return h("section", { class: "panel", key: name }, h("h2", {}, name),
    !ops.length ? h("p", { class: "muted pad" }, none) : h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Operation"), ["A second", "Errors", "p50", "p95", "p99"].map((t) => h("th", { class: "num" }, t)))),
      h("tbody", {}, ops.map(([op, o]) => h("tr", { key: op }, h("td", {}, op), h("td", { class: "num" }, rate(sum.span ? o.count / sum.span : undefined)),
        h("td", { class: "num" + (o.errors ? " bad-text" : "") }, o.errors ? `${count(o.errors)} (${((100 * o.errors) / o.count).toFixed(1)} %)` : "0"),
        [0.5, 0.95, 0.99].map((q) => h("td", { class: "num" }, seconds(quantile(o.buckets, q))))))))));
}

function byNode(sum) {
  const all = [...sum.nodes].sort((a, b) => b[1] - a[1]);
  if (!all.length) return null;
  const most = all[0][1];
  return h("section", { class: "panel" }, h("h2", {}, "Requests of clients by node"),
    h("div", { class: "bars" }, all.map(([n, c]) => h("div", { class: "bar", key: n }, h("span", {}, n), h("div", { class: "track" }, h("i", { style: { width: (100 * c) / most + "%" } })), h("span", { class: "num" }, rate(c / sum.span), " /s")))));
}
