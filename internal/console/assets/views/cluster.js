// The cluster now: what is wrong, the nodes by zone, and the vBuckets by health.

import { h, icon } from "../dom.js";
import { of, post } from "../api.js";
import { ask } from "../dialog.js";
import { bytes, duration, list, percent, plural } from "../format.js";
import { lagText, ranks, worst } from "../model.js";
import { ofNode } from "../tasks.js";

export const id = "cluster";
export const title = "Cluster";

let chosen = null; // the vBucket whose details are shown
let menu = null; // the node whose acts are shown
let whole = false; // whether all vBuckets are drawn

export function badge(app) {
  const n = app.cluster?.problems.length;
  return n ? { text: n, state: worst(app.cluster.problems.map((p) => p.state)) } : null;
}

export function leave() {
  menu = chosen = null;
}

addEventListener("click", (event) => {
  if (menu && !event.target.closest(".acts")) menu = null;
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") menu = null;
});

export function render(app) {
  const c = app.cluster;
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Cluster"),
      h("div", { class: "page-acts" },
        c.masters.some((n) => n.role === "master") && h("button", { onClick: () => add(c), id: "add" }, icon("plus"), "Add a node"),
        c.masters.length > 0 && h("button", { onClick: () => pause(c), id: "pause" }, icon("pause"), c.paused ? "Resume writes" : "Pause writes"))),
    verdict(c),
    tiles(c),
    zones(app),
    c.buckets.length > 0 && map(app),
  ];
}

function verdict(c) {
  if (!c.problems.length) {
    return h("section", { class: "verdict ok", role: "status", id: "verdict" }, icon("ok"),
      h("div", {}, h("h2", {}, "All is well"), h("p", {}, `${plural(c.nodes.length, "node answers", "nodes answer")}` +
        (c.buckets.length ? ` and ${c.buckets.length === 1 ? "the vBucket has" : `all ${c.buckets.length} vBuckets have`} a leader and all copies.` : "."))));
  }
  const state = worst(c.problems.map((p) => p.state));
  return h("section", { class: "verdict " + state, role: "status", "aria-live": "polite", id: "verdict" }, icon(state),
    h("div", {}, h("h2", {}, state === "bad" ? "Something is wrong" : "Something needs attention"),
      h("ul", {}, c.problems.slice(0, 12).map((p) => h("li", { class: p.state, key: p.text }, p.text)),
        c.problems.length > 12 && h("li", {}, `and ${c.problems.length - 12} more`))));
}

function tiles(c) {
  const up = c.nodes.filter((n) => n.answers).length;
  const led = c.buckets.filter((b) => b.leader).length;
  const slowest = c.slaves.filter((n) => n.lag).sort((a, b) => b.lag.changes - a.lag.changes || b.lag.seconds - a.lag.seconds)[0];
  const disks = c.data.filter((n) => n.health?.disk?.total_bytes).map((n) => ({ n, d: n.health.disk })).sort((a, b) => a.d.free_bytes / a.d.total_bytes - b.d.free_bytes / b.d.total_bytes);
  const tile = (label, value, more, state) => h("div", { class: "tile " + (state ?? "") }, h("span", { class: "label" }, label), h("span", { class: "value" }, value), h("span", { class: "more" }, more));
  return h("section", { class: "tiles", "aria-label": "In short" },
    tile("Nodes", `${up} of ${c.nodes.length}`, up === c.nodes.length ? "all answer" : list(c.nodes.filter((n) => !n.answers).map((n) => n.name)) + " silent", up < c.nodes.length ? "bad" : ""),
    c.buckets.length > 0 && tile("vBuckets led", `${led} of ${c.buckets.length}`, led === c.buckets.length ? "all have a leader" : "the rest take no writes", led < c.buckets.length ? "bad" : ""),
    c.buckets.length > 0 && writes(tile, c),
    c.slaves.length > 0 && tile("Slowest slave", slowest ? lagText(slowest.lag) : "–", slowest?.name ?? "no slave answers", slowest ? "" : "warn"),
    disks.length > 0 && tile("Least disk free", bytes(disks[0].d.free_bytes), `${percent(disks[0].d.free_bytes, disks[0].d.total_bytes)} on ${disks[0].n.name}`,
      disks[0].d.free_bytes <= disks[0].d.reserve_bytes ? "bad" : ""));
}

// writes is the tile about whether writes are accepted.
function writes(tile, c) {
  if (c.paused) return tile("Writes", "paused", "by an operator", "warn");
  const n = c.rejecting.length;
  if (!n) return tile("Writes", "accepted", "by the leaders", "");
  return tile("Writes", "rejected", n < c.buckets.length ? `by ${n} of ${plural(c.buckets.length, "vBucket")}` : "by the leaders", "bad");
}

