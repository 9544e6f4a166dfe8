// A small tree of plain objects, and the code that makes the document like it. Text only ever
// becomes text: there is no way to get markup out of a string.

const svgTags = new Set(["svg", "path", "line", "circle", "rect", "g", "polyline", "polygon", "text", "title"]);

// h describes an element: a tag, its attributes and listeners, and what it holds.
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false) };
}

// patch makes the children of an element like the tree. Elements are kept, and with them focus,
// selection and scrolling, as long as their tag and key stay.
export function patch(parent, tree, inSVG = false) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.dkvKey !== undefined) keyed.set(node.dkvKey, node);
  let at = parent.firstChild;
  for (const want of [tree].flat(Infinity)) {
    if (want === null || want === undefined || want === false) continue;
    const found = fitting(at, want, keyed);
    const node = found ?? create(want, inSVG);
    if (node !== at) parent.insertBefore(node, at);
    else at = at.nextSibling;
    if (typeof want === "object") update(node, want, inSVG);
    else if (node.data !== String(want)) node.data = String(want);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function fitting(at, want, keyed) {
  if (typeof want !== "object") return at?.nodeType === Node.TEXT_NODE ? at : null;
  const key = want.props.key;
  const node = key !== undefined ? keyed.get(key) : at;
  if (node?.nodeType !== Node.ELEMENT_NODE || node.localName !== want.tag.toLowerCase() || node.dkvKey !== key) return null;
  return node;
}

function create(want, inSVG) {
  if (typeof want !== "object") return document.createTextNode(String(want));
  const svg = inSVG || want.tag === "svg";
  const node = svg && svgTags.has(want.tag) ? document.createElementNS("http://www.w3.org/2000/svg", want.tag) : document.createElement(want.tag);
  node.dkvKey = want.props.key;
  node.dkvProps = {};
  return node;
}

// update sets what has changed of an element and its children.
function update(node, want, inSVG) {
  const before = node.dkvProps ?? {};
  const now = want.props;
  for (const name of Object.keys(before)) if (!(name in now)) unset(node, name, before[name]);
  for (const [name, value] of Object.entries(now)) set(node, name, value, before[name]);
  node.dkvProps = now;
  if (!now.opaque) patch(node, want.children, inSVG || want.tag === "svg");
}

function set(node, name, value, before) {
  if (name === "key" || name === "opaque") return;
  if (name.startsWith("on")) {
    if (value === before) return;
    const event = name.slice(2).toLowerCase();
    if (before) node.removeEventListener(event, before);
    if (value) node.addEventListener(event, value);
  } else if (name === "style") {
    for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v); // the CSSOM, which the policy allows
  } else if (name === "value" || name === "checked" || name === "disabled" || name === "open" || name === "selected") {
    if (name === "value" && value === before) return; // what a person types is theirs
    node[name] = value;
  } else if (value === false || value === null || value === undefined) {
    node.removeAttribute(name);
  } else if (value !== before) {
    node.setAttribute(name, value === true ? "" : String(value));
  }
}

function unset(node, name, before) {
  if (name.startsWith("on")) node.removeEventListener(name.slice(2).toLowerCase(), before);
  else if (name !== "key" && name !== "opaque") node.removeAttribute(name);
}

// icons are strokes on a square of 24.
const shapes = {
  ok: ["M20 6 9 17l-5-5"],
  warn: ["M12 9v4", "M12 17h.01", "M10.3 3.9 1.8 18a2 2 0 0 0 1.7 3h17a2 2 0 0 0 1.7-3L13.7 3.9a2 2 0 0 0-3.4 0z"],
  bad: ["M18 6 6 18", "m6 6 12 12"],
  unknown: ["M9.1 9a3 3 0 0 1 5.8 1c0 2-3 3-3 3", "M12 17h.01"],
  cluster: ["M12 3v6", "M5 15v-3h14v3", "M12 9v3", "M3 15h4v4H3z", "M10 15h4v4h-4z", "M17 15h4v4h-4z", "M10 3h4v4h-4z"],
  keys: ["M15.5 7.5 19 4", "m12 11 3.5-3.5 3 3", "M8 20a5 5 0 1 0 0-10 5 5 0 0 0 0 10z"],
  replication: ["M17 2l4 4-4 4", "M3 11V9a3 3 0 0 1 3-3h15", "M7 22l-4-4 4-4", "M21 13v2a3 3 0 0 1-3 3H3"],
  traffic: ["M3 3v18h18", "m7 14 4-5 4 3 5-7"],
  storage: ["M12 8c4.4 0 8-1.3 8-3s-3.6-3-8-3-8 1.3-8 3 3.6 3 8 3z", "M4 5v14c0 1.7 3.6 3 8 3s8-1.3 8-3V5", "M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3"],
  log: ["M4 6h16", "M4 12h16", "M4 18h10"],
  sun: ["M12 17a5 5 0 1 0 0-10 5 5 0 0 0 0 10z", "M12 1v2M12 21v2M4.2 4.2l1.4 1.4M18.4 18.4l1.4 1.4M1 12h2M21 12h2M4.2 19.8l1.4-1.4M18.4 5.6l1.4-1.4"],
  moon: ["M21 12.8A9 9 0 1 1 11.2 3 7 7 0 0 0 21 12.8z"],
  auto: ["M12 3a9 9 0 1 0 0 18z", "M12 3a9 9 0 0 1 0 18"],
  user: ["M20 21v-2a4 4 0 0 0-4-4H8a4 4 0 0 0-4 4v2", "M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8z"],
  more: ["M12 12h.01", "M12 5h.01", "M12 19h.01"],
  plus: ["M12 5v14", "M5 12h14"],
  leader: ["M12 2.5l2.9 6 6.6.9-4.8 4.6 1.2 6.5-5.9-3.2-5.9 3.2 1.2-6.5L2.5 9.4l6.6-.9z"],
  pause: ["M7 4v16", "M17 4v16"],
  link: ["M15 3h6v6", "M10 14 21 3", "M18 13v8H3V6h8"],
};

export function icon(name, label) {
  return h("svg", { class: "icon icon-" + name, viewBox: "0 0 24 24", "aria-hidden": label ? null : "true", role: label ? "img" : null, "aria-label": label ?? null },
    (shapes[name] ?? []).map((d) => h("path", { d })));
}
