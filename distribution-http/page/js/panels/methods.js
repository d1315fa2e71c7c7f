/* Methods: who serves them, and how many of their calls wait and run. */

import { count, duration, rate, size } from "../format.js";
import { ListPanel } from "../list.js";

/** Half of the calls, and 99 of 100: `2.1 ms – 40 ms`. */
function times(of) {
  return of ? `${duration(of.p50)} – ${duration(of.p99)}` : "–";
}

function all(of) {
  return of ? `half within ${duration(of.p50)}, 90 of 100 within ${duration(of.p90)}, 99 of 100 within ${duration(of.p99)}` : "";
}

export function methods() {
  const name = (method) => `${method.service}.${method.name}`;
  return new ListPanel({
    id: "methods",
    title: "Methods",
    hint: "Name or signature",
    table: {
      caption: "The methods that nodes serve or that are called",
      empty: "No node serves a method, and none is called.",
      key: (method) => `${name(method)} ${method.version} ${method.signature} ${method.kind}`,
      columns: [
        { title: "Method", text: (method) => (method.version === 1 ? name(method) : `${name(method)} v${method.version}`), sort: name },
        { title: "Kind", text: (method) => (method.kind === "compute" ? "fn" : "async fn"), sort: (method) => method.kind, class: "keep" },
        { title: "Nodes", text: (method) => count(method.nodes), sort: (method) => method.nodes, class: "number" },
        { title: "Waiting", text: (method) => count(method.waiting), sort: (method) => method.waiting, class: "number" },
        { title: "Running", text: (method) => count(method.running), sort: (method) => method.running, class: "number" },
        { title: "Calls/s", text: (method) => rate(method.rate), sort: (method) => method.rate ?? -1, class: "number" },
        { title: "Failures/s", text: (method) => rate(method.failure_rate), sort: (method) => method.failure_rate ?? -1, class: "number middle-up" },
        { title: "In queue", text: (method) => times(method.queue), sort: (method) => method.queue?.p99 ?? -1, class: "number middle-up" },
        { title: "In handler", text: (method) => times(method.handler), sort: (method) => method.handler?.p99 ?? -1, class: "number middle-up" },
      ],
      facts: (method) => [
        ["Signature", method.signature],
        ["Idempotent", method.idempotent ? "yes: a call may be run again elsewhere" : "no"],
        ["In queue, last 10 s", all(method.queue)],
        ["In handler, last 10 s", all(method.handler)],
        ["Ended so far", method.ended === undefined ? "" : `${count(method.ended)}, of which ${count(method.failed)} failed`],
        ["Sent again", method.repeated ? count(method.repeated) : ""],
        ["Arguments sent", method.argument_bytes === undefined ? "" : size(method.argument_bytes)],
        ["Values received", method.reply_bytes === undefined ? "" : size(method.reply_bytes)],
      ],
    },
  });
}
