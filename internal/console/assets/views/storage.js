// Storage: what the engines hold, compactions, caches, for how long the disks last, backups.

import { h, icon } from "../dom.js";
import { get, of, post } from "../api.js";
import { ask } from "../dialog.js";
import { bytes, count, dateTime, duration, percent, plural, seconds } from "../format.js";
import { ofNode } from "../tasks.js";
import { family, meters, total } from "../meters.js";

export const id = "storage";
export const title = "Storage";

const backups = new Map(); // by node name: {list} or {error}
let listing = false;

export async function enter(app) {
  if (listing || !app.cluster) return;
  listing = true;
  await Promise.all(app.cluster.data.filter((n) => n.answers).map(async (n) => {
    try {
      backups.set(n.name, { list: (await get(of(n, "/admin/backups"))).backups });
    } catch (error) {
      backups.set(n.name, { error: error.message });
    }
  }));
  listing = false;
  app.draw();
}

export function render(app) {
  if (!backups.size) enter(app);
  const nodes = app.cluster.nodes.filter((n) => n.health);
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Storage"), h("div", { class: "page-acts" },
      app.cluster.data.some((n) => n.answers) && h("button", { onClick: async () => { if (await backup(app.cluster)) enter(app); }, id: "backup" }, icon("storage"), "Back up now"))),
    h("div", { class: "nodes wide" }, nodes.map((n) => card(n))),
    kept(app),
    perBucket(app.cluster),
  ];
}

// kept are the backups below each node's backup-dir.
function kept(app) {
  const known = app.cluster.data.filter((n) => backups.has(n.name));
  const rows = known.flatMap((n) => (backups.get(n.name).list ?? []).map((b) => ({ n, b })));
  const errors = known.filter((n) => backups.get(n.name).error);
  return h("section", { class: "panel", id: "backups" }, h("h2", {}, "Backups"),
    errors.map((n) => h("p", { class: "muted", key: n.name }, `${n.name}: ${backups.get(n.name).error}`)),
    !rows.length ? !errors.length && h("p", { class: "muted pad" }, "There is none below the nodes' backup-dir.") : h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Folder"), h("th", {}, "On"), h("th", {}, "Made"), ["vBuckets", "Size", ""].map((t) => h("th", { class: "num" }, t)))),
      h("tbody", {}, rows.map(({ n, b }) => h("tr", { key: n.name + " " + b.path },
        h("td", { class: "mono break" }, b.path, b.error && h("p", { class: "bad-text" }, b.error)), h("td", {}, n.name), h("td", {}, b.error ? "–" : dateTime(b.created)),
        h("td", { class: "num" }, count(b.vbuckets)), h("td", { class: "num" }, bytes(b.bytes)),
        h("td", { class: "num" }, n.role !== "slave" && h("button", { class: "danger-text", "data-restore": b.path, onClick: () => restore(n, b) }, "Restore"))))))));
}

function restore(n, b) {
  return ask({
    title: "Restore " + b.path,
    text: [`The whole database becomes what it was at ${dateTime(b.created)}: ${plural(b.vbuckets, "vBucket")}, ${bytes(b.bytes)}. ${n.name} verifies every checksum before anything is replaced, and leads all vBuckets meanwhile.`],
    risk: "everything that was written since then is lost, on all nodes. Slaves load it again. Take a backup of now first.",
    fields: [{ name: "confirm", label: `Type the folder's name to go on`, placeholder: b.path, required: true }],
    action: "Replace the database",
    task: "restore",
    danger: true,
    run: async (v, step) => {
      if (v.confirm.trim() !== b.path) throw new Error(`that is not ${b.path}: nothing was done`);
      step(`${n.name} verifies and restores ${b.path}`);
      await post(of(n, "/admin/restore"), { path: b.path });
      return "The database is as it was then.";
    },
  });
}

