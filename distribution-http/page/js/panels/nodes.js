/* Nodes: their state, their load, and what can be done with them. */

import { action } from "../confirm.js";
import { count, counted, duration, percent, size } from "../format.js";
import { ListPanel } from "../list.js";
import { Load } from "../load.js";
import { profileAction } from "../profile.js";
import { mayChange } from "../session.js";

const KINDS = { alive: "good", suspect: "bad", disconnected: "bad", draining: "warn" };

function stateText(node) {
  return node.is_cordoned ? (node.state === "alive" ? "cordoned" : `${node.state}, cordoned`) : node.state;
}

function actions(node) {
  if (!mayChange()) return [];
  const on = (verb) => `nodes/${encodeURIComponent(node.id)}/${verb}`;
  const calls = node.in_flight === 0 ? "It has no calls now." : `It has ${counted(node.in_flight, "call")} now.`;
  return [
    profileAction(node),
    node.is_cordoned
      ? action({ label: "Uncordon", path: on("uncordon"), done: `${node.name} gets new calls again.` })
      : action({
          label: "Cordon",
          path: on("cordon"),
          question: { title: `Cordon ${node.name}?`, text: `It finishes its calls and gets no new ones until it is uncordoned. ${calls}` },
          done: `${node.name} is cordoned.`,
        }),
    action({
      label: "Drain",
      path: on("drain"),
      question: { title: `Drain ${node.name}?`, text: `It finishes its calls, and then its process ends. ${calls}` },
      done: `${node.name} was told to drain.`,
    }),
    action({
      label: "Kick",
      danger: true,
      path: on("kick"),
      question: { title: `Kick ${node.name}?`, text: `Its registration ends at once. Its calls are lost, or go to other nodes if their method is idempotent. ${calls}` },
      done: `${node.name} was kicked.`,
    }),
  ];
}

export function nodes() {
  return new ListPanel({
    id: "nodes",
    title: "Nodes",
    hint: "Name, id, address, label, service or state",
    table: {
      caption: "The registered nodes",
      empty: "No node is registered. Start one that dials this master.",
      key: (node) => node.id,
      actions,
      extra: (node) => new Load(node),
      columns: [
        { title: "Node", text: (node) => node.name, sort: (node) => node.name, class: "keep" },
        { title: "State", text: stateText, kind: (node) => (node.is_cordoned ? "warn" : KINDS[node.state] ?? ""), sort: stateText },
        {
          title: "Slots busy",
          text: (node) => `${count(node.busy)} of ${count(node.slots)}`,
          part: (node) => (node.slots ? node.busy / node.slots : 0),
          sort: (node) => node.busy / Math.max(1, node.slots),
          class: "keep",
        },
        { title: "Calls", text: (node) => count(node.in_flight), sort: (node) => node.in_flight, class: "number" },
        { title: "CPU", text: (node) => (typeof node.vitals?.cpu === "number" ? node.vitals.cpu.toFixed(2) : "–"), sort: (node) => node.vitals?.cpu ?? -1, class: "number middle-up" },
        { title: "Memory", text: (node) => (typeof node.vitals?.memory === "number" ? size(node.vitals.memory) : "–"), sort: (node) => node.vitals?.memory ?? -1, class: "number middle-up" },
        { title: "Answered", text: (node) => count(node.answered), sort: (node) => node.answered, class: "number middle-up" },
        { title: "Services", text: (node) => node.services.join(", ") + (node.more_services ? ` and ${node.more_services} more` : ""), class: "middle-up" },
        { title: "Version", text: (node) => (node.version ?? "–") + (node.skew ? `, ${node.skew}` : ""), kind: (node) => (node.skew ? "warn" : "plain"), sort: (node) => node.version ?? "", class: "wide-only" },
        { title: "Up", text: (node) => duration(node.registered_for), sort: (node) => node.registered_for, class: "number middle-up" },
      ],
      facts: (node) => [
        ["Id", node.id],
        ["Address", node.addr],
        ["Credential", node.principal],
        ["Version", (node.version ?? "not known") + (node.skew ? `: it ${node.skew}` : "")],
        ["Labels", Object.entries(node.labels).map(([key, value]) => `${key}=${value}`).join(", ")],
        ["Last heard of", `${duration(node.silent_for)} ago`],
        ["Share of calls", percent(node.share)],
        ["Attempts that failed", node.failed ? count(node.failed) : ""],
        ["Threads", node.vitals?.threads ? count(node.vitals.threads) : ""],
        ["Calls that wait there", node.vitals ? count(node.vitals.waiting) : ""],
        ["Async handlers", node.vitals ? count(node.vitals.asynchronous) : ""],
        ["Lag of its runtime", node.vitals ? duration(node.vitals.lag) : ""],
        ["Its clock is ahead by", node.vitals && Math.abs(node.vitals.clock_skew) > 0.05 ? `${node.vitals.clock_skew.toFixed(2)} s` : ""],
        ["Cannot be called", node.uncallable.join("; ")],
        ["Async handlers that blocked", node.blocked_async ? count(node.blocked_async) : ""],
      ],
    },
  });
}
