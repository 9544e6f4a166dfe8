// Keys: look one up, walk a prefix page by page, write, compare and set, delete.

import { h, icon } from "../dom.js";
import { get, of, post, Refused } from "../api.js";
import { ask } from "../dialog.js";
import { bytes, dateTime, duration } from "../format.js";
import * as binary from "../binary.js";

export const id = "keys";
export const title = "Keys";

const state = {
  encoding: "text", // how the person writes keys
  prefix: "",
  level: "linearizable",
  pages: [], // the starts of the pages up to this one
  page: null,
  busy: false,
  error: "",
  pair: null, // the key that is open
  raw: null, // its key as bytes
  show: "auto", // how its value is shown
  last: null, // what the last write was answered with
};

let app = null;

export function enter(given) {
  app = given;
  if (!state.page && !state.busy) walk([""]);
}

// holder is the node that is asked for keys: this one, or if it keeps none a master.
function holder() {
  const c = app.cluster;
  if (!c) return null;
  if (c.self && c.self.role !== "discovery") return c.self;
  return c.data.find((n) => n.answers) ?? null;
}

// asked and opened count what was asked for: an answer that another one has overtaken is not
// shown, or the value of one key would be shown, and edited, as that of another.
let asked = 0;
let opened = 0;

async function walk(pages) {
  const node = holder();
  if (app.cluster && !node) return fail(new Error("no node that keeps keys answers"));
  const turn = ++asked;
  state.busy = true;
  state.error = "";
  app.draw();
  try {
    const start = pages[pages.length - 1];
    const prefix = binary.toBase64(binary.parse(state.prefix, state.encoding));
    const query = new URLSearchParams({ encoding: "base64", prefix, start, level: state.level, limit: "50" });
    const page = await get(of(node, "/data/list?" + query));
    if (turn !== asked) return;
    state.page = page;
    state.pages = pages;
  } catch (error) {
    if (turn !== asked) return;
    state.page = null;
    fail(error);
  }
  state.busy = false;
  app.draw();
}

function fail(error) {
  state.error = error.message;
  app.draw();
}

async function open(key) {
  const turn = ++opened;
  state.raw = key;
  state.pair = state.last = null;
  state.error = "";
  state.show = "auto";
  app.draw();
  try {
    const query = new URLSearchParams({ encoding: "base64", key: binary.toBase64(key), level: state.level });
    const pair = await get(of(holder(), "/data/get?" + query));
    if (turn === opened) state.pair = pair;
  } catch (error) {
    if (turn === opened) fail(error);
  }
  app.draw();
}

export function render(given) {
  app = given;
  if (!state.page && !state.busy && !state.error) queueMicrotask(() => walk([""]));
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Keys"), h("div", { class: "page-acts" }, h("button", { id: "put", onClick: () => put(null) }, icon("plus"), "Put a key"))),
    search(),
    state.error && h("p", { class: "failed", role: "alert", id: "keys-error" }, icon("bad"), h("span", {}, state.error)),
    h("div", { class: "split" + (state.raw ? " open" : "") }, table(), state.raw && detail()),
  ];
}

function search() {
  const submit = (event) => {
    event.preventDefault();
    state.raw = null;
    if (event.submitter?.value === "get") {
      try {
        open(binary.parse(state.prefix, state.encoding));
      } catch (error) {
        fail(error);
      }
      return;
    }
    walk([""]);
  };
  return h("form", { class: "search", role: "search", onSubmit: submit },
    h("label", { class: "field grow" }, h("span", {}, "Key or prefix"),
      h("input", { id: "prefix", type: "text", class: "mono", placeholder: state.encoding === "hex" ? "00 ff 1a" : "empty: all keys", spellcheck: "false", autocomplete: "off", autocapitalize: "none", onInput: (e) => { state.prefix = e.target.value; } })),
    select("Written as", "encoding", [["text", "text"], ["hex", "hex"]], state.encoding, (v) => { state.encoding = v; }),
    select("Read level", "level", [["linearizable", "linearizable"], ["sequential", "sequential"]], state.level, (v) => { state.level = v; }),
    h("div", { class: "search-acts" }, h("button", { type: "submit", value: "walk", id: "walk" }, "List prefix"), h("button", { type: "submit", value: "get", id: "get" }, "Get key")));
}

function select(label, name, options, value, change) {
  return h("label", { class: "field" }, h("span", {}, label),
    h("select", { id: name, onChange: (e) => { change(e.target.value); app.draw(); } }, options.map(([v, t]) => h("option", { value: v, selected: v === value }, t))));
}