function zones(app) {
  const c = app.cluster;
  const byZone = new Map();
  for (const n of [...c.nodes].sort((a, b) => (a.name < b.name ? -1 : 1))) byZone.set(n.zone || "", [...(byZone.get(n.zone || "") ?? []), n]);
  return h("section", { "aria-labelledby": "nodes-title" }, h("h2", { id: "nodes-title" }, "Nodes"),
    h("div", { class: "zones" }, [...byZone.keys()].sort().map((zone) =>
      h("section", { class: "zone", key: zone }, byZone.size > 1 || zone ? h("h3", {}, zone ? [h("span", {}, "Zone"), " ", zone] : "No zone") : null,
        h("div", { class: "nodes" }, byZone.get(zone).map((n) => card(app, n)))))));
}

function card(app, n) {
  const disk = n.health?.disk;
  const led = n.leads.length;
  const fact = (label, value, wide) => h("div", { class: wide ?? null }, h("dt", {}, label), h("dd", {}, value));
  return h("article", { class: "node " + n.state, key: n.http_address || n.name, "data-node": n.name },
    h("div", { class: "node-head" },
      h("span", { class: "state " + n.state, title: n.status }, icon(n.state)),
      h("div", { class: "node-name" }, h("strong", {}, n.name), h("span", { class: "status" }, n.status)),
      h("span", { class: "role" }, n.role), n.self && h("span", { class: "role self", title: "This page is served by it" }, "here"),
      acts(app, n)),
    led > 0 && h("p", { class: "leads" }, icon("leader"), led === app.cluster.buckets.length ? (led === 1 ? "leads the vBucket" : `leads all ${led} vBuckets`) : `leads ${led} of ${app.cluster.buckets.length} vBuckets`),
    n.role === "discovery" && [...n.vBuckets.values()].some((v) => v.is_leader) && h("p", { class: "leads" }, icon("leader"), "leads the registry"),
    n.other && h("p", { class: "leads muted" }, "database " + n.other),
    h("dl", {},
      fact("Version", n.version || "–"), fact("Up for", n.uptime === undefined ? "–" : duration(n.uptime)),
      fact("Lag", n.role === "discovery" ? "–" : lagText(n.lag)), fact("gRPC", n.address || "–", "full")),
    disk?.total_bytes > 0 && diskBar(disk),
    ofNode(n),
    n.error && h("p", { class: "error" }, n.error));
}

function diskBar(d) {
  const used = d.total_bytes - d.free_bytes;
  const state = d.free_bytes <= d.reserve_bytes ? "bad" : used > 0.85 * d.total_bytes ? "warn" : "";
  return h("div", { class: "disk" },
    h("div", { class: "meter " + state, role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round((100 * used) / d.total_bytes), "aria-label": "disk used" },
      h("i", { style: { width: (100 * used) / d.total_bytes + "%" } })),
    h("span", {}, `${bytes(d.free_bytes)} free of ${bytes(d.total_bytes)}`));
}

function acts(app, n) {
  const key = n.http_address || n.name;
  const items = [];
  const c = app.cluster;
  const item = (text, run, danger) => h("button", { role: "menuitem", class: danger ? "danger-text" : "", onClick: () => { menu = null; app.draw(); run(); } }, text);
  if (!n.self && n.http_address) items.push(h("a", { href: location.protocol + "//" + n.http_address + "/", target: "_blank", rel: "noreferrer", role: "menuitem" }, icon("link"), "Open its console"));
  if (n.role === "master" && n.answers && n.node_url && n.voting) items.push(item("Make it lead", () => transfer(c, n)));
  if (n.role === "master" && n.answers && n.leads.length) items.push(item("Drain: move its leaderships away", () => drain(c, n)));
  if (n.role === "slave" && n.answers) items.push(item("Promote to master", () => promote(c, n)));
  if (n.role === "master" && n.node_url) items.push(item("Remove from the cluster", () => remove(c, n), true));
  if (!items.length) return null;
  const toggle = () => { menu = menu === key ? null : key; app.draw(); };
  return h("div", { class: "acts" },
    h("button", { class: "quiet", "aria-haspopup": "menu", "aria-expanded": String(menu === key), "aria-label": "What can be done with " + n.name, onClick: toggle }, icon("more")),
    menu === key && h("div", { class: "menu", role: "menu" }, items));
}

// member is a master that takes the calls about the membership: this one, if it is one.
function member(c, except) {
  const able = c.masters.filter((n) => n.answers && n !== except);
  return able.find((n) => n.self) ?? able[0];
}

