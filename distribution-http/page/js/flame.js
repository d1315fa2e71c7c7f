/* Draws a profile as a flame graph: the outermost function on top, each as wide as the samples in which it was on a stack. */

import { el, setText } from "./dom.js";
import { count, counted, duration } from "./format.js";
import { Table } from "./table.js";

const ROW = 20;

/** A function that is narrower than this part of the picture is left out of it. */
const NARROWEST = 0.001;

/** The most functions that are drawn. */
const MOST = 3000;

/** Functions on stacks as a tree: who has called whom, and in how many samples. */
export function treeOf(stacks) {
  const root = { name: "all", samples: 0, own: 0, parent: null, children: new Map() };
  for (const { frames, samples } of stacks) {
    let at = root;
    at.samples += samples;
    for (const name of frames) {
      if (!at.children.has(name)) at.children.set(name, { name, samples: 0, own: 0, parent: at, children: new Map() });
      at = at.children.get(name);
      at.samples += samples;
    }
    at.own += samples;
  }
  return root;
}

/** Where each function is drawn: `{ node, depth, left, wide }`, parts of the width. Those above the zoomed one are as wide as it. */
export function place(zoomed) {
  const placed = [];
  const above = [];
  for (let node = zoomed.parent; node; node = node.parent) above.unshift(node);
  above.forEach((node, depth) => placed.push({ node, depth, left: 0, wide: 1 }));
  const rows = [{ node: zoomed, depth: above.length, left: 0, wide: 1 }];
  // Row by row, so that what is left out of a large profile is deep.
  for (let at = 0; at < rows.length && placed.length < MOST; at++) {
    const { node, depth, left, wide } = rows[at];
    placed.push(rows[at]);
    let from = left;
    const children = [...node.children.values()].sort((one, other) => other.samples - one.samples);
    for (const child of children) {
      const part = (child.samples / Math.max(1, node.samples)) * wide;
      if (part >= NARROWEST) rows.push({ node: child, depth: depth + 1, left: from, wide: part });
      from += part;
    }
  }
  return placed;
}

/** A hue for the crate or module that a function is in. */
function hue(name) {
  let hash = 0;
  for (const letter of name.split("::")[0]) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return (hash * 137) % 360;
}

export class Flame {
  #root;
  #zoomed;
  #focused = null;
  #boxes = new Map();
  #canvas;
  #about = el("p", { class: "about", role: "status" });
  #found = el("span", { class: "dim", role: "status" });
  #search;
  #whole;