function table() {
  const p = state.page;
  if (!p) return h("section", { class: "panel" }, h("p", { class: "muted pad" }, state.busy ? "Reading …" : "Nothing was read."));
  const number = state.pages.length;
  return h("section", { class: "panel", "aria-label": "Keys", "aria-busy": String(state.busy) },
    p.keys.length === 0
      ? h("p", { class: "muted pad" }, state.prefix ? "No key begins with that." : "There are no keys.")
      : h("div", { class: "scroll" }, h("table", { class: "rows" },
        h("thead", {}, h("tr", {}, h("th", {}, "Key"), h("th", { class: "preview" }, "Value begins"), h("th", { class: "num" }, "Size"), h("th", { class: "wide-only" }, "Expires"), h("th", { class: "num wide-only" }, "vBucket"))),
        h("tbody", { id: "rows" }, p.keys.map((k) => row(k))))),
    h("div", { class: "pager" },
      h("button", { disabled: number < 2 || state.busy, onClick: () => walk(state.pages.slice(0, -1)) }, "Previous"),
      h("span", { class: "muted" }, `page ${number}` + (p.next ? "" : ", the last")),
      h("button", { disabled: !p.next || state.busy, id: "next", onClick: () => walk([...state.pages, p.next]) }, "Next")));
}

function row(k) {
  const key = binary.fromBase64(k.key);
  const chosen = state.raw && binary.same(key, state.raw);
  return h("tr", { key: k.key, class: chosen ? "chosen" : "", onClick: () => open(key) },
    h("td", {}, h("button", { class: "link mono", "aria-pressed": String(Boolean(chosen)), onClick: (e) => { e.stopPropagation(); open(key); } }, binary.printable(key, 80))),
    h("td", { class: "mono muted clip preview" }, k.size ? binary.printable(binary.fromBase64(k.preview), 60) : "empty"),
    h("td", { class: "num" }, bytes(k.size)), h("td", { class: "wide-only" }, expiry(k.expires)), h("td", { class: "num wide-only" }, k.vbucket));
}

function expiry(at) {
  if (!at) return "never";
  const left = at - Date.now() / 1000;
  return left > 0 ? "in " + duration(left) : "now";
}

function detail() {
  const p = state.pair;
  return h("section", { class: "panel value", "aria-label": "The key", id: "value-panel" },
    h("div", { class: "section-head" }, h("h2", { class: "mono break" }, binary.printable(state.raw, 300)),
      h("button", { class: "quiet", "aria-label": "Close", onClick: () => { state.raw = null; app.draw(); } }, icon("bad"))),
    state.last && written(state.last),
    !p ? h("p", { class: "muted" }, state.error ? "" : "Reading …") : !p.found ? [h("p", { id: "absent" }, "There is no such key."), actions(p)] : [
      h("dl", { class: "facts" }, [["Size", bytes(p.size)], ["Expires", p.expires ? `${expiry(p.expires)} (${dateTime(p.expires * 1000)})` : "never"], ["vBucket", p.vbucket],
        ["Read at log index", p.index || "–"], ["Age of the state", p.age_millis ? duration(p.age_millis / 1000) : "up to date"], ["Key in hex", binary.hex(state.raw, 64)]]
        .map(([k, v]) => h("div", { class: k === "Key in hex" ? "full" : "" }, h("dt", {}, k), h("dd", { class: k === "Key in hex" ? "mono" : "" }, v)))),
      content(p), actions(p)]);
}

function content(p) {
  const value = binary.fromBase64(p.value ?? "");
  const best = binary.kindOf(value);
  const kind = state.show === "auto" ? best : state.show;
  return [
    h("div", { class: "tabs", role: "tablist", "aria-label": "Show the value as" }, ["text", "json", "hex"].map((k) =>
      h("button", { role: "tab", "aria-selected": String(k === kind), disabled: k === "json" && !binary.isJSON(value), onClick: () => { state.show = k; app.draw(); } }, k === "json" ? "JSON" : k))),
    h("pre", { class: "content", tabindex: "0", id: "content" }, binary.shown(value, kind)),
  ];
}

function actions(p) {
  return h("div", { class: "page-acts" },
    h("button", { onClick: () => put(p), id: "edit" }, p.found ? "Replace" : "Put"),
    h("button", { onClick: () => cas(p), id: "cas" }, "Compare and set"),
    p.found && h("button", { class: "danger-text", onClick: () => remove(), id: "delete" }, "Delete"));
}

const levels = {
  async: "async: a majority of the masters has it",
  semi_sync: "semi_sync: each standby has received it too",
  sync: "sync: each standby has applied it and synced it to disk",
  all: "all: every master with a vote and every listed slave has applied it too",
};

