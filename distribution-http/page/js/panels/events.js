/* What has happened to nodes, the newest first. */

import { read } from "../api.js";
import { el, setText } from "../dom.js";
import { clock, count } from "../format.js";
import { report } from "../report.js";
import { Table } from "../table.js";

/** After an error, in milliseconds. */
const AGAIN = 5000;
const KINDS = { joined: "good", recovered: "good", resumed: "good", restored: "good", suspect: "bad", disconnected: "bad", gone: "bad", ejected: "warn", draining: "warn", cordoned: "warn" };

export class Events {
  id = "events";
  title = "Events";

  build() {
    this.table = new Table({
      caption: "What has happened to nodes, the newest first",
      empty: "Nothing has happened yet.",
      key: (event) => event.number,
      columns: [
        { title: "Time", text: (event) => clock(event.at), class: "keep" },
        { title: "Event", text: (event) => event.kind, kind: (event) => KINDS[event.kind] ?? "" },
        { title: "What happened", text: (event) => event.sentence },
      ],
    });
    this.note = el("span", { class: "dim", role: "status" });
    this.seen = null;
    return el("div", { class: "panel" }, el("div", { class: "heading" }, el("h2", {}, "Events"), this.note), this.table.element);
  }

  leave() {
    clearTimeout(this.timer);
  }

  /** The stream brings events since the page was opened. Those before, the master remembers: they are read again when one comes. */
  async #ask() {
    clearTimeout(this.timer);
    try {
      const { events } = await read("events");
      this.table.update(events);
      setText(this.note, events.length ? `the newest ${count(events.length)}` : "");
    } catch (error) {
      setText(this.note, error.message);
      if (this.note.isConnected && !report) this.timer = setTimeout(() => this.#ask(), AGAIN);
    }
  }

  update(state) {
    const streamed = state.events?.events ?? [];
    const seen = `${streamed.length} ${streamed[0]?.number} ${streamed.at(-1)?.number}`;
    if (seen === this.seen) return;
    this.seen = seen;
    this.#ask();
  }
}
