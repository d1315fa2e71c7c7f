/* A panel that is one list: a search that the server does, the table, and how much of all is shown. */

import { read } from "./api.js";
import { el, setText } from "./dom.js";
import { count } from "./format.js";
import { report } from "./report.js";
import { Table } from "./table.js";

/** How often a search is repeated while its panel is shown. */
const AGAIN = 2000;

export class ListPanel {
  /** `name` is that of the list in the state and in the API. */
  constructor({ id, title, name = id, hint, table }) {
    Object.assign(this, { id, title, name, hint });
    this.tableOptions = table;
    this.found = null;
    this.timer = null;
    /** Counts searches: what an earlier one has asked for is dropped. */
    this.turn = 0;
  }

  build() {
    this.leave();
    this.found = null;
    this.table = new Table(this.tableOptions);
    this.shown = el("span", { class: "dim", role: "status" });
    this.input = el("input", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: 128, oninput: () => this.#search() });
    const filter = el("form", { class: "filter", onsubmit: (event) => event.preventDefault() }, el("label", {}, this.hint, this.input));
    return el("div", { class: "panel" }, el("div", { class: "heading" }, el("h2", {}, this.title), this.shown), filter, this.table.element);
  }

  leave() {
    this.turn += 1;
    clearTimeout(this.timer);
  }

  #search() {
    this.leave();
    this.found = null;
    const turn = this.turn;
    if (this.input.value.trim()) this.timer = setTimeout(() => this.#ask(turn), 150);
    else this.update(this.state);
  }

  async #ask(turn) {
    try {
      const found = await read(this.name, { q: this.input.value.trim() });
      if (turn !== this.turn) return;
      this.found = found;
      this.update(this.state);
    } catch (error) {
      if (turn !== this.turn) return;
      setText(this.shown, error.message);
    }
    if (!report) this.timer = setTimeout(() => this.#ask(turn), AGAIN);
  }

  update(state) {
    this.state = state;
    const list = this.found ?? state?.[this.name];
    if (!list || (this.input.value.trim() && !this.found)) return;
    const rows = list[this.name];
    this.table.update(rows);
    setText(this.shown, rows.length < list.total ? `${count(rows.length)} of ${count(list.total)}${report ? "" : ": search for the others"}` : count(list.total));
  }

  figure(state) {
    const list = state[this.name];
    return list ? { text: count(list.total) } : null;
  }
}
