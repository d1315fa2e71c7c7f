/* The task stream: a row for each slot of each node, time to the right, a colour for each method, failures marked. */

import { read } from "../api.js";
import { colour, isDarkNow, prepare } from "../chart.js";
import { el, setText } from "../dom.js";
import { clock, count, counted, duration } from "../format.js";
import { report } from "../report.js";

const ROW = 16;
const NAMES = 120;
const AXIS = 18;
const MOST_ROWS = 150;
const HOUR = 3600;
const RANGES = [[30, "30 s"], [300, "5 min"], [900, "15 min"], [HOUR, "1 h"]];

/** A colour for a method, the same in each session: names that are alike get others (FNV-1a, and the end of MurmurHash3). */
function shade(name, isDark) {
  let hash = 0x811c9dc5;
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = (hash ^ (hash >>> 13)) >>> 0;
  const light = (isDark ? 52 : 38) + (Math.floor(hash / 360) % 3) * 9;
  return `hsl(${hash % 360} 50% ${light}%)`;
}

export class Tasks {
  id = "tasks";
  title = "Task stream";

  build() {
    this.spans = [];
    this.started = null;
    this.next = null;
    this.range = 300;
    /** The right edge, in seconds since the master started; `null` follows the present. */
    this.edge = null;
    this.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Task stream. The keys + and - zoom, and the arrows move." });
    this.about = el("p", { class: "about", role: "status" }, "Point at a bar to see what ran.");
    this.note = el("span", { class: "dim" });
    this.legend = el("ul", { class: "legend" });
    this.ranges = RANGES.map(([seconds, text]) => el("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => this.#zoom(seconds) }, text));
    this.now = el("button", { type: "button", class: "small", onclick: () => this.#move(null) }, "Now");
    const listen = (name, handler) => this.canvas.addEventListener(name, handler, { passive: false });
    listen("wheel", (event) => this.#wheel(event));
    listen("pointermove", (event) => this.#point(event));
    listen("pointerdown", (event) => this.#grab(event));
    for (const end of ["pointerup", "pointercancel"]) listen(end, () => (this.grabbed = null));
    listen("keydown", (event) => this.#key(event));
    listen("redraw", () => this.draw());
    this.filter = el("input", { type: "search", autocomplete: "off", oninput: () => this.draw() });
    /** By id. Those of nodes that are gone are known from what happened to them. */
    this.names = new Map();
    this.timer = setTimeout(() => this.#ask(), 0);
    this.#askForNames();
    return el(
      "div",
      { class: "panel" },
      el("div", { class: "heading" }, el("h2", {}, "Task stream"), this.note),
      el("div", { class: "filter" }, el("label", {}, "Node", this.filter), el("div", { class: "buttons" }, ...this.ranges, this.now)),
      el("div", { class: "stream" }, this.canvas),
      this.about,
      this.legend,
    );
  }

  leave() {
    clearTimeout(this.timer);
  }

  async #ask() {
    clearTimeout(this.timer);
    let wait = 1500;
    try {
      const page = await read("timeline", this.next ? { after: this.next } : { within: HOUR });
      if (this.started !== page.started) this.spans = [];
      // The master was started anew: it cannot go on from where the last one was.
      const isAnother = this.next !== null && this.started !== page.started;
      this.started = page.started;
      this.next = page.next;
      for (const [node, row, method, start, length, busy, calls, failed] of isAnother ? [] : page.spans) {
        this.spans.push({ node: page.nodes[node], row, method: method < 0 ? "several methods" : page.methods[method], start, length, busy, calls, failed });
      }
      // By the master's clock, not by this browser's. A report keeps all that it has.
      const from = report || !this.state?.status ? 0 : this.#present() - HOUR;
      if (this.spans.length > 250000 || (this.spans.length && this.spans[0].start < from)) this.spans = this.spans.filter((span) => span.start + span.length >= from).slice(-200000);
      if (isAnother) {
        this.next = null;
        this.edge = null;
      }
      if (page.has_more || isAnother) wait = 0;
      this.draw();
    } catch (error) {
      setText(this.note, error.message);
    }
    if (this.canvas.isConnected && !report) this.timer = setTimeout(() => this.#ask(), wait);
  }

  async #askForNames() {
    try {
      for (const event of (await read("events")).events) if (event.node_id) this.names.set(event.node_id, event.node);
    } catch {
      // They are shown by their ids.
    }
  }

  update(state) {
    this.state = state;
    this.draw();
  }

  #present() {
    return (this.state?.status?.at ?? Date.now() / 1000) - (this.started ?? 0);
  }

  #zoom(seconds) {
    this.range = Math.min(HOUR, Math.max(1, seconds));
    this.draw();
  }

  #move(edge) {
    this.edge = edge === null || edge >= this.#present() ? null : Math.max(this.range, edge);
    this.draw();
  }

  #wheel(event) {
    if (!event.ctrlKey && Math.abs(event.deltaX) <= Math.abs(event.deltaY) && !event.shiftKey) return;
    event.preventDefault();
    if (event.ctrlKey) this.#zoom(this.range * (event.deltaY > 0 ? 1.25 : 0.8));
    else this.#move((this.edge ?? this.#present()) + ((event.deltaX || event.deltaY) / this.width) * this.range);
  }

  #grab(event) {
    if (event.button !== 0) return;
    this.grabbed = { x: event.offsetX, edge: this.edge ?? this.#present() };
    this.canvas.setPointerCapture(event.pointerId);
  }

  #key(event) {
    const step = this.range / 10;
    const edge = this.edge ?? this.#present();
    const keys = { "+": () => this.#zoom(this.range / 2), "-": () => this.#zoom(this.range * 2), ArrowLeft: () => this.#move(edge - step), ArrowRight: () => this.#move(edge + step), End: () => this.#move(null) };
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  #point(event) {
    if (this.grabbed) return this.#move(this.grabbed.edge - ((event.offsetX - this.grabbed.x) / this.width) * this.range);
    const row = Math.floor(event.offsetY / ROW);
    const at = this.from + ((event.offsetX - NAMES) / this.width) * this.range;
    const near = (2 / this.width) * this.range;
    const found = this.drawn?.findLast((span) => span.at === row && span.start - near <= at && span.start + span.length + near >= at);
    if (!found) return setText(this.about, "Point at a bar to see what ran.");
    const failed = found.failed ? `, ${count(found.failed)} with an error` : "";
    const busy = found.calls > 1 ? `, handlers ran for ${duration(found.busy)} of it` : "";
    if (found.runs) return setText(this.about, `${found.method} runs on ${this.#name(found.node)} for ${duration(found.length)}, since ${clock(this.started + found.start)}`);
    setText(this.about, `${found.method} on ${this.#name(found.node)}, slot ${found.row}: ${counted(found.calls, "call")}${failed}, ${duration(found.length)} from ${clock(this.started + found.start)}${busy}`);
  }

  #name(id) {
    return this.names.get(id) ?? id;
  }

  /** The rows that are shown: those of nodes that are registered, and of others that have spans in the time shown. */
  #rows(shown) {
    const nodes = this.state?.nodes?.nodes ?? [];
    for (const event of this.state?.events?.events ?? []) if (event.node_id) this.names.set(event.node_id, event.node);
    for (const node of nodes) this.names.set(node.id, node.name);
    const slots = new Map(nodes.map((node) => [node.id, Math.min(64, node.slots)]));
    for (const span of shown) slots.set(span.node, Math.max(slots.get(span.node) ?? 0, span.row + 1));
    const wanted = this.filter.value.trim().toLowerCase();
    const ids = [...slots.keys()].filter((id) => !wanted || this.#name(id).toLowerCase().includes(wanted) || id.includes(wanted));
    ids.sort((one, other) => this.#name(one).localeCompare(this.#name(other)) || one.localeCompare(other));
    const rows = [];
    for (const id of ids) for (let slot = 0; slot < slots.get(id); slot++) rows.push({ id, slot });
    return { rows: rows.slice(0, MOST_ROWS), total: rows.length, nodes: new Set(ids) };
  }

  draw() {
    if (!this.canvas?.isConnected || this.started === null) return;
    const to = this.edge ?? this.#present();
    this.from = to - this.range;
    const inTime = this.spans.filter((span) => span.start <= to && span.start + span.length >= this.from);
    const { rows, total, nodes } = this.#rows(inTime);
    const shown = inTime.filter((span) => nodes.has(span.node));
    const places = new Map(rows.map(({ id, slot }, at) => [`${id} ${slot}`, at]));
    const { context, width, height } = prepare(this.canvas, Math.max(3, rows.length) * ROW + AXIS);
    this.width = width - NAMES;
    const x = (time) => NAMES + ((time - this.from) / this.range) * this.width;
    const bottom = height - AXIS;
    const isDark = isDarkNow();
    this.#axis(context, x, to, width, bottom);
    context.textBaseline = "middle";
    rows.forEach(({ id, slot }, at) => {
      context.strokeStyle = colour("line");
      if (slot === 0) {
        context.beginPath();
        context.moveTo(0, at * ROW + 0.5);
        context.lineTo(width, at * ROW + 0.5);
        context.stroke();
        context.fillStyle = colour("text");
        context.fillText(this.#name(id), 4, at * ROW + ROW / 2, NAMES - 12);
      }
    });
    this.drawn = [];
    const methods = new Map();
    for (const span of this.#running(places)) {
      const at = places.get(`${span.node} ${span.row}`);
      this.drawn.push({ ...span, at });
      const left = Math.max(NAMES, x(span.start));
      const wide = x(Math.min(to, span.start + span.length)) - left;
      if (wide <= 0) continue;
      context.globalAlpha = 0.5;
      context.fillStyle = this.#fill(span.method, isDark);
      context.fillRect(left, at * ROW + 2, wide, ROW - 4);
      context.globalAlpha = 1;
      methods.set(span.method, 1);
    }
    for (const span of shown) {
      methods.set(span.method, (methods.get(span.method) ?? 0) + span.calls);
      const at = places.get(`${span.node} ${span.row}`);
      if (at === undefined) continue;
      this.drawn.push({ ...span, at });
      const left = Math.max(NAMES, x(span.start));
      const wide = Math.max(1, x(span.start + span.length) - left);
      context.fillStyle = this.#fill(span.method, isDark);
      context.fillRect(left, at * ROW + 2, wide, ROW - 4);
      if (span.failed) {
        context.fillStyle = colour("bad");
        context.fillRect(left, at * ROW + ROW - 6, Math.max(3, wide), 4);
      }
    }
    this.#tell(rows, total, shown, methods, isDark);
  }

  /** Compute calls that run still, each in a row that is free since it began. Which slot it has, nobody but the node knows. */
  #running(places) {
    const kinds = new Map((this.state?.methods?.methods ?? []).map((method) => [`${method.service}.${method.name}`, method.kind]));
    const ends = new Map();
    for (const span of this.spans) {
      const row = `${span.node} ${span.row}`;
      ends.set(row, Math.max(ends.get(row) ?? 0, span.start + span.length));
    }
    const now = this.#present();
    const found = [];
    const taken = new Set();
    for (const call of this.state?.running?.running ?? []) {
      const { node, running_for: length } = call.status.running ?? {};
      if (!node || kinds.get(call.method) !== "compute") continue;
      for (let row = 0; row < 64; row++) {
        const name = `${node.id} ${row}`;
        if (!places.has(name)) break;
        if (taken.has(name) || (ends.get(name) ?? 0) > now - length + 0.5) continue;
        taken.add(name);
        found.push({ node: node.id, row, method: call.method, start: now - length, length, busy: length, calls: 1, failed: 0, runs: true });
        break;
      }
    }
    return found;
  }

  #fill(method, isDark) {
    return method === "several methods" ? colour("dim") : shade(method, isDark);
  }

  #axis(context, x, to, width, bottom) {
    const step = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1200].find((seconds) => (seconds / this.range) * this.width >= 80) ?? 1200;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "alphabetic";
    for (let at = Math.ceil((this.started + this.from) / step) * step; at <= this.started + to; at += step) {
      const left = Math.round(x(at - this.started)) + 0.5;
      if (left < NAMES) continue;
      context.strokeStyle = colour("line");
      context.beginPath();
      context.moveTo(left, 0);
      context.lineTo(left, bottom + 4);
      context.stroke();
      context.fillStyle = colour("dim");
      if (left < width - 50) context.fillText(new Date(at * 1000).toLocaleTimeString("en-GB"), left + 3, bottom + 14);
    }
  }

  #tell(rows, total, shown, methods, isDark) {
    RANGES.forEach(([seconds], at) => this.ranges[at].setAttribute("aria-pressed", String(seconds === this.range)));
    this.now.disabled = this.edge === null;
    const failed = shown.reduce((sum, span) => sum + span.failed, 0);
    const calls = shown.reduce((sum, span) => sum + span.calls, 0);
    const more = total > rows.length ? `, ${count(rows.length)} of ${count(total)} slots: search for a node` : "";
    setText(this.note, `${duration(this.range)}: ${counted(calls, "call")} on slots ended, ${count(failed)} with an error${more}`);
    const names = [...methods].sort((one, other) => other[1] - one[1]).slice(0, 12).map(([name]) => name);
    const key = `${names.join()} ${isDark}`;
    if (this.shownLegend === key && this.legend.children.length) return;
    this.shownLegend = key;
    this.legend.replaceChildren(
      ...names.map((name) => {
        const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
        swatch.style.background = this.#fill(name, isDark);
        return el("li", {}, swatch, name);
      }),
    );
  }
}
