// Reads the nodes' metrics while the page is open, and remembers an hour of the traffic.

import { get, of } from "./api.js";

const names = [
  "dkv_requests_total", "dkv_request_duration_seconds", "dkv_connections", "dkv_requests_in_flight",
  "dkv_replication_lag_seconds", "dkv_replication_lag_changes", "dkv_replication_bytes_total", "dkv_replication_contact_seconds",
  "dkv_slave_master_switches_total", "dkv_slave_link_lag_changes", "dkv_slave_link_age_seconds", "dkv_slave_link_unsynced_changes",
  "dkv_changelog_first_index", "dkv_changelog_bytes", "dkv_applied_index",
  "dkv_storage_memtable_bytes", "dkv_storage_sst_files", "dkv_storage_disk_bytes", "dkv_storage_keys_estimate", "dkv_storage_cache_bytes", "dkv_storage_row_cache_bytes",
  "dkv_storage_pending_compaction_bytes", "dkv_storage_compaction_duration_seconds", "dkv_disk_free_bytes", "dkv_disk_total_bytes", "dkv_disk_reserve_bytes",
];
const path = "/metrics/json?" + names.map((n) => "name=" + n).join("&");

const interval = 2000; // milliseconds
const hour = 3600e3;

export const meters = {
  nodes: new Map(), // by name: the last metrics and those before
  ring: [], // {time, span, ops: Map(op -> {count, errors, buckets}), nodes: Map(name -> count)}
  disk: new Map(), // by node name: [[time, free], ...]
};

// family returns the series of a metric of a node.
export function family(node, name) {
  return meters.nodes.get(node)?.families.get(name) ?? [];
}

// total adds a metric over all its series.
export function total(node, name, field = "value") {
  const all = family(node, name);
  return all.length ? all.reduce((sum, m) => sum + Number(m[field] ?? 0), 0) : undefined;
}

// rateOf is by how much a total grows in a second.
export function rateOf(node, name) {
  const m = meters.nodes.get(node);
  if (!m?.before) return undefined;
  const sum = (families) => (families.get(name) ?? []).reduce((s, x) => s + Number(x.value ?? 0), 0);
  return Math.max(0, (sum(m.families) - sum(m.before)) / m.span);
}

