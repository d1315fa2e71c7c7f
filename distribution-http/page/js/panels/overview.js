/* The overview: how much goes on, what is wrong, what has been running and waiting for longest. */

import { Chart } from "../chart.js";
import { badge, el, setText } from "../dom.js";
import { count, counted, duration, percent, rate } from "../format.js";
import { RANGES, lastDay } from "../history.js";
import { report } from "../report.js";
import { Table } from "../table.js";

/** How many warnings are shown at first. */
const FIRST = 5;

/** How often the day is read again while it is shown. */
const DAY_AGAIN = 30000;

const LEVELS = { problem: "bad", warning: "warn", note: "" };

function tile(name) {
  const value = el("p", { class: "value" }, "–");
  const beside = el("p", { class: "beside" });
  return { element: el("div", { class: "tile" }, el("p", { class: "name" }, name), value, beside), value, beside };
}

function shortCalls(caption, empty, time) {
  return new Table({
    caption,
    empty,
    key: (call) => call.id,
    columns: [
      { title: "Call", text: (call) => call.id, class: "keep mono" },
      { title: "Method", text: (call) => call.method },
      { title: "Age", text: time, class: "number" },
      { title: "It", text: (call) => call.does, class: "grow" },
    ],
  });
}

export class Overview {
  id = "overview";
  title = "Overview";
  /** Counts choices of a range: what an earlier one has asked for is dropped. */
  turn = 0;

