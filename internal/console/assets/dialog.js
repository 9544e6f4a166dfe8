// The dialog that every act goes through: what it will do, what it risks, then how it goes.

import { h, icon, patch } from "./dom.js";
import { duration } from "./format.js";
import { ofKind } from "./tasks.js";

const dialog = document.getElementById("dialog");

// afterwards reports the end of an act whose dialog was closed while it ran.
let afterwards = () => {};

export function reportTo(report) {
  afterwards = report;
}

// ask shows an act, and does it if the person says so.
//   title, text     what will happen
//   risk            what may go wrong; null if nothing
//   fields          inputs: {name, label, type, value, placeholder, hint, options}
//   action          the name of the button; danger: whether it is red
//   run(values, step) does it; step(text) tells of progress; what it returns is shown at the end
//   task            the kind of task that nodes are busy with meanwhile, which says how far they are
//   quiet           close at once when it is done
// It resolves when the dialog is closed, with whether the act was done.
export function ask(act) {
  return new Promise((resolve) => {
    const state = { phase: "ask", steps: [], error: "", result: "", begun: 0, done: false, closed: false };
    const values = Object.fromEntries((act.fields ?? []).map((f) => [f.name, f.value ?? (f.type === "checkbox" ? false : "")]));
    let ticking;
    // An act that goes on after its dialog was closed must not draw into that of the next one.
    const draw = () => { if (!state.closed) patch(dialog, view(act, state, values, { submit, close })); };
    // The event of closing comes later: the next act may have opened the dialog by then.
    const ended = () => {
      if (dialog.open || state.closed) return;
      state.closed = true;
      clearInterval(ticking);
      dialog.onclose = null;
      patch(dialog, []);
      resolve(state.done);
    };
    const close = () => {
      dialog.close();
      ended();
    };
    const submit = async (event) => {
      event.preventDefault();
      if (state.phase === "run") return;
      Object.assign(state, { phase: "run", steps: [], error: "", begun: Date.now() });
      ticking = setInterval(draw, 1000);
      draw();
      try {
        state.result = (await act.run(values, (text) => { state.steps.push(text); draw(); })) ?? "";
        state.phase = "done";
        state.done = true;
      } catch (error) {
        state.error = error.message;
        state.phase = "ask";
      }
      clearInterval(ticking);
      if (state.closed) afterwards(state.done ? "ok" : "bad", `${act.title}: ${state.done ? state.result || "done." : state.error}`);
      else if (state.done && act.quiet) close();
      else draw();
    };
    dialog.onclose = ended; // by the Escape key
    draw();
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? dialog.querySelector("input,select,textarea") ?? dialog.querySelector("button.cancel"))?.focus();
  });
}

function view(act, state, values, on) {
  return h("form", { method: "dialog", onSubmit: on.submit, "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title" }, act.title),
    state.phase !== "done" && [
      [act.text].flat().map((t) => h("p", {}, t)),
      act.risk && h("p", { class: "risk" }, icon("warn"), h("span", {}, h("b", {}, "What it risks: "), act.risk)),
      (act.fields ?? []).map((f) => field(f, values, state.phase === "run")),
    ],
    progress(act, state),
    state.error && h("p", { class: "failed", role: "alert" }, icon("bad"), h("span", {}, state.error)),
    h("div", { class: "dialog-acts" },
      h("button", { type: "button", class: "cancel", onClick: on.close }, state.phase === "ask" ? "Cancel" : "Close"),
      state.phase !== "done" && h("button", { type: "submit", class: act.danger ? "danger" : "primary", disabled: state.phase === "run" },
        state.phase === "run" ? "Working …" : state.error ? "Try again" : act.action)));
}

function progress(act, state) {
  if (state.phase === "ask" && !state.steps.length) return null;
  const passed = Math.floor((Date.now() - state.begun) / 1000);
  const tasks = act.task && state.phase === "run" ? ofKind(act.task) : [];
  return h("div", { class: "progress", role: "status" },
    state.steps.map((s, i) => h("p", { class: "step" }, icon(i < state.steps.length - 1 || state.phase === "done" ? "ok" : "more"), h("span", {}, s))),
    tasks,
    state.phase === "run" && [!tasks.length && h("div", { class: "bar-moving" }), h("p", { class: "muted" }, passed ? `for ${duration(passed)} now` : "asking the node")],
    state.phase === "done" && h("p", { class: "succeeded" }, icon("ok"), h("span", {}, state.result || "Done.")));
}

function field(f, values, disabled) {
  const change = (event) => { values[f.name] = f.type === "checkbox" ? event.target.checked : event.target.value; };
  const props = { id: "field-" + f.name, name: f.name, disabled, onInput: change, autocomplete: f.autocomplete ?? "off", spellcheck: "false", required: f.required ?? null };
  if (f.type === "checkbox") {
    return h("label", { class: "check" }, h("input", { ...props, type: "checkbox" }), h("span", {}, f.label, f.hint && h("small", {}, f.hint)));
  }
  let input;
  if (f.options) input = h("select", { ...props }, f.options.map((o) => h("option", { value: o.value, selected: o.value === values[f.name] }, o.text)));
  else if (f.type === "textarea") input = h("textarea", { ...props, rows: f.rows ?? 5, value: f.value ?? "" });
  else input = h("input", { ...props, type: f.type ?? "text", placeholder: f.placeholder ?? null, value: f.value ?? "" });
  return h("label", { class: "field" }, h("span", {}, f.label), input, f.hint && h("small", {}, f.hint));
}
