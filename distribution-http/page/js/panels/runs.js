/* Runs of many calls that have a name: how far they are, how long they will take, what they wait for. */

import { count, duration, percent, rate } from "../format.js";
import { Table } from "../table.js";
import { el } from "../dom.js";

const KINDS = { running: "", finished: "good", stopped: "warn", lost: "bad" };

export class Runs {
  id = "runs";
  title = "Progress";

  build() {
    this.table = new Table({
      caption: "Runs of many calls that have a name",
      empty: "No run has a name: give one with .distribute().name(\"..\").",
      key: (run) => run.key,
      columns: [
        { title: "Run", text: (run) => run.name, sort: (run) => run.name },
        { title: "State", text: (run) => run.status, kind: (run) => KINDS[run.status] ?? "" },
        {
          title: "Done",
          text: (run) => (run.total ? `${percent(run.done / run.total)} of ${count(run.total)}` : count(run.done)),
          part: (run) => (run.total ? run.done / run.total : 0),
          class: "keep",
        },
        { title: "Failed", text: (run) => count(run.failed), sort: (run) => run.failed, class: "number" },
        { title: "Left", text: (run) => (run.stalled_for ? `stalled ${duration(run.stalled_for)}` : run.time_left === null ? "–" : duration(run.time_left)), sort: (run) => run.time_left ?? Infinity, class: "number" },
        { title: "Calls/s", text: (run) => rate(run.rate), sort: (run) => run.rate, class: "number middle-up" },
        { title: "Running", text: (run) => count(run.running), class: "number middle-up" },
        { title: "Waiting", text: (run) => count(run.waiting), class: "number middle-up" },
        { title: "Caller", text: (run) => run.caller ?? "master", class: "middle-up" },
        { title: "For", text: (run) => duration(run.elapsed), sort: (run) => run.elapsed, class: "number middle-up" },
      ],
      facts: (run) => [
        ["Done", run.total ? `${count(run.done)} of ${count(run.total)}` : count(run.done)],
        ["Heard of", `${duration(run.told_for)} ago`],
        ["Waits for", run.waits_for.join("\n")],
      ],
    });
    return el("div", { class: "panel" }, el("h2", {}, "Progress"), this.table.element);
  }

  update(state) {
    if (!state.runs) return;
    this.table.update(state.runs.runs);
  }

  figure(state) {
    return state.runs?.total ? { text: count(state.runs.total) } : null;
  }
}
