// Replication: how far each slave is, and how long it could be away.

import { h, icon } from "../dom.js";
import { bytes, count, duration, plural, seconds } from "../format.js";
import { family, rateOf, total } from "../meters.js";
import { lagText } from "../model.js";

export const id = "replication";
export const title = "Replication";

export function render(app) {
  const c = app.cluster;
  return [
    h("h1", {}, "Replication"),
    c.slaves.length ? h("div", { class: "nodes wide" }, c.slaves.map((n) => slave(c, n))) : h("p", { class: "muted" }, "No slave is known to this node. Slaves register in the registry (--discovery-service.client.discovery-service-addr)."),
    links(c),
    followers(c),
    changelog(c),
  ];
}

function slave(c, n) {
  const masters = [...new Set([...n.vBuckets.values()].map((v) => v.leader).filter(Boolean))].map((a) => c.nodes.find((m) => m.address === a)?.name ?? a).sort();
  const contact = Math.max(0, ...family(n.name, "dkv_replication_contact_seconds").map((m) => Number(m.value)));
  const fact = (k, v) => h("div", {}, h("dt", {}, k), h("dd", {}, v));
  return h("article", { class: "node " + n.state, key: n.name, "data-slave": n.name },
    h("div", { class: "node-head" }, h("span", { class: "state " + n.state }, icon(n.state)), h("div", { class: "node-name" }, h("strong", {}, n.name), h("span", { class: "status" }, n.status)), n.zone && h("span", { class: "role" }, n.zone)),
    h("dl", {},
      fact("Lag", lagText(n.lag)), fact("Receives", rateOf(n.name, "dkv_replication_bytes_total") === undefined ? "–" : bytes(rateOf(n.name, "dkv_replication_bytes_total")) + "/s"),
      fact("A master was heard", family(n.name, "dkv_replication_contact_seconds").length ? seconds(contact) + " ago" : "–"), fact("Received so far", bytes(total(n.name, "dkv_replication_bytes_total"))),
      fact("Changes of master", count(total(n.name, "dkv_slave_master_switches_total"))), fact(masters.length > 1 ? "Masters" : "Master", masters.join(", ") || "–")),
    n.error && h("p", { class: "error" }, n.error));
}

// links are how far owners of logs know their slaves to be.
function links(c) {
  const rows = c.masters.flatMap((m) => {
    const by = new Map();
    for (const name of ["dkv_slave_link_lag_changes", "dkv_slave_link_age_seconds", "dkv_slave_link_unsynced_changes"]) {
      for (const s of family(m.name, name)) {
        const key = Object.entries(s.labels ?? {}).filter(([k]) => k !== "vbucket" && k !== "database").map(([, v]) => v).join(" ");
        const row = by.get(key) ?? { to: key, from: m.name };
        row[name] = Math.max(row[name] ?? 0, Number(s.value));
        by.set(key, row);
      }
    }
    return [...by.values()];
  });
  if (!rows.length) return null;
  const nameOf = (address) => c.nodes.find((n) => n.address && address.includes(n.address))?.name ?? address;
  return h("section", { class: "panel" }, h("h2", {}, "Links, as the owners of the logs know them"),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "From"), h("th", {}, "To"), ["Lag in changes", "Not on disk yet", "Heard of"].map((t) => h("th", { class: "num" }, t)))),
      h("tbody", {}, rows.map((r) => h("tr", { key: r.from + r.to }, h("td", {}, r.from), h("td", {}, nameOf(r.to)), h("td", { class: "num" }, count(r.dkv_slave_link_lag_changes)),
        h("td", { class: "num" }, count(r.dkv_slave_link_unsynced_changes)), h("td", { class: "num" }, r.dkv_slave_link_age_seconds === undefined ? "–" : seconds(r.dkv_slave_link_age_seconds) + " ago")))))));
}

// followers are the members of the logs.
function followers(c) {
  const rows = c.masters.filter((n) => n.vBuckets.size && c.masters.length > 1);
  if (!rows.length) return null;
  return h("section", { class: "panel" }, h("h2", {}, "Masters"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Node"), h("th", {}, "Zone"), ["Leads", "Entries behind", "State as of"].map((t) => h("th", { class: "num" }, t)))),
    h("tbody", {}, rows.map((n) => h("tr", { key: n.name }, h("td", {}, n.name), h("td", {}, n.zone || "–"), h("td", { class: "num" }, plural(n.leads.length, "vBucket")), h("td", { class: "num" }, count(n.lag?.changes)),
      h("td", { class: "num" }, n.lag && n.lag.seconds > 5 ? duration(n.lag.seconds) + " ago" : "now")))))));
}

// changelog is for how many changes a slave may be away and still catch up.
function changelog(c) {
  const rows = c.masters.map((n) => {
    const first = new Map(family(n.name, "dkv_changelog_first_index").map((m) => [m.labels.vbucket, Number(m.value)]));
    const windows = [...n.vBuckets.values()].filter((v) => first.has(v.vbucket)).map((v) => v.applied_index - first.get(v.vbucket) + 1);
    return { n, windows, size: total(n.name, "dkv_changelog_bytes") };
  }).filter((r) => r.windows.length);
  if (!rows.length) return null;
  return h("section", { class: "panel", id: "changelog" }, h("h2", {}, "Changelog window"),
    h("p", { class: "muted" }, "A slave that was away for no more changes than these catches up with changes; after more it loads a snapshot."),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Node"), ["Least of its vBuckets", "Most", "Size"].map((t) => h("th", { class: "num" }, t)))),
      h("tbody", {}, rows.map((r) => h("tr", { key: r.n.name }, h("td", {}, r.n.name), h("td", { class: "num" }, plural(Math.min(...r.windows), "change")), h("td", { class: "num" }, plural(Math.max(...r.windows), "change")), h("td", { class: "num" }, bytes(r.size))))))));
}