  constructor(profile) {
    this.#root = treeOf(profile.stacks);
    this.#zoomed = this.#root;
    this.#search = el("input", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: 200, oninput: () => this.#mark() });
    this.#whole = el("button", { type: "button", class: "small", onclick: () => this.#zoom(this.#root) }, "Whole profile");
    this.#canvas = el("div", { class: "flame", role: "group", "aria-label": "Flame graph. The arrows move, Enter zooms in, Escape zooms out.", onkeydown: (event) => this.#key(event) });
    const { name, node, length, frequency, samples, left_out: left, missed } = profile;
    const facts = `Node ${name} (${node}), ${duration(length)} at ${count(frequency)} Hz: ${counted(samples, "sample")}${left ? `, and ${count(left)} that were left out` : ""}${missed ? `. ${count(missed)} more could not be taken, as in the C library` : ""}`;
    this.element = el(
      "div",
      { class: "panel" },
      el("div", { class: "heading" }, el("h2", {}, "Profile"), el("span", { class: "dim" }, facts)),
      handlers(profile.handlers),
      el("div", { class: "filter" }, el("label", {}, "Function", this.#search), el("div", { class: "buttons" }, this.#whole), this.#found),
      // Above the picture, which may be longer than the window.
      this.#about,
      samples ? this.#canvas : el("p", { class: "empty" }, "No thread used the processor while samples were taken. What handlers wait for is above."),
    );
    this.#draw();
  }

  #zoom(node) {
    this.#zoomed = node;
    this.#draw();
    this.#focus(node);
  }

  #draw() {
    const placed = place(this.#zoomed);
    this.#boxes = new Map(placed.map((spot) => [spot.node, this.#box(spot)]));
    const depth = Math.max(...placed.map((spot) => spot.depth)) + 1;
    this.#canvas.style.height = `${depth * ROW}px`;
    this.#canvas.replaceChildren(...this.#boxes.values());
    this.#whole.disabled = this.#zoomed === this.#root;
    this.#focused = this.#zoomed;
    this.#boxes.get(this.#zoomed).tabIndex = 0;
    this.#mark();
    setText(this.#about, "Point at a function to see how often it was on a stack, and click to zoom.");
  }

  #box({ node, depth, left, wide }) {
    const tell = () => setText(this.#about, this.#say(node));
    const box = el("button", { type: "button", tabindex: -1, "aria-label": this.#say(node), onclick: () => this.#zoom(node), onpointerenter: tell, onfocus: tell }, node.name);
    const shade = hue(node.name);
    box.style.top = `${depth * ROW}px`;
    box.style.left = `${left * 100}%`;
    box.style.width = `${wide * 100}%`;
    box.style.background = `light-dark(hsl(${shade} 60% 84%), hsl(${shade} 32% 30%))`;
    return box;
  }

  #say({ name, samples, own }) {
    const all = Math.max(1, this.#root.samples);
    const part = (number) => `${((number / all) * 100).toFixed(1)} %`;
    return `${name}: ${counted(samples, "sample")} (${part(samples)})${own ? `, ${count(own)} of them in itself (${part(own)})` : ""}`;
  }

  #focus(node) {
    const box = this.#boxes.get(node);
    if (!box) return;
    const before = this.#boxes.get(this.#focused);
    if (before) before.tabIndex = -1;
    this.#focused = node;
    box.tabIndex = 0;
    box.focus({ preventScroll: false });
  }

  #key(event) {
    const node = this.#focused;
    const beside = (step) => {
      const drawn = [...(node.parent?.children.values() ?? [])].filter((child) => this.#boxes.has(child)).sort((one, other) => other.samples - one.samples);
      return drawn[drawn.indexOf(node) + step];
    };
    const widest = () => [...node.children.values()].sort((one, other) => other.samples - one.samples)[0];
    const keys = { ArrowUp: () => node.parent, ArrowDown: widest, ArrowLeft: () => beside(-1), ArrowRight: () => beside(1) };
    if (event.key === "Escape" && this.#zoomed !== this.#root) {
      event.preventDefault();
      event.stopPropagation();
      this.#zoom(this.#zoomed.parent);
    } else if (keys[event.key]) {
      event.preventDefault();
      const next = keys[event.key]();
      if (next) this.#focus(next);
    }
  }

  /** Marks the functions that are searched for. A stack counts once, however many of them are on it. */
  #mark() {
    const wanted = this.#search.value.trim().toLowerCase();
    const fits = (node) => wanted !== "" && node !== this.#root && node.name.toLowerCase().includes(wanted);
    for (const [node, box] of this.#boxes) box.classList.toggle("found", fits(node));
    const samples = (node) => (fits(node) ? node.samples : [...node.children.values()].reduce((sum, child) => sum + samples(child), 0));
    setText(this.#found, wanted ? `on the stack in ${((samples(this.#root) / Math.max(1, this.#root.samples)) * 100).toFixed(1)} % of the samples` : "");
  }
}

/** The handlers that ran when the profile ended, each with what its thread did. */
function handlers(rows) {
  const table = new Table({
    caption: "Handlers that ran when the profile ended",
    empty: "No handler ran when the profile ended.",
    key: (handler) => `${handler.call} ${handler.attempt}`,
    columns: [
      { title: "Call", text: (handler) => handler.call, class: "keep mono" },
      { title: "Method", text: (handler) => handler.method, sort: (handler) => handler.method },
      { title: "State", text: (handler) => handler.state, kind: (handler) => (handler.state === "running" ? "good" : ""), sort: (handler) => handler.state },
      { title: "For", text: (handler) => duration(handler.running), sort: (handler) => handler.running, class: "number" },
      { title: "Processor", text: (handler) => (handler.cpu === null ? "–" : `${handler.cpu.toFixed(2)} cores`), sort: (handler) => handler.cpu ?? -1, class: "number" },
      { title: "In", text: (handler) => handler.frames.at(-1) ?? "", class: "grow" },
    ],
    facts: (handler) => [
      ["Attempt", String(handler.attempt)],
      ["Thread", handler.thread],
      ["Stack, the innermost first", [...handler.frames].reverse().join("\n")],
    ],
  });
  table.update(rows);
  return el("section", {}, el("h3", {}, "Handlers"), table.element);
}
