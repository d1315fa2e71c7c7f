/* Calls that failed, grouped by what happened to them. */

import { el, setText } from "../dom.js";
import { count, duration } from "../format.js";
import { Table } from "../table.js";

export class Failures {
  id = "failures";
  title = "Failures";

  build() {
    this.table = new Table({
      caption: "Calls that failed, those first that failed last",
      empty: "No call has failed.",
      key: (group) => `${group.method} ${group.kind} ${group.message}`,
      columns: [
        { title: "Method", text: (group) => group.method, sort: (group) => group.method },
        { title: "Kind", text: (group) => group.kind, kind: () => "bad", sort: (group) => group.kind },
        { title: "Calls", text: (group) => count(group.count), sort: (group) => group.count, class: "number" },
        { title: "Last", text: (group) => `${duration(group.last)} ago`, sort: (group) => group.last, class: "number" },
        { title: "Message", text: (group) => group.message.split("\n")[0], class: "grow clip" },
      ],
      facts: (group) => [
        ["Message", group.message],
        ["Last call", group.call ?? ""],
        ["Made by", group.caller ?? "the master's own process, or a caller that is gone"],
        ["First", `${duration(group.first)} ago`],
        ["Last", `${duration(group.last)} ago`],
      ],
    });
    this.note = el("p", { class: "dim" });
    setText(this.note, "Errors that methods return themselves, and calls that were cancelled, are not among them.");
    return el("div", { class: "panel" }, el("div", { class: "heading" }, el("h2", {}, "Failures"), this.note), this.table.element);
  }

  update(state) {
    if (state.failures) this.table.update(state.failures.failures);
  }

  figure(state) {
    return state.failures?.total ? { text: count(state.failures.total) } : null;
  }
}
