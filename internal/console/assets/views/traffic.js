// Traffic: requests, errors and latencies, now and for the last hour.

import { h } from "../dom.js";
import { chart } from "../chart.js";
import { Refused, get, of } from "../api.js";
import { clock, count, rate, seconds, secondsOf } from "../format.js";
import { clientOps, lasting, meters, quantile, steps, within } from "../meters.js";

export const id = "traffic";
export const title = "Traffic";

const spans = [["1 minute", 60e3, "1 min ago"], ["10 minutes", 600e3, "10 min ago"], ["1 hour", 3600e3, "1 h ago"]];
let span = spans[0];

// slow are the slow requests that the nodes have logged last. They are read again after a
// while, and not soon if that was refused: each refusal is a line in the audit log.
const slow = { rows: [], refused: "", next: 0 };

export function enter() {
  slow.next = 0;
}

export function heard(app) {
  if (Date.now() >= slow.next) readSlow(app);
}

async function readSlow(app) {
  slow.next = Date.now() + 5000;
  slow.refused = "";
  const found = await Promise.all(app.cluster.nodes.filter((n) => n.answers).map(async (n) => {
    try {
      const answer = await get(of(n, "/admin/log?limit=500&level=warn"), AbortSignal.timeout(4000));
      return answer.events.filter((e) => e.message === "slow request").map((e) => ({ ...Object.fromEntries(e.attrs ?? []), node: n.name, time: e.time, id: n.name + " " + e.id }));
    } catch (error) {
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        slow.refused = error.message;
        slow.next = Date.now() + 30000;
      }
      return [];
    }
  }));
  slow.rows = found.flat().sort((a, b) => (a.time < b.time ? 1 : -1)).slice(0, 50);
  app.draw();
}

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
    slowRequests(),
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
        [0.5, 0.95, 0.99].map((q) => h("td", { class: "num" }, lasting.has(op) ? "–" : seconds(quantile(o.buckets, q))))))))));
}

// slowRequests shows where the time of each went.
function slowRequests() {
  const parts = [["took", "Took"], ["waited", "Waited"], ["wrote", "Wrote"], ["read", "Read"], ["elsewhere", "Elsewhere"]];
  return h("section", { class: "panel", id: "slow" }, h("h2", {}, "Slow requests"),
    slow.refused ? h("p", { class: "muted pad" }, slow.refused)
      : !slow.rows.length ? h("p", { class: "muted pad" }, "The nodes have logged none (slow-log-threshold).")
        : h("div", { class: "scroll" }, h("table", {},
          h("thead", {}, h("tr", {}, ["At", "Node", "Operation", "Key"].map((t) => h("th", {}, t)), parts.map(([, t]) => h("th", { class: "num" }, t)), h("th", {}, "Result"))),
          h("tbody", {}, slow.rows.map((r) => h("tr", { key: r.id }, h("td", { title: r.time }, clock(r.time)), h("td", {}, r.node), h("td", {}, r.op), h("td", { class: "mono clip" }, r.key),
            parts.map(([name]) => h("td", { class: "num" }, !r[name] || r[name] === "0s" ? "–" : seconds(secondsOf(r[name])))), h("td", {}, r.code)))))));
}

function byNode(sum) {
  const all = [...sum.nodes].sort((a, b) => b[1] - a[1]);
  if (!all.length) return null;
  const most = all[0][1];
  return h("section", { class: "panel" }, h("h2", {}, "Requests of clients by node"),
    h("div", { class: "bars" }, all.map(([n, c]) => h("div", { class: "bar", key: n }, h("span", {}, n), h("div", { class: "track" }, h("i", { style: { width: (100 * c) / most + "%" } })), h("span", { class: "num" }, rate(c / sum.span), " /s")))));
}
