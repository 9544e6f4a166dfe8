// Storage: what the engines hold, compactions, caches, for how long the disks last, backups.

import { h, icon } from "../dom.js";
import { of, post } from "../api.js";
import { ask } from "../dialog.js";
import { bytes, count, duration, percent, seconds } from "../format.js";
import { family, meters, total } from "../meters.js";

export const id = "storage";
export const title = "Storage";

export function render(app) {
  const nodes = app.cluster.nodes.filter((n) => n.health);
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Storage"), h("div", { class: "page-acts" },
      app.cluster.data.some((n) => n.answers) && h("button", { onClick: () => backup(app.cluster), id: "backup" }, icon("storage"), "Back up now"))),
    h("div", { class: "nodes wide" }, nodes.map((n) => card(n))),
    perBucket(app.cluster),
  ];
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
    h("dl", {},
      fact("Data on disk", bytes(total(n.name, "dkv_storage_disk_bytes"))), fact("Keys, about", count(total(n.name, "dkv_storage_keys_estimate"))),
      fact("Memtables", bytes(total(n.name, "dkv_storage_memtable_bytes"))), fact("Block cache", bytes(total(n.name, "dkv_storage_cache_bytes"))),
      fact("SST files", count(total(n.name, "dkv_storage_sst_files"))), fact("To be compacted", bytes(total(n.name, "dkv_storage_pending_compaction_bytes"))),
      fact("Compactions", runs ? `${count(runs)}, ${seconds(ms.reduce((s, m) => s + Number(m.sum ?? 0), 0))} in all` : "none yet"), fact("Changelog", bytes(total(n.name, "dkv_changelog_bytes")))));
}

// forecast says when writes will be refused if the disk fills as it did in the last minutes.
function forecast(name, d) {
  const points = meters.disk.get(name) ?? [];
  const [first, last] = [points[0], points[points.length - 1]];
  if (!first || last[0] - first[0] < 60e3) return `Writes are refused below ${bytes(d.reserve_bytes)}; a forecast needs some minutes.`;
  const perSecond = (first[1] - last[1]) / ((last[0] - first[0]) / 1000);
  if (perSecond < 1024) return `It is not filling. Writes are refused below ${bytes(d.reserve_bytes)}.`;
  const left = (last[1] - d.reserve_bytes) / perSecond;
  return left <= 0 ? "Writes are refused now." : `At ${bytes(perSecond)}/s writes are refused in ${duration(left)}.`;
}

function perBucket(c) {
  const nodes = c.data.filter((n) => n.health && family(n.name, "dkv_storage_disk_bytes").length);
  if (!nodes.length || !c.buckets.length || c.buckets.length > 256) return null;
  const by = new Map(nodes.map((n) => [n, new Map(family(n.name, "dkv_storage_disk_bytes").map((m) => [m.labels.vbucket, Number(m.value)]))]));
  return h("section", { class: "panel" }, h("h2", {}, "On disk by vBucket"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "vBucket"), nodes.map((n) => h("th", { class: "num", key: n.name }, n.name)))),
    h("tbody", {}, c.buckets.map((b) => h("tr", { key: b.name }, h("td", {}, b.name), nodes.map((n) => h("td", { class: "num" }, bytes(by.get(n).get(b.name))))))))));
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
    run: async (v, step) => {
      const n = nodes.find((x) => x.http_address === v.node) ?? nodes[0];
      step(`${n.name} writes ${v.path}`);
      await post(of(n, "/admin/backup"), { path: v.path });
      return `${n.name} has the backup ${v.path}. dkvctl -restore ${v.path} replaces the database with it.`;
    },
  });
}
