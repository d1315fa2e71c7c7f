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

  build() {
    this.table = new Table({
      caption: "What nodes have logged, the newest first",
      empty: "No record fits. Nodes send what they log if they have the layer distribution::logs::layer().",
      key: (record) => record.key,
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
    clearTimeout(this.timer);
  }

  #soon(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), wait);
  }

  async #ask() {
    try {
      const wanted = Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]));
      const { logs } = await read("logs", wanted);
      const seen = new Map();
      const rows = logs.map((record) => {
        const name = `${record.at} ${record.node.id}`;
        seen.set(name, (seen.get(name) ?? 0) + 1);
        return { ...record, key: `${name} ${seen.get(name)}` };
      });
      this.table.update(rows.reverse());
      setText(this.note, rows.length ? `the newest ${count(rows.length)}` : "");
    } catch (error) {
      setText(this.note, error.message);
    }
    if (this.note.isConnected && !report) this.#soon(AGAIN);
  }

  update() {}
}
