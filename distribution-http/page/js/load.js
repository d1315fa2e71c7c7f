/* How a node was loaded over time: its slots, its processor and its memory, in an opened row. */

import { Chart } from "./chart.js";
import { el, setText } from "./dom.js";
import { size } from "./format.js";
import { RANGES, inSeconds } from "./history.js";
import { read } from "./api.js";
import { report } from "./report.js";

/** How often new points are asked for, of seconds and of minutes. */
const AGAIN = { second: 2000, minute: 30000 };

const CHARTS = [
  { title: "Busy slots", show: (value) => value.toFixed(1), name: "busy", key: (point) => point.busy, colour: "accent" },
  { title: "Processor", show: (value) => value.toFixed(2), name: "cores", key: (point) => point.cpu, colour: "good" },
  { title: "Memory", show: size, name: "held", key: (point) => point.memory, colour: "warn" },
];

export class Load {
  #id;
  #charts = CHARTS.map(({ title, show, ...series }) => new Chart({ title, show, series: [series] }));
  #buttons;
  #note = el("span", { class: "dim", role: "status" });
  #range = null;
  #points = [];
  #next = 0;
  #timer = null;
  /** Counts choices: what an earlier one has asked for is dropped. */
  #turn = 0;

  constructor(node) {
    this.#id = node.id;
    this.#buttons = RANGES.map((range) => el("button", { type: "button", class: "small", onclick: () => this.#choose(range) }, range.name));
    this.element = el(
      "div",
      { class: "load" },
      el("div", { class: "buttons", role: "group", "aria-label": "How far back the load goes" }, ...this.#buttons, this.#note),
      el("div", { class: "charts" }, ...this.#charts.map(({ element }) => element)),
    );
    this.#choose(RANGES[0]);
  }

  #choose(range) {
    clearTimeout(this.#timer);
    if (this.#range?.resolution !== range.resolution) {
      this.#points = [];
      this.#next = 0;
    }
    this.#range = range;
    this.#buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(RANGES[at] === range)));
    for (const chart of this.#charts) chart.range = range.seconds;
    // The element is put into the page after it was made.
    const turn = ++this.#turn;
    this.#timer = setTimeout(() => this.#ask(turn), 0);
  }

  async #ask(turn) {
    if (!this.element.isConnected) return;
    const range = this.#range;
    try {
      const history = await read("history", { node: this.#id, resolution: range.resolution, from: this.#next });
      if (turn !== this.#turn) return;
      this.#next = history.next;
      const points = history.nodes[0]?.points ?? [];
      this.#points.push(...(range.resolution === "minute" ? inSeconds(points) : points));
      this.#points.splice(0, this.#points.length - 3600);
      setText(this.#note, this.#points.length ? "" : "Nothing was measured yet.");
      for (const chart of this.#charts) chart.update(this.#points);
    } catch (error) {
      if (turn !== this.#turn) return;
      setText(this.#note, error.message);
    }
    if (!report) this.#timer = setTimeout(() => this.#ask(turn), AGAIN[range.resolution]);
  }
}