function need(node) {
  if (!node) throw new Error("no master answers: there is no node that could do it");
  return node;
}

function add(c) {
  return ask({
    title: "Add a node to the cluster",
    text: ["The node must be running with an empty folder and wait to join. It gets a copy of every vBucket, and a vote when it has caught up. A repeated call goes on where the first one ended."],
    risk: "copying takes network and disk of the leaders. With an even number of voting members the cluster survives no more failures than with one less.",
    fields: [
      { name: "url", label: "Its Raft address (nexus-node-url)", placeholder: "http://HOST:PORT", required: true },
      { name: "quiet", type: "checkbox", label: "Without a vote", hint: " it serves sequential reads, and writes do not wait for it" },
    ],
    action: "Add the node",
    task: "join",
    run: async (v, step) => {
      step(`asking ${need(member(c)).name} to invite ${v.url}`);
      await post(of(member(c), "/admin/cluster/add"), { node_url: v.url.trim(), non_voting: v.quiet });
      return "The node is a member of the cluster.";
    },
  });
}

function remove(c, n) {
  const voters = c.masters.filter((m) => m.voting).length;
  const left = n.voting ? voters - 1 : voters;
  const survived = (count) => Math.max(0, Math.ceil(count / 2) - 1);
  return ask({
    title: `Remove ${n.name}`,
    text: [`${n.name} leaves the cluster for good, and its leaderships move to others first. ${plural(left, "voting member stays", "voting members stay")}. Its machine may be added again as a new node.`],
    risk: (n.answers ? "" : "it does not answer now: if it comes back, it finds itself removed. ") + (survived(left) < survived(voters)
      ? `the cluster then survives ${plural(survived(left), "failure", "failures")} instead of ${survived(voters)}.`
      : `the cluster survives ${plural(survived(left), "failure", "failures")}, as before.`),
    fields: [{ name: "force", type: "checkbox", label: "Even if those that stay and are up are no majority" }],
    action: `Remove ${n.name}`,
    task: "removal",
    danger: true,
    run: async (v, step) => {
      const by = need(member(c, n) ?? member(c));
      step(`asking ${by.name} to remove ${n.node_url}`);
      await post(of(by, "/admin/cluster/remove"), { node_url: n.node_url, force: v.force });
      return `${n.name} is no member any more.`;
    },
  });
}

function transfer(c, n) {
  return ask({
    title: `Make ${n.name} lead`,
    text: [`${n.name} becomes the leader of all ${c.buckets.length} vBuckets. The cluster may spread them again later.`],
    risk: "requests wait for some milliseconds while a vBucket changes its leader.",
    action: "Transfer",
    task: "leaders",
    run: async (_, step) => {
      step(`asking ${need(member(c)).name} to transfer the leaderships`);
      await post(of(member(c), "/admin/cluster/transfer-leadership"), { target: n.node_url });
      return `${n.name} leads.`;
    },
  });
}

function drain(c, n) {
  return ask({
    title: `Drain ${n.name}`,
    text: [`The ${plural(n.leads.length, "vBucket", "vBuckets")} that ${n.name} leads get another leader, as before a restart. It stays a member, and keeps its copies.`],
    risk: "requests wait for some milliseconds while a vBucket changes its leader. It may be given leaderships again as long as it runs.",
    action: `Drain ${n.name}`,
    task: "leaders",
    run: async (_, step) => {
      step(`asking ${n.name} to step down`);
      await post(of(n, "/admin/raft/step-down"));
      return `${n.name} has given its leaderships to others.`;
    },
  });
}

function promote(c, n) {
  return ask({
    title: `Promote ${n.name}`,
    text: [`${n.name} becomes the master of the database, at the same address. The masters of now are stopped first, and what they have acknowledged is copied.`,
      "Use it to move the database, or if the masters are gone."],
    risk: `it lags by ${lagText(n.lag)}. With force, what the masters have acknowledged and this slave does not have is lost.`,
    fields: [{ name: "force", type: "checkbox", label: "Force", hint: " although the masters cannot be stopped, or changes are missing" }],
    action: `Promote ${n.name}`,
    danger: true,
    run: async (v, step) => {
      step(`asking ${n.name} to take over`);
      const answer = await post(of(n, "/admin/promote"), { force: v.force });
      for (const s of answer.steps ?? []) step(`${s.step}: ${s.text}`);
      return `${n.name} is the master now.`;
    },
  });
}

