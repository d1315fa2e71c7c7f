/* What nodes have logged, the newest first; filters ask the master. */

import { read } from "../api.js";
import { el, setText } from "../dom.js";
import { clock, count } from "../format.js";
import { LEVELS } from "../lines.js";
import { report } from "../report.js";
import { Table } from "../table.js";

const AGAIN = 2000;

export class Logs {
  id = "logs";
  title = "Logs";
  /** Counts filters: what an earlier one has asked for is dropped. */
  turn = 0;

  build() {
    this.table = new Table({
      caption: "What nodes have logged, the newest first",
      empty: "No record fits. Nodes send what they log if they have the layer distribution::logs::layer().",
      key: (record) => `${record.at} ${record.node.id} ${record.message} ${record.fields}`,
      columns: [
        { title: "Time", text: (record) => clock(record.at), class: "keep" },
        { title: "Level", text: (record) => record.level, kind: (record) => LEVELS[record.level] ?? "" },
        { title: "Node", text: (record) => record.node.name, class: "keep" },
        { title: "Method", text: (record) => record.method ?? "", class: "middle-up" },
        { title: "Message", text: (record) => record.message + (record.fields ? ` ${record.fields}` : "") + (record.repeated ? ` (again ${count(record.repeated)} times)` : ""), class: "grow" },
      ],
      facts: (record) => [
        ["Message", record.message],
        ["Fields", record.fields],
        ["Target", record.target],
        ["Call", record.call ?? ""],
        ["Attempt", record.attempt === null ? "" : String(record.attempt)],
        ["Logged at, by the node", clock(record.logged_at)],
        ["Backtrace", record.backtrace ?? ""],
      ],
    });
    this.note = el("span", { class: "dim", role: "status" });
    const listen = { oninput: () => this.#soon(200) };
    const text = () => el("input", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: 200, ...listen });
    const levels = ["trace", "debug", "info", "warn", "error"].map((level) => el("option", { value: level }, level));
    this.inputs = { node: text(), method: text(), call: text(), level: el("select", listen, ...levels), contains: text() };
    const label = (title, name) => el("label", {}, title, this.inputs[name]);
    this.#soon(0);
    return el(
      "div",
      { class: "panel" },
      el("div", { class: "heading" }, el("h2", {}, "Logs"), this.note),
      el("form", { class: "filter", onsubmit: (event) => event.preventDefault() }, label("Node", "node"), label("Method or service", "method"), label("Call", "call"), label("At least", "level"), label("Has the text", "contains")),
      this.table.element,
    );
  }

  leave() {
    this.turn += 1;
    clearTimeout(this.timer);
  }

  #soon(wait) {
    this.leave();
    const turn = this.turn;
    this.timer = setTimeout(() => this.#ask(turn), wait);
  }

  async #ask(turn) {
    try {
      const wanted = Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]));
      const { logs } = await read("logs", wanted);
      if (turn !== this.turn) return;
      this.table.update(logs.reverse());
      setText(this.note, logs.length ? `the newest ${count(logs.length)}` : "");
    } catch (error) {
      if (turn !== this.turn) return;
      this.table.update([]);
      setText(this.note, error.message);
    }
    if (!report) this.#soon(AGAIN);
  }

  update() {}
}
