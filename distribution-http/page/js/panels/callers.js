/* Callers in other processes: who they are, and how many calls they have. */

import { count, duration } from "../format.js";
import { ListPanel } from "../list.js";

/** A credential as its three parts say it; the server has it in words in other lists. */
function credential({ kind, credential: id, names }) {
  if (kind === "open") return "no credential";
  return [kind, id, ...(names?.length ? [`(${names.join(", ")})`] : [])].join(" ");
}

export function callers() {
  return new ListPanel({
    id: "callers",
    title: "Callers",
    hint: "Name, address or credential",
    table: {
      caption: "The callers in other processes",
      empty: "No caller is connected from another process.",
      key: (caller) => caller.first_call,
      columns: [
        { title: "Caller", text: (caller) => caller.name, sort: (caller) => caller.name },
        { title: "Role", text: (caller) => caller.access.replace(/s$/, ""), sort: (caller) => caller.access, class: "keep" },
        { title: "State", text: (caller) => (caller.is_connected ? "connected" : "away"), kind: (caller) => (caller.is_connected ? "good" : "warn") },
        { title: "Calls", text: (caller) => count(caller.calls), sort: (caller) => caller.calls, class: "number" },
        { title: "Credential", text: (caller) => credential(caller.principal), class: "middle-up" },
        { title: "Address", text: (caller) => caller.addr, class: "middle-up" },
        { title: "Connected for", text: (caller) => duration(caller.connected_for), sort: (caller) => caller.connected_for, class: "number middle-up" },
      ],
      facts: (caller) => [
        ["Address", caller.addr],
        ["Credential", credential(caller.principal)],
        ["Connected for", duration(caller.connected_for)],
        ["Ids of its calls begin with", caller.first_call.split("-")[0]],
      ],
    },
  });
}