// start reads metrics for as long as the page is open.
export async function start(app) {
  for (;;) {
    if (app.cluster && app.live && !document.hidden) {
      await read(app.cluster);
      app.draw();
    }
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}

async function read(cluster) {
  const time = Date.now();
  const sample = { time, span: 0, ops: new Map(), nodes: new Map() };
  await Promise.all(cluster.nodes.filter((n) => n.health).map(async (n) => {
    try {
      const families = new Map((await get(of(n, path), AbortSignal.timeout(5000))).map((f) => [f.name, f.metrics]));
      take(sample, n.name, families, time);
    } catch {
      meters.nodes.delete(n.name); // it is shown as not answering elsewhere
    }
  }));
  if (sample.span) meters.ring.push(sample);
  while (meters.ring.length && meters.ring[0].time < time - hour) meters.ring.shift();
}

function take(sample, name, families, time) {
  const last = meters.nodes.get(name);
  const span = last ? (time - last.time) / 1000 : 0;
  meters.nodes.set(name, { families, time, before: last?.families, span });
  const free = Number(families.get("dkv_disk_free_bytes")?.[0]?.value);
  if (free) {
    const points = meters.disk.get(name) ?? [];
    if (!points.length || time - points[points.length - 1][0] > 10000) points.push([time, free]);
    meters.disk.set(name, points.slice(-360));
  }
  if (!last || span > 30) return; // the page was asleep
  sample.span = span;
  const before = new Map((last.families.get("dkv_requests_total") ?? []).map((m) => [m.labels.op + "|" + m.labels.code, Number(m.value)]));
  for (const m of families.get("dkv_requests_total") ?? []) {
    const grown = grew(Number(m.value), before.get(m.labels.op + "|" + m.labels.code) ?? 0);
    if (!grown) continue;
    const op = opOf(sample, m.labels.op);
    op.count += grown;
    if (!fine.has(m.labels.code)) op.errors += grown;
    if (clientOps.has(m.labels.op)) sample.nodes.set(name, (sample.nodes.get(name) ?? 0) + grown);
  }
  const durations = new Map((last.families.get("dkv_request_duration_seconds") ?? []).map((m) => [m.labels.op, m.buckets]));
  for (const m of families.get("dkv_request_duration_seconds") ?? []) {
    const op = sample.ops.get(m.labels.op);
    if (!op) continue;
    for (const [le, n] of Object.entries(m.buckets ?? {})) {
      op.buckets.set(le, (op.buckets.get(le) ?? 0) + grew(n, durations.get(m.labels.op)?.[le] ?? 0));
    }
  }
}

// grew is by how much a counter has grown, which begins again when its process does.
function grew(now, before) {
  return now >= before ? now - before : now;
}

function opOf(sample, name) {
  if (!sample.ops.has(name)) sample.ops.set(name, { count: 0, errors: 0, buckets: new Map() });
  return sample.ops.get(name);
}

// fine are the results that are no errors: a stream that its receiver ends is canceled.
const fine = new Set(["OK", "Canceled"]);

// lasting are the streams that stay open, so that how long they took is no latency.
export const lasting = new Set(["WatchChanges", "StreamChanges", "Confirm"]);

// clientOps are what clients ask for; everything else is between nodes, or administration.
export const clientOps = new Set(["Get", "MultiGet", "Iterate", "Put", "MultiPut", "Delete", "CompareAndSet", "Increment", "WatchChanges"]);

// within adds up the samples of the last milliseconds.
export function within(millis) {
  const since = Date.now() - millis;
  const out = { span: 0, ops: new Map(), nodes: new Map() };
  for (const s of meters.ring) {
    if (s.time < since) continue;
    out.span += s.span;
    for (const [name, o] of s.ops) {
      const sum = opOf(out, name);
      sum.count += o.count;
      sum.errors += o.errors;
      for (const [le, n] of o.buckets) sum.buckets.set(le, (sum.buckets.get(le) ?? 0) + n);
    }
    for (const [n, count] of s.nodes) out.nodes.set(n, (out.nodes.get(n) ?? 0) + count);
  }
  return out;
}

// quantile estimates a quantile of a histogram, between the bounds of a bucket.
export function quantile(buckets, q) {
  const bounds = [...buckets].map(([le, n]) => [le === "+Inf" ? Infinity : Number(le), n]).sort((a, b) => a[0] - b[0]);
  const all = bounds.length ? bounds[bounds.length - 1][1] : 0;
  if (!all) return undefined;
  let from = 0;
  let below = 0;
  for (const [le, n] of bounds) {
    if (n >= q * all) return le === Infinity ? from : from + ((le - from) * (q * all - below)) / Math.max(1e-9, n - below);
    from = le;
    below = n;
  }
  return from;
}

// steps are the samples of the last milliseconds in about n steps, for a chart.
export function steps(millis, n) {
  const width = millis / n;
  const first = Math.floor((Date.now() - millis) / width) + 1;
  const out = Array.from({ length: n }, (_, i) => ({ time: (first + i) * width, span: 0, count: 0, errors: 0, buckets: new Map() }));
  for (const s of meters.ring) {
    const step = out[Math.floor(s.time / width) - first];
    if (!step) continue;
    step.span += s.span;
    for (const [name, o] of s.ops) {
      if (!clientOps.has(name)) continue;
      step.count += o.count;
      step.errors += o.errors;
      for (const [le, c] of o.buckets) step.buckets.set(le, (step.buckets.get(le) ?? 0) + c);
    }
  }
  return out;
}