function card(n) {
  const d = n.health.disk;
  const ms = family(n.name, "dkv_storage_compaction_duration_seconds");
  const runs = ms.reduce((s, m) => s + (m.count ?? 0), 0);
  const fact = (k, v) => h("div", {}, h("dt", {}, k), h("dd", {}, v));
  return h("article", { class: "node", key: n.name, "data-storage": n.name },
    h("div", { class: "node-head" }, h("div", { class: "node-name" }, h("strong", {}, n.name), h("span", { class: "status" }, n.role))),
    d?.total_bytes > 0 && h("div", { class: "disk" }, h("div", { class: "meter " + (d.free_bytes <= d.reserve_bytes ? "bad" : d.free_bytes < 0.15 * d.total_bytes ? "warn" : "") }, h("i", { style: { width: (100 * (d.total_bytes - d.free_bytes)) / d.total_bytes + "%" } })),
      h("span", {}, `${bytes(d.free_bytes)} (${percent(d.free_bytes, d.total_bytes)}) free of ${bytes(d.total_bytes)}. ${forecast(n.name, d)}`)),
    ofNode(n),
    h("dl", {},
      fact("Data on disk", bytes(total(n.name, "dkv_storage_disk_bytes"))), fact("Keys, about", count(total(n.name, "dkv_storage_keys_estimate"))),
      fact("Memtables", bytes(total(n.name, "dkv_storage_memtable_bytes"))), fact("Caches", bytes(total(n.name, "dkv_storage_cache_bytes") + total(n.name, "dkv_storage_row_cache_bytes"))),
      fact("SST files", count(total(n.name, "dkv_storage_sst_files"))), fact("To be compacted", bytes(total(n.name, "dkv_storage_pending_compaction_bytes"))),
      fact("Compactions", runs ? `${count(runs)}, ${seconds(ms.reduce((s, m) => s + Number(m.sum ?? 0), 0))} in all` : "none yet"), fact("Changelog", bytes(total(n.name, "dkv_changelog_bytes")))));
}

// forecast says when writes will be refused if the disk fills as it did in the last minutes.
function forecast(name, d) {
  if (d.free_bytes <= d.reserve_bytes) return `Writes are refused: that is below disk-reserve, ${bytes(d.reserve_bytes)}.`;
  const points = meters.disk.get(name) ?? [];
  const [first, last] = [points[0], points[points.length - 1]];
  if (!first || last[0] - first[0] < 60e3) return `Writes are refused below ${bytes(d.reserve_bytes)}; a forecast needs some minutes.`;
  const perSecond = (first[1] - last[1]) / ((last[0] - first[0]) / 1000);
  if (perSecond < 1024) return `It is not filling. Writes are refused below ${bytes(d.reserve_bytes)}.`;
  const left = (last[1] - d.reserve_bytes) / perSecond;
  return left <= 0 ? "Writes are refused now." : `At ${bytes(perSecond)}/s writes are refused in ${duration(left)}.`;
}

// largest is how many of many vBuckets are listed.
const largest = 32;

function perBucket(c) {
  const nodes = c.data.filter((n) => n.health && family(n.name, "dkv_storage_disk_bytes").length);
  if (!nodes.length || !c.buckets.length) return null;
  const by = new Map(nodes.map((n) => [n, new Map(family(n.name, "dkv_storage_disk_bytes").map((m) => [m.labels.vbucket, Number(m.value)]))]));
  const most = (b) => Math.max(...nodes.map((n) => by.get(n).get(b.name) ?? 0));
  const many = c.buckets.length > 4 * largest;
  const rows = many ? c.buckets.map((b) => [most(b), b]).sort((x, y) => y[0] - x[0]).slice(0, largest).map(([, b]) => b) : c.buckets;
  return h("section", { class: "panel", id: "by-vbucket" }, h("h2", {}, "On disk by vBucket"),
    many && h("p", { class: "muted" }, `The ${largest} largest of ${c.buckets.length}. /metrics/json?name=dkv_storage_disk_bytes has all.`),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "vBucket"), nodes.map((n) => h("th", { class: "num", key: n.name }, n.name)))),
      h("tbody", {}, rows.map((b) => h("tr", { key: b.name }, h("td", {}, b.name), nodes.map((n) => h("td", { class: "num" }, bytes(by.get(n).get(b.name))))))))));
}

function backup(c) {
  const nodes = c.data.filter((n) => n.answers);
  const name = "backup-" + new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
  return ask({
    title: "Back up now",
    text: ["A consistent copy of every vBucket is written into a new folder below the node's backup-dir, with checksums. Reads and writes go on."],
    risk: "it takes as much disk as the data there, and reads that much.",
    fields: [{ name: "path", label: "Folder below backup-dir", value: name, required: true },
      { name: "node", label: "On node", value: nodes[0]?.http_address, options: nodes.map((n) => ({ value: n.http_address, text: `${n.name} (${n.role})` })) }],
    action: "Back up",
    task: "backup",
    run: async (v, step) => {
      const n = nodes.find((x) => x.http_address === v.node) ?? nodes[0];
      step(`${n.name} writes ${v.path}`);
      await post(of(n, "/admin/backup"), { path: v.path });
      return `${n.name} has the backup ${v.path}.`;
    },
  });
}
