// What the nodes' answers mean together: who leads what, what is wrong now.

import { duration, list, plural } from "./format.js";

// ranks orders states, the worst last.
export const ranks = { ok: 0, warn: 1, bad: 2 };

export function worst(states) {
  return states.reduce((a, b) => (ranks[b] > ranks[a] ? b : a), "ok");
}

// understand returns the cluster as the page shows it, from the document of /admin/nodes.
export function understand(doc) {
  const named = Map.groupBy(doc.nodes, (n) => n.name);
  const nodes = doc.nodes.map((n) => describe({ ...n, name: named.get(n.name).length > 1 ? `${n.name} (${n.address})` : n.name }, doc.database));
  const data = nodes.filter((n) => n.role !== "discovery");
  const masters = data.filter((n) => n.role !== "slave");
  const byAddress = new Map(nodes.filter((n) => n.address).map((n) => [n.address, n]));
  const buckets = vBuckets(masters.length ? masters : data, data, byAddress);
  for (const b of buckets) if (b.leader) b.leader.leads.push(b.name);
  const out = { doc, nodes, data, masters, slaves: data.filter((n) => n.role === "slave"), buckets, self: nodes.find((n) => n.self) };
  out.paused = buckets.some((b) => b.paused);
  out.rejecting = buckets.filter((b) => b.rejects);
  out.problems = problems(out);
  return out;
}

function describe(n, database) {
  const h = n.health;
  const role = { none: "standalone" }[n.role] ?? n.role;
  const out = { ...n, role, leads: [], vBuckets: new Map() };
  out.other = database && n.database && n.database !== database ? n.database : "";
  if (!n.answers) {
    out.state = "bad";
    out.status = "not answering";
  } else if (!h) {
    out.state = "unknown";
    out.status = "answers, access refused";
  } else {
    out.state = { healthy: "ok", degraded: "warn" }[h.status] ?? "bad";
    out.status = h.status;
    for (const v of h.vbuckets ?? []) out.vBuckets.set(v.vbucket, v);
  }
  out.version = h?.version ?? "";
  out.uptime = h?.uptime_seconds;
  out.lag = lagOf(out);
  return out;
}

// lagOf is the largest lag of a node's vBuckets.
function lagOf(n) {
  const all = [...n.vBuckets.values()];
  if (!all.length) return undefined;
  return { changes: Math.max(...all.map((v) => v.lag_changes)), seconds: Math.max(...all.map((v) => v.lag_seconds)) };
}

// inOrder sorts names of vBuckets by number if they are numbers.
export function inOrder(a, b) {
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? (a < b ? -1 : a > b ? 1 : 0) : x - y;
}

function vBuckets(masters, data, byAddress) {
  const names = new Set(masters.flatMap((n) => [...n.vBuckets.keys()]));
  return [...names].sort(inOrder).map((name) => {
    const copies = masters.filter((n) => n.vBuckets.has(name)).map((n) => ({ node: n, ...n.vBuckets.get(name) }));
    const slaves = data.filter((n) => n.role === "slave" && n.vBuckets.has(name)).map((n) => ({ node: n, ...n.vBuckets.get(name) }));
    const own = copies.filter((c) => c.is_leader).sort((a, b) => b.term - a.term)[0];
    const said = own ? null : copies.map((c) => byAddress.get(c.leader)).find((n) => n?.answers);
    const out = { name, copies, slaves, leader: own?.node ?? said ?? null, term: Math.max(0, ...copies.map((c) => c.term)) };
    out.missing = masters.filter((n) => n.voting && !copies.some((c) => c.node === n && c.state === "serving"));
    out.paused = copies.some((c) => c.writes_paused);
    out.rejects = !out.paused && own ? own.writes_rejected ?? "" : "";
    judge(out, masters.filter((n) => n.voting).length);
    return out;
  });
}

function judge(b, voters) {
  const alive = voters - b.missing.length;
  if (!b.leader) {
    b.state = "bad";
    b.text = "no leader: no writes, no linearizable reads";
  } else if (b.missing.length && alive <= Math.floor(voters / 2)) {
    b.state = "bad";
    b.text = `${alive} of ${voters} copies: no majority`;
  } else if (b.missing.length) {
    b.state = "warn";
    b.text = `${alive} of ${voters} copies are there`;
  } else if (b.paused) {
    b.state = "warn";
    b.text = "writes are paused";
  } else if (b.copies.some((c) => c.reasons?.length)) {
    b.state = "warn";
    b.text = b.copies.flatMap((c) => c.reasons ?? [])[0];
  } else {
    b.state = "ok";
    b.text = "all copies are there";
  }
}

// problems says in words what is wrong now, the worst first.
function problems(c) {
  const out = [];
  const leaderless = c.buckets.filter((b) => !b.leader);
  if (leaderless.length) {
    const which = leaderless.length === c.buckets.length ? "No vBucket has a leader" : plural(leaderless.length, "vBucket has", "vBuckets have") + " no leader";
    out.push({ state: "bad", text: which + ": the keys can be neither written nor read at the linearizable level. " + names(leaderless) });
  }
  for (const n of c.nodes.filter((n) => !n.answers)) {
    out.push({ state: "bad", node: n, text: `${n.name} does not answer. ${sentence(n.error)} Start it, or remove it if it is gone for good.` });
  }
  for (const n of c.nodes.filter((n) => n.answers && !n.health)) out.push({ state: "unknown", node: n, text: `${n.name} does not show its state: ${n.error}` });
  const thin = c.buckets.filter((b) => b.leader && b.missing.length);
  if (thin.length) {
    const gone = [...new Set(thin.flatMap((b) => b.missing))];
    out.push({ state: "warn", text: `${plural(thin.length, "vBucket is", "vBuckets are")} under-replicated: without ${list(gone.map((n) => n.name))}. One more failure may stop writes.` });
  }
  const reasons = new Map();
  const absent = c.nodes.filter((n) => !n.answers);
  for (const n of c.nodes) {
    for (const r of n.health?.reasons ?? []) {
      if (absent.some((a) => r.includes("does not answer") && (r.includes("(" + a.name + ")") || (a.node_url && r.includes(a.node_url))))) continue;
      reasons.set(r, [...(reasons.get(r) ?? []), n]);
    }
  }
  for (const [r, at] of reasons) {
    out.push({ state: worst(at.map((n) => (n.state === "bad" ? "bad" : "warn"))), node: at.length === 1 ? at[0] : null,
      text: (at.length === c.nodes.length && at.length > 1 ? "All nodes" : list(at.map((n) => n.name))) + ": " + sentence(r) });
  }
  const versions = [...new Set(c.nodes.map((n) => n.version).filter(Boolean))];
  if (versions.length > 1) out.push({ state: "warn", text: `The nodes run ${versions.length} versions: ${versions.join(", ")}.` });
  return out.sort((a, b) => (ranks[b.state] ?? 1) - (ranks[a.state] ?? 1));
}

function names(buckets) {
  const all = buckets.map((b) => b.name);
  return all.length > 12 ? "" : (all.length === 1 ? "vBucket " : "vBuckets ") + list(all) + ".";
}

function sentence(text) {
  text = (text ?? "").trim();
  if (!text) return "";
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

export function lagText(lag) {
  if (!lag) return "–";
  if (lag.seconds >= 86400) return "never up to date yet";
  if (lag.changes === 0 && lag.seconds < 5) return "0";
  return `${plural(lag.changes, "change")}, ${lag.seconds < 1 ? "< 1 s" : duration(lag.seconds)}`;
}
