/* What has happened to nodes, the newest first. */

import { el } from "../dom.js";
import { clock, count } from "../format.js";
import { Table } from "../table.js";

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
    return el("div", { class: "panel" }, el("h2", {}, "Events"), this.table.element);
  }

  update(state) {
    if (state.events) this.table.update(state.events.events);
  }

  figure(state) {
    return state.events ? { text: count(state.events.events.length) } : null;
  }
}
