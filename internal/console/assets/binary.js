// Keys and values are bytes. This is how a person reads and writes them.

// A byte order mark is part of the bytes.
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

export function toBase64(bytes) {
  let out = "";
  for (let i = 0; i < bytes.length; i += 8192) out += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(out);
}

// parse reads what a person has written.
export function parse(text, encoding) {
  if (encoding !== "hex") return new TextEncoder().encode(text);
  const digits = text.replace(/\s+/g, "");
  if (digits.length % 2 || /[^0-9a-fA-F]/.test(digits)) throw new Error("hex is pairs of the digits 0-9 and a-f");
  return Uint8Array.from(digits.match(/../g) ?? [], (d) => parseInt(d, 16));
}

export function same(a, b) {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

// printable is bytes on one line: what cannot be shown, or would change how the rest is read,
// is escaped.
export function printable(bytes, most) {
  let out = "";
  for (const c of decode(bytes)) out += typeof c === "number" ? "\\x" + c.toString(16).padStart(2, "0") : visible(c);
  return out.length > most ? out.slice(0, most) + "…" : out || "(empty)";
}

// decode splits bytes into characters, and numbers where they are no UTF-8.
function* decode(bytes) {
  for (let i = 0; i < bytes.length; ) {
    const n = bytes[i] < 0x80 ? 1 : bytes[i] >= 0xf0 ? 4 : bytes[i] >= 0xe0 ? 3 : bytes[i] >= 0xc2 ? 2 : 0;
    try {
      if (!n) throw new Error();
      yield strict.decode(bytes.subarray(i, i + n));
      i += n;
    } catch {
      yield bytes[i++];
    }
  }
}

// Controls, and characters that turn the direction of what follows or have no width.
const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/;

// controls are those of hidden that do not break lines as text does.
const controls = new RegExp(hidden.source.replace("\\u0000-\\u001f", "\\u0000-\\u0008\\u000b-\\u001f"), "g");

function visible(c) {
  if (c === "\\") return "\\\\";
  return hidden.test(c) ? "\\u" + c.codePointAt(0).toString(16).padStart(4, "0") : c;
}

export function isText(bytes) {
  try {
    const text = strict.decode(bytes);
    return !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text);
  } catch {
    return false;
  }
}

export function isJSON(bytes) {
  if (!bytes.length || bytes.length > 1 << 20) return false;
  try {
    JSON.parse(strict.decode(bytes));
    return true;
  } catch {
    return false;
  }
}

export function kindOf(bytes) {
  if (!isText(bytes)) return "hex";
  return isJSON(bytes) && "{[".includes(String.fromCharCode(bytes[0])) ? "json" : "text";
}

const most = 64 << 10;

// shown is a value as text, indented JSON, or a dump.
export function shown(bytes, kind) {
  const rest = bytes.length > most ? `\n… ${bytes.length - most} bytes more` : "";
  if (kind === "json") return indented(strict.decode(bytes)).replace(controls, visible);
  if (kind === "hex") return dump(bytes.subarray(0, most / 4)) + (bytes.length > most / 4 ? `\n… ${bytes.length - most / 4} bytes more` : "");
  return lenient.decode(bytes.subarray(0, most)).replace(controls, visible) + rest;
}

// indented is JSON with each of its own tokens: parsing would round long numbers, and drop all
// but one of the members with the same name.
function indented(text) {
  let out = "";
  let depth = 0;
  let last = "";
  const line = () => "\n" + "  ".repeat(depth);
  for (const [token] of text.matchAll(/"(?:[^"\\]+|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const opened = last === "{" || last === "[";
    if (token === "}" || token === "]") {
      depth--;
      if (!opened) out += line();
    } else if (opened || last === ",") out += line();
    out += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth++;
    last = token;
  }
  return out;
}

// editable is bytes as they are put into a field of a form, with their encoding, so that the
// field unchanged means the same bytes: a field drops carriage returns, and what cannot be seen
// cannot be edited. It is null for bytes that are too many for a field.
export function editable(bytes) {
  if (bytes.length > most) return null;
  const text = isText(bytes) ? strict.decode(bytes) : null;
  if (text !== null && !text.includes("\r") && text.search(controls) < 0) return { encoding: "text", value: text };
  return { encoding: "hex", value: hex(bytes, most) };
}

function dump(bytes) {
  const lines = [];
  for (let i = 0; i < bytes.length; i += 16) {
    const part = bytes.subarray(i, i + 16);
    lines.push(i.toString(16).padStart(6, "0") + "  " + hex(part, 16).padEnd(47) + "  " + [...part].map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : "·")).join(""));
  }
  return lines.join("\n") || "(empty)";
}

export function hex(bytes, limit) {
  return [...bytes.subarray(0, limit)].map((b) => b.toString(16).padStart(2, "0")).join(" ") + (bytes.length > limit ? " …" : "");
}