function written(w) {
  return h("p", { class: w.updated ? "succeeded" : "risk", id: "acked", role: "status" }, icon(w.updated ? "ok" : "warn"),
    h("span", {}, w.updated ? ["Acknowledged at the level ", h("b", {}, levels[w.acked] ?? w.acked), `; vBucket ${w.vbucket}, log index ${w.index}.`]
      : "Nothing was changed: the key does not hold the expected value."));
}

const ackField = { name: "ack", label: "Acknowledge when", value: "", options: [{ value: "", text: "as the node is configured" }, ...Object.entries(levels).map(([value, text]) => ({ value, text }))] };
const lifeField = { name: "ttl", label: "Time to live, in seconds", placeholder: "empty: for ever" };
const asFields = [{ name: "encoding", label: "Written as", value: "text", options: [{ value: "text", text: "text" }, { value: "hex", text: "hex" }] }];

function lifetime(text) {
  if (!text.trim()) return 0;
  const s = Number(text);
  if (!(s > 0)) throw new Error("the time to live is a number of seconds");
  return Math.ceil(Date.now() / 1000 + s);
}

// send makes a write, and shows what it was answered with.
async function send(path, key, body, step) {
  if (!holder()) throw new Error("no node that keeps keys answers");
  step("asking " + holder().name);
  let answer;
  try {
    answer = await post(of(holder(), path), { ...body, key: binary.toBase64(key), encoding: "base64" });
  } catch (error) {
    if (error instanceof Refused && error.status === 403) throw new Error("You may not do this: " + error.message);
    throw error;
  }
  await open(key);
  if (state.raw && binary.same(state.raw, key)) state.last = answer;
  walk(state.pages.length ? state.pages : [""]);
  return answer;
}

// editable is a value as it is put into a field, with its encoding, and how long it may live.
function editable(p) {
  const now = binary.editable(binary.fromBase64(p?.value ?? ""));
  const left = p?.expires ? Math.ceil(p.expires - Date.now() / 1000) : 0;
  return { encoding: "text", value: "", ttl: left > 0 ? String(left) : "", ...now, whole: now !== null };
}

// tooLarge is why a value is not in its field.
const tooLarge = "The value of now is too large to be edited here: dkvctl -set KEY -stdin writes one from a file.";

function put(p) {
  const was = editable(p);
  const old = p && state.raw;
  return ask({
    title: p?.found ? "Replace the value" : "Put a key",
    text: p?.found ? ["The value is replaced, whatever it is by then. To replace only what you see, use compare and set."] : ["The key gets the value, whether or not it is there already."],
    risk: p?.found ? "what another client has written meanwhile is lost." : null,
    fields: [...(p ? [] : [{ name: "key", label: "Key", required: true }]), { name: "value", label: "Value", type: "textarea", value: was.value, hint: was.whole ? null : tooLarge }, { ...asFields[0], value: was.encoding }, { ...lifeField, value: was.ttl }, ackField],
    action: "Put",
    quiet: true,
    run: async (v, step) => {
      const key = old || binary.parse(v.key, v.encoding);
      await send("/data/put", key, { value: binary.toBase64(binary.parse(v.value, v.encoding)), expires: lifetime(v.ttl), ack: v.ack }, step);
    },
  });
}

function cas(p) {
  const was = editable(p);
  const key = state.raw;
  return ask({
    title: "Compare and set",
    text: ["The value is replaced only if the key holds the expected one. An empty expected value stands for a key that is absent or empty."],
    fields: [{ name: "old", label: "Expected", type: "textarea", rows: 3, value: was.value, hint: was.whole ? null : tooLarge }, { name: "value", label: "New value", type: "textarea", rows: 3, value: was.value },
      { ...asFields[0], value: was.encoding }, { ...lifeField, value: was.ttl }, ackField],
    action: "Compare and set",
    quiet: true,
    run: async (v, step) => {
      await send("/data/cas", key, { old: binary.toBase64(binary.parse(v.old, v.encoding)), value: binary.toBase64(binary.parse(v.value, v.encoding)), expires: lifetime(v.ttl), ack: v.ack }, step);
    },
  });
}

function remove() {
  const key = state.raw;
  return ask({
    title: "Delete the key",
    text: [binary.printable(key, 200)],
    risk: "the value is gone, unless a backup has it.",
    fields: [ackField],
    action: "Delete",
    danger: true,
    quiet: true,
    run: (v, step) => send("/data/delete", key, { ack: v.ack }, step),
  });
}
