// Log: the last events of each node, and the audit trail.

import { h } from "../dom.js";
import { Refused, get, of } from "../api.js";

export const id = "log";
export const title = "Log";

const levels = ["DEBUG", "INFO", "WARN", "ERROR"];
const filter = { level: "INFO", vBucket: "", node: "", text: "", kind: "events" };
let events = [];
const errors = new Map();
// refused is until when a node is not asked again: each refusal is a line in its audit log.
const refused = new Map();
let reading = false;
let paused = false;

export function enter(app) {
  refused.clear(); // another token may be in use
  read(app);
}

export function heard(app) {
  if (!paused) read(app);
}

async function read(app) {
  if (reading || !app.cluster) return;
  reading = true;
  const query = "?limit=300&level=" + filter.level + (filter.vBucket ? "&vbucket=" + encodeURIComponent(filter.vBucket) : "") + (filter.kind === "audit" ? "&audit=1" : "");
  const found = await Promise.all(app.cluster.nodes.filter((n) => n.answers && (!filter.node || n.name === filter.node) && !(refused.get(n.name) > Date.now())).map(async (n) => {
    try {
      const answer = await get(of(n, "/admin/log" + query), AbortSignal.timeout(5000));
      errors.delete(n.name);
      return answer.events.map((e) => ({ ...e, node: n.name, key: n.name + " " + e.id }));
    } catch (error) {
      errors.set(n.name, error.message);
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) refused.set(n.name, Date.now() + 30000);
      return [];
    }
  }));
  events = found.flat().sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : b.id - a.id)).slice(0, 500);
  reading = false;
  app.draw();
}

export function render(app) {
  const change = (name) => (e) => { filter[name] = e.target.value; read(app); app.draw(); };
  const select = (label, name, options) => h("label", { class: "field" }, h("span", {}, label),
    h("select", { id: "log-" + name, onChange: change(name) }, options.map(([v, t]) => h("option", { value: v, selected: v === filter[name] }, t))));
  const wanted = filter.text.toLowerCase();
  const shown = events.filter((e) => !wanted || (e.message + " " + e.node + " " + (e.attrs ?? []).map((a) => a.join("=")).join(" ")).toLowerCase().includes(wanted));
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Log"), h("div", { class: "page-acts" }, h("button", { "aria-pressed": String(paused), onClick: () => { paused = !paused; app.draw(); } }, paused ? "Go on" : "Hold still"))),
    h("div", { class: "search" },
      select("Show", "kind", [["events", "events"], ["audit", "audit trail"]]),
      select("From level", "level", levels.map((l) => [l, l.toLowerCase()])),
      select("Node", "node", [["", "all"], ...app.cluster.nodes.map((n) => [n.name, n.name])]),
      app.cluster.buckets.length > 1 && select("vBucket", "vBucket", [["", "all"], ...app.cluster.buckets.map((b) => [b.name, b.name])]),
      h("label", { class: "field grow" }, h("span", {}, "With the words"), h("input", { type: "search", id: "log-text", autocomplete: "off", onInput: (e) => { filter.text = e.target.value; app.draw(); } }))),
    [...errors].map(([n, text]) => h("p", { class: "risk", key: n }, `${n}: ${text}`)),
    h("section", { class: "panel log", id: "events", "aria-label": "Events, the newest first" }, shown.length === 0 ? h("p", { class: "muted pad" }, "No event of that kind is kept.") : shown.map((e) => line(e))),
  ];
}

function line(e) {
  return h("div", { class: "event " + e.level.toLowerCase(), key: e.key },
    h("time", { datetime: e.time, title: e.time }, e.time.slice(11, 23)), h("span", { class: "level" }, e.level.toLowerCase()), h("span", { class: "at" }, e.node),
    h("div", { class: "said" }, h("span", {}, e.message), (e.attrs ?? []).filter(([k]) => k !== "node").map(([k, v], i) => h("span", { class: "attr", key: k + i }, h("b", {}, k), "=", v))));
}
