/* Calls that have not ended: those that run by age, those that wait with their reason; each can be opened and cancelled. */

import { read } from "../api.js";
import { action } from "../confirm.js";
import { el, setText } from "../dom.js";
import { count, duration, size } from "../format.js";
import { LogLines } from "../lines.js";
import { report } from "../report.js";
import { mayChange } from "../session.js";
import { Table } from "../table.js";

/** How often a filter is repeated while the panel is shown. */
const AGAIN = 2000;

const KINDS = { running: "good", waiting: "warn", stopping: "bad" };

/** `[name, what belongs to it]` of a call's status. */
function statusOf(call) {
  return Object.entries(call.status)[0] ?? ["", {}];
}

function actions(call) {
  const [status] = statusOf(call);
  if (!mayChange() || status === "stopping") return [];
  const batch = call.count > 1 ? ` It is a batch of ${count(call.count)} calls, which end together.` : "";
  return [
    action({
      label: "Cancel",
      danger: true,
      path: `calls/${encodeURIComponent(call.id)}/cancel`,
      question: { title: `Cancel call ${call.id}?`, text: `Its caller gets an error. The calls that its handler has made end with it.${batch}` },
      done: `Call ${call.id} was cancelled.`,
    }),
  ];
}

function facts(call) {
  const [status, of] = statusOf(call);
  const { id, method, caller, parent, age, size: bytes, metadata, count: calls, failed_attempts: failed, does, status: _, ...more } = call;
  return [
    ["What it does", `It ${status === "waiting" ? `waits: ${does}` : does}`],
    ["Caller", caller ?? "the master's own process"],
    ["Parent", parent ?? ""],
    ["Made", `${duration(age)} ago`],
    ["Running for", of.running_for === undefined ? "" : duration(of.running_for)],
    ["Stopping for", of.stopping_for === undefined ? "" : duration(of.stopping_for)],
    ["Arguments", size(bytes)],
    ["Attempt", of.attempt === undefined ? "" : count(of.attempt)],
    ["Failed attempts", failed ? count(failed) : ""],
    ["Calls in the batch", calls > 1 ? count(calls) : ""],
    ["Metadata", Object.entries(metadata).map(([key, value]) => `${key}=${value}`).join(", ")],
    // What a newer master tells besides.
    ...Object.entries(more).map(([key, value]) => [words(key), value === null ? "" : typeof value === "string" ? value : JSON.stringify(value)]),
  ];
}

function words(key) {
  const text = key.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

function table(caption, empty, isMixed) {
  return new Table({
    caption,
    empty,
    key: (call) => call.id,
    actions,
    facts,
    extra: (call) => new LogLines(call),
    columns: [
      { title: "Call", text: (call) => call.id, class: "keep mono" },
      { title: "Method", text: (call) => (call.count > 1 ? `${call.method} × ${count(call.count)}` : call.method), sort: (call) => call.method },
      ...(isMixed ? [{ title: "State", text: (call) => statusOf(call)[0], kind: (call) => KINDS[statusOf(call)[0]] ?? "" }] : []),
      { title: "Age", text: (call) => duration(call.age), sort: (call) => call.age, class: "number" },
      { title: "It", text: (call) => call.does, sort: (call) => call.does, class: "grow" },
      { title: "Arguments", text: (call) => size(call.size), sort: (call) => call.size, class: "number middle-up" },
      { title: "Caller", text: (call) => call.caller ?? "master", sort: (call) => call.caller ?? "", class: "middle-up" },
    ],
  });
}

export class Calls {
  id = "calls";
  title = "Calls";
  /** Counts filters: what an earlier one has asked for is dropped. */
  turn = 0;

  build() {
    this.leave();
    this.running = table("Calls that run, the oldest first", "No call runs.", false);
    this.waiting = table("Calls that wait, the oldest first", "No call waits.", false);
    this.stopping = table("Calls that have ended, and whose handlers go on", "", false);
    this.found = table("Calls that fit", "No call fits.", true);
    this.counts = { running: el("span", { class: "dim" }), waiting: el("span", { class: "dim" }), found: el("span", { class: "dim", role: "status" }) };
    const section = (title, note, list) => el("section", {}, el("div", { class: "heading" }, el("h3", {}, title), note), list.element);
    this.live = el("div", { class: "panel" }, section("Running", this.counts.running, this.running), section("Waiting", this.counts.waiting, this.waiting));
    this.stoppingSection = section("Ended, with a handler that goes on", null, this.stopping);
    this.foundSection = section("Calls that fit", this.counts.found, this.found);
    this.foundSection.hidden = true;
    this.live.append(this.stoppingSection);
    return el("div", { class: "panel" }, el("h2", {}, "Calls"), this.#filter(), this.foundSection, this.live);
  }

  #filter() {
    const listen = { oninput: () => this.#choose() };
    const input = (type) => el("input", { type, autocomplete: "off", spellcheck: "false", maxlength: 200, ...listen });
    const option = (value, text) => el("option", { value }, text);
    this.inputs = {
      method: input("search"),
      node: input("search"),
      status: el("select", listen, option("", "any"), option("running", "running"), option("waiting", "waiting"), option("stopping", "stopping")),
      older_than: el("input", { type: "number", min: 0, step: "any", ...listen }),
    };
    const label = (text, name) => el("label", {}, text, this.inputs[name]);
    return el(
      "form",
      { class: "filter", onsubmit: (event) => event.preventDefault() },
      label("Method or service", "method"),
      label("Node, by name or id", "node"),
      label("State", "status"),
      label("Older than, in seconds", "older_than"),
    );
  }

  leave() {
    this.turn += 1;
    clearTimeout(this.timer);
  }

  #wanted() {
    return Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]));
  }

  #choose() {
    this.leave();
    const turn = this.turn;
    const isFiltered = Object.values(this.#wanted()).some((value) => value !== "");
    this.foundSection.hidden = !isFiltered;
    this.live.hidden = isFiltered;
    if (isFiltered) this.timer = setTimeout(() => this.#ask(turn), 200);
  }

  async #ask(turn) {
    try {
      const page = await read("calls", this.#wanted());
      if (turn !== this.turn) return;
      this.found.update(page.calls);
      setText(this.counts.found, page.next === null ? count(page.calls.length) : `the ${count(page.calls.length)} oldest`);
    } catch (error) {
      if (turn !== this.turn) return;
      this.found.update([]);
      setText(this.counts.found, error.message);
    }
    if (!report) this.timer = setTimeout(() => this.#ask(turn), AGAIN);
  }

  update(state) {
    if (!state.running) return;
    // A list that is whole is counted by itself: the totals were taken at another moment.
    const of = (rows, total, hasMore) => (hasMore ? `the ${count(rows.length)} oldest of ${count(Math.max(rows.length, total))}` : count(rows.length));
    const running = state.running.running;
    const waiting = state.waiting?.waiting ?? [];
    const stopping = state.stopping?.stopping ?? [];
    const stats = state.status?.stats;
    this.running.update(running);
    this.waiting.update(waiting);
    this.stopping.update(stopping);
    this.stoppingSection.hidden = stopping.length === 0;
    if (stats) {
      const calls = (rows) => rows.reduce((sum, call) => sum + call.count, 0);
      setText(this.counts.running, of(running, stats.in_flight - calls(running) + running.length, state.running.has_more));
      setText(this.counts.waiting, of(waiting, stats.queued - calls(waiting) + waiting.length, state.waiting?.has_more));
    }
  }

  figure(state) {
    const stats = state.status?.stats;
    return stats ? { text: count(stats.in_flight + stats.queued) } : null;
  }
}
