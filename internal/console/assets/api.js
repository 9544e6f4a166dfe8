// Asks the node that serves this page, and through it the others. Every answer is JSON.

const tokenKey = "dkv-token";

export const session = {
  get token() {
    return sessionStorage.getItem(tokenKey) ?? "";
  },
  set token(value) {
    if (value) sessionStorage.setItem(tokenKey, value);
    else sessionStorage.removeItem(tokenKey);
  },
};

// Refused is an answer that is an error.
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function headers(more) {
  const out = new Headers(more);
  out.set("Dkv-Console", "1"); // no form of another site can send it
  if (session.token) out.set("Authorization", "Bearer " + session.token);
  return out;
}

async function answer(response) {
  const text = await response.text();
  let document;
  try {
    document = JSON.parse(text);
  } catch {
    document = undefined;
  }
  if (!response.ok) throw new Refused(response.status, document?.error ?? (text || "HTTP status " + response.status));
  return document;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "this node does not answer: it may be down, or restarting");
  }
  return answer(response);
}

// of is the path of a node, through this one if it is another.
export function of(node, path) {
  return !node || node.self ? path : "/admin/nodes/" + encodeURIComponent(node.http_address || node.name) + path;
}

export function get(path, signal) {
  return ask(path, { headers: headers(), signal });
}

// post does something.
export function post(path, body) {
  return ask(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

// stream reads server-sent events by fetch, which can send the token: on each event it calls
// back with its document. It returns when the stream ends, and fails if it cannot begin.
export async function stream(path, signal, onEvent) {
  const response = await fetch(path, { cache: "no-store", headers: headers({ Accept: "text/event-stream" }), signal });
  if (!response.ok) await answer(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const event = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const data = event.split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
      if (data) onEvent(JSON.parse(data));
    }
  }
}