function pause(c) {
  const on = !c.paused;
  return ask({
    title: on ? "Pause writes" : "Resume writes",
    text: on
      ? ["All vBuckets reject puts, deletes and every other change, with an error that says so, until writes are resumed, through restarts too. Reads go on."]
      : ["All vBuckets accept changes again."],
    risk: on ? "clients that write get errors from now on." : null,
    action: on ? "Pause writes" : "Resume writes",
    danger: on,
    run: async (_, step) => {
      step(`asking ${need(member(c)).name}`);
      await post(of(member(c), on ? "/admin/pause-writes" : "/admin/resume-writes"));
      return on ? "Writes are paused." : "Writes are accepted.";
    },
  });
}

const marks = { ok: () => "healthy", warn: (n) => (n === 1 ? "needs attention" : "need attention"), bad: () => "out of service" };

// drawn is how many vBuckets are drawn, the worst first, unless all are asked for.
const drawn = 256;

function map(app) {
  const c = app.cluster;
  const letters = letterOf(c);
  const counts = { ok: 0, warn: 0, bad: 0 };
  for (const b of c.buckets) counts[b.state]++;
  const shown = c.buckets.find((b) => b.name === chosen);
  const dense = c.buckets.length > 128;
  const cells = dense ? c.buckets.toSorted((a, b) => ranks[b.state] - ranks[a.state]) : c.buckets;
  const left = whole ? 0 : Math.max(0, cells.length - drawn);
  const details = shown && detail(shown);
  return h("section", { "aria-labelledby": "map-title", class: "map" },
    h("div", { class: "section-head" }, h("h2", { id: "map-title" }, "vBuckets"),
      h("ul", { class: "legend" }, Object.keys(marks).map((s) => h("li", {}, h("i", { class: "swatch " + s }, icon(s)), `${counts[s]} ${marks[s](counts[s])}`)))),
    dense && details,
    h("div", { key: "grid", class: "grid" + (dense ? " dense" : "") }, cells.slice(0, cells.length - left).map((b) =>
      h("button", { key: b.name, class: "cell " + b.state, "aria-pressed": String(b === shown), "aria-label": `vBucket ${b.name}: ${b.text}; ${b.leader ? "led by " + b.leader.name : "no leader"}`,
        title: `vBucket ${b.name}: ${b.text}`, onClick: () => { chosen = chosen === b.name ? null : b.name; app.draw(); } },
        h("b", {}, b.name), h("span", {}, b.state === "ok" ? letters.get(b.leader) ?? "" : b.state === "warn" ? "! " + (letters.get(b.leader) ?? "") : "✕")))),
    cells.length > drawn && h("p", {}, h("button", { id: "map-more", onClick: () => { whole = !whole; app.draw(); } }, left ? `Show all ${cells.length}: ${left} more, in no worse state` : "Show fewer")),
    h("p", { class: "muted keyline" }, [...letters].filter(([n]) => n.leads.length).map(([n, l]) => h("span", { key: n.name }, h("b", {}, l), " led by " + n.name))),
    !dense && details);
}

// letterOf names each master by a letter, for the map.
function letterOf(c) {
  return new Map([...c.masters].sort((a, b) => (a.name < b.name ? -1 : 1)).map((n, i) => [n, String.fromCharCode(65 + (i % 26))]));
}

function detail(b) {
  const cells = (v) => [v.term, v.commit_index, v.applied_index, v.lag_changes].map((x) => h("td", { class: "num" }, x ?? "–"));
  return h("div", { class: "detail", key: "detail", id: "vbucket-detail" }, h("h3", {}, "vBucket " + b.name), h("p", { class: "state-line " + b.state }, icon(b.state), sentenceOf(b)),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Node", "Part", "State", "Term", "Committed", "Applied", "Lag"].map((t, i) => h("th", { class: i > 2 ? "num" : "" }, t)))),
      h("tbody", {},
        b.copies.map((v) => h("tr", { key: v.node.name }, h("td", {}, v.node.name), h("td", {}, v.is_leader ? [icon("leader"), " leader"] : v.node.voting ? "follower" : "non-voting"), h("td", {}, v.state), cells(v))),
        b.slaves.map((v) => h("tr", { key: v.node.name }, h("td", {}, v.node.name), h("td", {}, "slave"), h("td", {}, v.state), cells(v))),
        b.missing.filter((n) => !b.copies.some((v) => v.node === n)).map((n) => h("tr", { key: n.name, class: "gone" }, h("td", {}, n.name), h("td", {}, "member"), h("td", { colspan: 5 }, n.status)))))));
}

function sentenceOf(b) {
  return b.text[0].toUpperCase() + b.text.slice(1) + (b.leader ? `. ${b.leader.name} leads in term ${b.term}.` : ".");
}
