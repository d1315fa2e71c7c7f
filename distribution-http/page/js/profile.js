/* Takes a profile of a node, and shows it in a dialog. */

import { change } from "./api.js";
import { el, setText } from "./dom.js";
import { duration } from "./format.js";
import { Flame } from "./flame.js";

const SECONDS = { least: 1, most: 30, usual: 5 };

/** The server ends a profile after 70 seconds. */
const LONGEST = 75;

/** A button's action: asks for how long, and takes a profile. */
export function profileAction(node) {
  return { label: "Profile", danger: false, run: async () => open(node) };
}

function open(node) {
  const seconds = el("input", { type: "number", min: SECONDS.least, max: SECONDS.most, step: 1, value: SECONDS.usual, required: true });
  const start = el("button", { type: "submit", class: "primary" }, "Start");
  const status = el("p", { class: "dim", role: "status" }, "Looks many times a second at what the threads of the node's process do. The node goes on with its calls.");
  const result = el("div");
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const take = async (event) => {
    event.preventDefault();
    start.disabled = true;
    setText(status, `Looking for ${duration(Number(seconds.value))}…`);
    try {
      const profile = await change(`nodes/${encodeURIComponent(node.id)}/profile`, { seconds: Number(seconds.value) }, LONGEST);
      setText(status, "");
      result.replaceChildren(new Flame(profile).element);
    } catch (error) {
      setText(status, error.message);
    }
    start.disabled = false;
  };
  const title = el("h2", {}, `Profile of ${node.name}`);
  const form = el("form", { class: "filter", onsubmit: take }, el("label", {}, `Seconds, from ${SECONDS.least} to ${SECONDS.most}`, seconds), el("div", { class: "buttons" }, start, close));
  const dialog = el("dialog", { class: "wide", "aria-label": `Profile of ${node.name}`, onclose: () => dialog.remove() }, title, form, status, result);
  document.body.append(dialog);
  dialog.showModal();
  seconds.focus();
}
