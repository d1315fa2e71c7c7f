/* Methods: who serves them, and how many of their calls wait and run. */

import { count } from "../format.js";
import { ListPanel } from "../list.js";

export function methods() {
  const name = (method) => `${method.service}.${method.name}`;
  return new ListPanel({
    id: "methods",
    title: "Methods",
    hint: "Name or signature",
    table: {
      caption: "The methods that nodes serve or that are called",
      empty: "No node serves a method, and none is called.",
      key: (method) => `${name(method)} ${method.version} ${method.signature} ${method.kind} ${method.nodes}`,
      columns: [
        { title: "Method", text: (method) => (method.version === 1 ? name(method) : `${name(method)} v${method.version}`), sort: name },
        { title: "Kind", text: (method) => (method.kind === "compute" ? "fn" : "async fn"), sort: (method) => method.kind, class: "keep" },
        { title: "Nodes", text: (method) => count(method.nodes), sort: (method) => method.nodes, class: "number" },
        { title: "Waiting", text: (method) => count(method.waiting), sort: (method) => method.waiting, class: "number" },
        { title: "Running", text: (method) => count(method.running), sort: (method) => method.running, class: "number" },
        { title: "Idempotent", text: (method) => (method.idempotent ? "yes" : "no"), class: "middle-up" },
        { title: "Signature", text: (method) => method.signature, class: "mono middle-up" },
      ],
      facts: (method) => [
        ["Signature", method.signature],
        ["Idempotent", method.idempotent ? "yes: a call may be run again elsewhere" : "no"],
      ],
    },
  });
}
