// The page: navigation, the live state of the cluster, who is logged in, light and dark.

import { h, icon, patch } from "./dom.js";
import { Refused, get, session, stream } from "./api.js";
import { understand } from "./model.js";
import { remember } from "./tasks.js";
import { ask, reportTo } from "./dialog.js";
import { clock } from "./format.js";
import * as cluster from "./views/cluster.js";
import * as traffic from "./views/traffic.js";
import * as replication from "./views/replication.js";
import * as keys from "./views/keys.js";
import * as storage from "./views/storage.js";
import * as log from "./views/log.js";
import * as meters from "./meters.js";

const views = [cluster, traffic, replication, keys, storage, log];
const root = document.getElementById("app");

// app is what views are given: the state, and how to have it drawn again.
const app = {
  cluster: null, // as model.js understands it
  heard: 0, // when that arrived
  live: false,
  denied: null, // why the node does not answer
  view: cluster,
  draw,
  toast,
};

let toasts = [];
let drawing = false;

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    patch(root, page());
    document.title = title();
  });
}

function title() {
  const problems = app.cluster?.problems.filter((p) => p.state === "bad").length ?? 0;
  return (problems ? `(${problems}) ` : "") + app.view.title + " – DKV" + (app.cluster ? " " + app.cluster.doc.database : "");
}

function page() {
  return [
    h("header", { class: "top" },
      h("div", { class: "brand" }, h("img", { src: "/console/icon.svg", alt: "", width: 26, height: 26 }), h("span", {}, "DKV"),
        app.cluster && h("span", { class: "brand-of", title: "the database" }, app.cluster.doc.database)),
      pulse(),
      h("div", { class: "top-acts" }, themeSwitch(),
        h("button", { class: "quiet", onClick: login, title: session.token ? "A token is in use" : "Log in with a token", id: "login" },
          icon("user"), h("span", { class: "wide-only" }, session.token ? "Logged in" : "Log in")))),
    h("nav", { class: "rail", "aria-label": "Views" }, views.map((v) =>
      h("a", { href: "#" + v.id, "aria-current": v === app.view ? "page" : null, key: v.id }, icon(v.id), h("span", {}, v.title),
        v.badge?.(app) && h("span", { class: "badge " + v.badge(app).state }, v.badge(app).text)))),
    h("main", { id: "main", tabindex: "-1", key: app.view.id }, content()),
    h("div", { class: "toasts", role: "status", "aria-live": "polite" }, toasts.map((t) =>
      h("div", { class: "toast " + t.state, key: t.id }, icon(t.state), h("span", {}, t.text),
        h("button", { class: "quiet", "aria-label": "Close", onClick: t.close }, icon("bad"))))),
  ];
}

function content() {
  if (app.denied && !app.cluster) {
    return h("section", { class: "empty" }, h("h1", {}, app.denied.status === 401 ? "Log in to see this node" : "This node shows nothing here"),
      h("p", {}, app.denied.message),
      app.denied.status === 401 && h("button", { class: "primary", onClick: login }, "Log in with a token"));
  }
  if (!app.cluster) return h("section", { class: "empty" }, h("p", { class: "muted" }, "Asking the nodes …"));
  return [app.denied && h("p", { class: "failed", role: "alert", id: "denied" }, icon("bad"), h("span", {}, `What is shown is of ${clock(app.heard)}. ${app.denied.message}`)), app.view.render(app)];
}

// pulse says whether what is shown is of now.
function pulse() {
  const self = app.cluster?.self?.name;
  if (app.live) return h("div", { class: "pulse ok", title: "Updated each second by " + self, id: "pulse" }, h("i", {}), h("span", {}, "live"), h("span", { class: "wide-only muted" }, "by " + self));
  if (app.heard) return h("div", { class: "pulse bad", id: "pulse" }, h("i", {}), h("span", {}, "no connection since " + clock(app.heard)));
  return h("div", { class: "pulse", id: "pulse" }, h("i", {}), h("span", {}, app.denied ? "not connected" : "connecting"));
}

// themes, in the order of the switch.
const themes = ["auto", "light", "dark"];

function theme() {
  return themes.includes(localStorage.getItem("dkv-theme")) ? localStorage.getItem("dkv-theme") : "auto";
}

function useTheme() {
  if (theme() === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme();
}

function nextTheme() {
  localStorage.setItem("dkv-theme", themes[(themes.indexOf(theme()) + 1) % themes.length]);
  useTheme();
  draw();
}

function themeSwitch() {
  const t = theme();
  const label = { auto: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" }[t];
  return h("button", { class: "quiet", onClick: nextTheme, title: label, "aria-label": label, id: "theme" }, icon({ auto: "auto", light: "sun", dark: "moon" }[t]));
}

async function login() {
  await ask({
    title: session.token ? "Another token" : "Log in",
    text: "The token stays in this tab until it is closed, and is sent to this node only, which shows it to the other nodes when it asks them for you.",
    fields: [{ name: "token", label: "Token", type: "password", autocomplete: "off", placeholder: "empty to log out" }],
    action: session.token ? "Use it" : "Log in",
    run: async ({ token }) => {
      const before = session.token;
      session.token = token.trim();
      if (!session.token) return restart();
      try {
        await get("/admin/nodes");
      } catch (error) {
        session.token = before;
        throw error;
      }
      restart();
    },
    quiet: true,
  });
}

let toastId = 0;

function toast(state, text) {
  const t = { id: ++toastId, state, text, close: () => { toasts = toasts.filter((x) => x !== t); draw(); } };
  toasts = [...toasts.slice(-3), t];
  setTimeout(t.close, state === "bad" ? 15000 : 6000);
  draw();
}

// watching is the stream that is read at present.
let watching = null;

function restart() {
  watching?.abort();
  wake();
  if (!session.token) app.cluster = null; // otherwise what is shown stays until the node answers
  app.denied = null;
  app.heard = 0;
  app.live = false;
  draw();
  app.view.enter?.(app);
}

// watch reads the stream for as long as the page is open.
async function watch() {
  for (;;) {
    watching = new AbortController();
    const own = watching;
    let silence;
    try {
      await stream("/admin/nodes/stream", own.signal, (doc) => {
        clearTimeout(silence);
        silence = setTimeout(() => { app.live = false; draw(); own.abort(); }, 5000);
        app.denied = null;
        app.cluster = understand(doc);
        remember(app.cluster.nodes);
        app.heard = Date.now();
        app.live = true;
        app.view.heard?.(app);
        draw();
      });
    } catch (error) {
      app.denied = error instanceof Refused && error.status !== 0 && error.status !== 503 ? error : null;
    }
    clearTimeout(silence);
    app.live = false;
    draw();
    await pause(app.denied ? 15000 : 500); // each refusal is a line in the audit log
  }
}

// wake ends a pause, after a login.
let wake = () => {};

function pause(millis) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, millis);
    wake = () => { clearTimeout(timer); resolve(); };
  });
}

function navigate() {
  const id = location.hash.slice(1).split("/")[0];
  const next = views.find((v) => v.id === id) ?? views[0];
  if (next !== app.view) {
    app.view.leave?.(app);
    app.view = next;
    next.enter?.(app);
    scrollTo(0, 0);
  }
  draw();
}

// Keys: 1 to 6 choose a view, as long as nothing is being typed.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || document.querySelector("dialog[open]")) return;
  const view = views[Number(event.key) - 1];
  if (view) location.hash = view.id;
});
addEventListener("hashchange", navigate);
setInterval(draw, 1000);
useTheme();
navigate();
app.view.enter?.(app);
watch();
meters.start(app);
reportTo(toast);
