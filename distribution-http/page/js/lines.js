/* The log lines of a call, in an opened row. */

import { read } from "./api.js";
import { badge, el, setText } from "./dom.js";
import { clock } from "./format.js";
import { report } from "./report.js";

const AGAIN = 2000;
const MOST = 100;
export const LEVELS = { error: "bad", warn: "warn", info: "good" };

export class LogLines {
  #call;
  #list = el("ol", { class: "lines" });
  #note = el("p", { class: "dim", role: "status" });
  #shown = "";

  constructor(call) {
    this.#call = call.id;
    this.element = el("section", { "aria-label": "Log lines of this call" }, el("h3", {}, "Log"), this.#list, this.#note);
    setTimeout(() => this.#ask(), 0);
  }

  async #ask() {
    if (!this.element.isConnected) return;
    try {
      const { logs } = await read("logs", { call: this.#call, limit: MOST });
      setText(this.#note, logs.length ? "" : "Its handler has logged nothing that has reached the master. Nodes send what they log if they have the layer distribution::logs::layer().");
      // Built anew only if there are others, so that a selection stays.
      const shown = `${logs.length} ${logs.at(-1)?.at}`;
      if (shown !== this.#shown) this.#list.replaceChildren(...logs.map(line));
      this.#shown = shown;
    } catch (error) {
      setText(this.#note, error.message);
    }
    if (!report) setTimeout(() => this.#ask(), AGAIN);
  }
}

function line(record) {
  const text = record.message + (record.fields ? ` ${record.fields}` : "");
  return el("li", {}, el("span", { class: "dim" }, clock(record.at)), badge(record.level, LEVELS[record.level]), el("span", {}, text), record.backtrace && el("pre", {}, record.backtrace));
}