  build() {
    this.tiles = Object.fromEntries(["Nodes", "Slots busy", "Running", "Waiting", "Calls a second", "Failures a second"].map((name) => [name, tile(name)]));
    this.warnings = el("ul", { class: "warnings", hidden: true });
    this.fine = el("p", { class: "dim", hidden: true }, "Nothing to report.");
    this.all = false;
    this.more = el("button", { type: "button", class: "small", hidden: true, onclick: () => this.#showAll() });
    this.running = shortCalls("The calls that have run for longest", "No call runs.", (call) => duration(call.age));
    this.waiting = shortCalls("The calls that have waited for longest", "No call waits.", (call) => duration(call.age));
    this.facts = el("p", { class: "dim" });
    const rounded = (value) => (value > 0 && value < 10 ? String(Math.round(value * 10) / 10) : count(value));
    this.charts = [
      new Chart({
        title: "Calls a second",
        show: rounded,
        series: [
          { name: "ended", key: (point) => point.ended, colour: "accent" },
          { name: "failed", key: (point) => point.failed, colour: "bad" },
        ],
      }),
      new Chart({
        title: "Calls at a time",
        show: rounded,
        series: [
          { name: "running", key: (point) => point.running, colour: "good" },
          { name: "waiting", key: (point) => point.waiting, colour: "warn" },
        ],
      }),
      new Chart({
        title: "Slots",
        show: rounded,
        series: [
          { name: "busy", key: (point) => point.busy, colour: "accent" },
          { name: "all", key: (point) => point.slots, colour: "dim" },
        ],
      }),
    ];
    this.ranges = RANGES.map((range) => el("button", { type: "button", class: "small", onclick: () => this.#choose(range) }, range.name));
    this.#choose(RANGES[0]);
    return el(
      "div",
      { class: "panel" },
      el("div", { class: "heading" }, el("h2", {}, "Overview"), this.facts),
      el("div", { class: "tiles" }, ...Object.values(this.tiles).map(({ element }) => element)),
      el("div", { class: "buttons", role: "group", "aria-label": "How far back the charts go" }, ...this.ranges),
      el("div", { class: "charts" }, ...this.charts.map(({ element }) => element)),
      el("section", {}, el("h3", {}, "Warnings"), this.warnings, this.fine, el("div", {}, this.more)),
      el(
        "div",
        { class: "pair" },
        el("section", {}, el("h3", {}, "Oldest running calls"), this.running.element),
        el("section", {}, el("h3", {}, "Oldest waiting calls"), this.waiting.element),
      ),
    );
  }

  update(state) {
    if (state.status) this.#updateTiles(state.status, state.history?.points.at(-1));
    if (state.warnings) this.#updateWarnings(state.warnings.warnings);
    this.state = state;
    this.#draw();
    if (state.running) this.running.update(state.running.running.slice(0, 8));
    if (state.waiting) this.waiting.update(state.waiting.waiting.slice(0, 8));
  }

  leave() {
    this.turn += 1;
    clearTimeout(this.timer);
  }

  #choose(range) {
    clearTimeout(this.timer);
    this.turn += 1;
    this.range = range;
    this.day = null;
    this.ranges.forEach((button, at) => button.setAttribute("aria-pressed", String(RANGES[at] === range)));
    for (const chart of this.charts) chart.range = range.seconds;
    if (range.resolution === "minute") this.#readDay(this.turn);
    else this.#draw();
  }

  async #readDay(turn) {
    try {
      const day = await lastDay();
      if (turn !== this.turn) return;
      this.day = day;
      this.#draw();
    } catch {
      // What was read before stays. The page says elsewhere that the server cannot be reached.
    }
    if (!report && turn === this.turn) this.timer = setTimeout(() => this.#readDay(turn), DAY_AGAIN);
  }

  #draw() {
    const points = this.range.resolution === "minute" ? this.day : this.state?.history?.points;
    if (points) for (const chart of this.charts) chart.update(points);
  }

  #updateTiles({ status, stats, nodes, rates }, last) {
    const set = (name, value, beside, isBad = false) => {
      const { value: node, beside: small } = this.tiles[name];
      setText(node, value);
      setText(small, beside);
      node.classList.toggle("bad", isBad);
    };
    const away = ["suspect", "disconnected", "draining", "cordoned"].filter((state) => nodes[state] > 0).map((state) => `${count(nodes[state])} ${state}`);
    set("Nodes", count(nodes.total), away.join(", ") || (nodes.total ? "all alive" : "start one that dials this master"), nodes.suspect + nodes.disconnected > 0 || nodes.total === 0);
    set("Slots busy", nodes.slots ? percent(nodes.busy / nodes.slots) : "–", `${count(nodes.busy)} of ${count(nodes.slots)}`);
    set("Running", count(stats.in_flight), `${count(stats.answered)} answered so far`);
    set("Waiting", count(stats.queued), `${counted(status.callers, "caller")} elsewhere`);
    set("Calls a second", rate(rates?.answered ?? last?.ended), "answered, as of now");
    set("Failures a second", rate(rates?.failed ?? last?.failed), `${count(stats.failed)} failed, ${count(stats.cancelled)} cancelled`, (rates?.failed ?? 0) > 0);
    setText(this.facts, `Master ${status.addr}, version ${status.version}, up for ${duration(status.running_for)}, security: ${status.security}`);
  }

  #updateWarnings(warnings) {
    this.fine.hidden = warnings.length > 0;
    this.warnings.hidden = warnings.length === 0;
    this.known = warnings;
    // A command in one of them is about to be copied.
    const selection = getSelection();
    if (!selection.isCollapsed && this.warnings.contains(selection.anchorNode)) return;
    this.more.hidden = this.all || warnings.length <= FIRST;
    setText(this.more, `Show all ${count(warnings.length)}`);
    const shown = this.all ? warnings : warnings.slice(0, FIRST);
    const lines = this.warnings.children;
    while (lines.length > shown.length) lines[lines.length - 1].remove();
    // Texts have times, which change: a line stays the same, so that its link keeps the focus.
    shown.forEach(({ level, text, panel }, at) => {
      const name = `${level} ${panel}`;
      if (lines[at]?.dataset.name === name) return setText(lines[at].children[1], text);
      const link = panel === this.id ? null : el("a", { href: `#${panel}` }, `${panel[0].toUpperCase()}${panel.slice(1)}`);
      const line = el("li", { "data-name": name }, badge(level, LEVELS[level]), el("span", {}, text), link);
      if (lines[at]) lines[at].replaceWith(line);
      else this.warnings.append(line);
    });
  }

  #showAll() {
    this.all = true;
    this.#updateWarnings(this.known);
  }

  figure(state) {
    const bad = (state.warnings?.warnings ?? []).filter(({ level }) => level === "problem").length;
    return bad ? { text: bad, isBad: true } : null;
  }
}
