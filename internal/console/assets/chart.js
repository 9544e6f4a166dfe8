// A chart of lines over time.

import { h } from "./dom.js";

const width = 600, height = 150;

// chart draws lines: {name, class, points: [number or undefined, ...]}. show writes a value.
export function chart({ title, lines, show, from, to }) {
  const most = nice(Math.max(0, ...lines.flatMap((l) => l.points.filter((p) => p !== undefined))));
  const last = lines.map((l) => `${l.name} ${show(l.points.findLast((p) => p !== undefined))}`).join(", ");
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("b", {}, title), h("span", { class: "keys" }, lines.map((l) => h("span", { class: "key " + l.class, key: l.name }, h("i", {}), l.name, " ", h("b", {}, show(l.points.findLast((p) => p !== undefined))))))),
    h("div", { class: "plot" },
      h("span", { class: "axis upper" }, show(most)), h("span", { class: "axis middle" }, show(most / 2)),
      h("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: now ${last}` },
        [0.5, 0].map((y) => h("line", { class: "rule", x1: 0, x2: width, y1: y * height + 1, y2: y * height + 1 })),
        lines.map((l) => h("path", { class: "line " + l.class, d: path(l.points, most) })))),
    h("div", { class: "ends" }, h("span", {}, from), h("span", {}, to)));
}

function path(points, most) {
  let out = "";
  let pen = "M";
  let missing = 0;
  points.forEach((p, i) => {
    if (p === undefined) {
      if (++missing > 5) pen = "M"; // fewer are between two measurements
      return;
    }
    missing = 0;
    const x = ((i * width) / Math.max(1, points.length - 1)).toFixed(1);
    out += `${pen}${x} ${(height - 2 - (p / (most || 1)) * (height - 8)).toFixed(1)}`;
    pen = "L";
  });
  return out || "M0 0";
}

// nice is the least round number that is not less.
function nice(n) {
  if (n <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 2.5, 5, 10].map((f) => f * unit).find((r) => r >= n);
}
