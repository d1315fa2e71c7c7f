/* A table that is brought up to date in place: rows keep their focus, their place and what is open. */

import { el, setText } from "./dom.js";

/**
 * A column: `title`, `text(row)`; optionally `sort(row)`, `class`, `kind(row)` for a badge, `part(row)` for a bar from 0 to 1.
 * The first column is the row's head. `facts(row)` gives `[name, text]` pairs for an open row, `extra(row)` something with an
 * `element` that is shown below them and keeps itself up to date, and `actions(row)` what may be done with the row.
 */
export class Table {
  #columns;
  #key;
  #facts;
  #actions;
  #extra;
  #rows = new Map();
  #body = el("tbody");
  #heads = [];
  #empty;
  #nothing;
  #table;
  #sorted = null;
  #last = [];

  constructor({ caption, columns, key, facts = null, extra = null, actions = null, empty }) {
    this.#columns = columns;
    this.#key = key;
    this.#facts = facts;
    this.#actions = actions;
    this.#extra = extra;
    const heads = columns.map((column, at) => {
      const sort = column.sort && el("button", { type: "button", onclick: () => this.#sortBy(at) }, column.title);
      const head = el("th", { scope: "col", class: column.class }, sort || column.title);
      this.#heads.push(head);
      return head;
    });
    if (actions) heads.push(el("th", { scope: "col", class: "wide-only" }, el("span", { class: "visually-hidden" }, "Actions")));
    this.#table = el("table", {}, el("caption", { class: "visually-hidden" }, caption), el("thead", {}, el("tr", {}, ...heads)), this.#body);
    this.#nothing = empty;
    this.#empty = el("p", { class: "empty" }, "Reading…");
    this.#table.hidden = true;
    const isStacked = columns.some((column) => column.class?.split(" ").includes("grow"));
    this.element = el("div", { class: isStacked ? "table stacked" : "table" }, this.#table, this.#empty);
  }

  #sortBy(at) {
    const isSame = this.#sorted?.at === at;
    this.#sorted = isSame && this.#sorted.descending ? null : { at, descending: isSame };
    this.#heads.forEach((head, index) => {
      if (this.#sorted?.at === index) head.setAttribute("aria-sort", this.#sorted.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.update(this.#last);
  }

  #inOrder(rows) {
    if (!this.#sorted) return rows;
    const value = this.#columns[this.#sorted.at].sort;
    const sign = this.#sorted.descending ? -1 : 1;
    return [...rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
  }

  /** The key of each row. Rows that are alike are numbered from the last one, where lists do not grow. */
  #keysOf(rows) {
    const seen = new Map();
    const keys = new Map();
    for (const row of rows.toReversed()) {
      const key = this.#key(row);
      const number = (seen.get(key) ?? 0) + 1;
      seen.set(key, number);
      keys.set(row, number === 1 ? key : `${key} ${number}`);
    }
    return keys;
  }

  /** Moves a row behind all others, and returns the one that came after it. */
  #putLast(row) {
    const next = row.nextSibling;
    this.#body.append(row);
    return next;
  }

  update(rows) {
    this.#last = rows;
    const keys = this.#keysOf(rows);
    const known = new Set(keys.values());
    for (const [key, row] of this.#rows) {
      if (known.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    let place = this.#body.firstChild;
    for (const data of this.#inOrder(rows)) {
      const key = keys.get(data);
      let row = this.#rows.get(key);
      if (!row) {
        row = new Row(this.#columns, this.#facts, this.#actions, this.#extra);
        this.#rows.set(key, row);
      }
      row.update(data);
      for (const node of row.nodes()) {
        // A row that is moved loses the focus: then those before it go behind it, and find their places later.
        if (node !== place && node.contains(document.activeElement)) while (place !== node) place = this.#putLast(place);
        if (node === place) place = place.nextSibling;
        else this.#body.insertBefore(node, place);
      }
    }
    this.#table.hidden = rows.length === 0;
    this.#empty.hidden = rows.length > 0;
    setText(this.#empty, this.#nothing);
  }
}

class Row {
  #columns;
  #facts;
  #actions;
  #extra;
  #data = null;
  #cells;
  #tr;
  #toggle = null;
  #detail = null;
  #list = el("dl", { class: "facts" });
  #buttons = [];

  constructor(columns, facts, actions, extra) {
    this.#columns = columns;
    this.#facts = facts;
    this.#actions = actions;
    this.#extra = extra;
    this.#cells = columns.map((column, at) => cell(column, at === 0));
    if (facts) {
      this.#toggle = el("button", { type: "button", class: "open", "aria-expanded": "false", onclick: () => this.#open() });
      this.#cells[0].node.append(this.#toggle);
      this.#cells[0].text = this.#toggle;
    }
    this.#tr = el("tr", { class: "row" }, ...this.#cells.map(({ node }) => node));
    if (actions) this.#tr.append(el("td", { class: "actions wide-only" }, this.#group()));
  }

  nodes() {
    return this.#detail ? [this.#tr, this.#detail] : [this.#tr];
  }

  remove() {
    for (const node of this.nodes()) node.remove();
  }

  #group(extra = "") {
    const group = el("div", { class: `buttons ${extra}` });
    this.#buttons.push({ group, shown: "" });
    return group;
  }

  #open() {
    const isOpen = !this.#detail;
    this.#toggle.setAttribute("aria-expanded", String(isOpen));
    this.#tr.classList.toggle("opened", isOpen);
    if (!isOpen) {
      this.#detail.remove();
      this.#detail = null;
      this.#list = el("dl", { class: "facts" });
      this.#buttons.length = this.#actions ? 1 : 0;
      return;
    }
    const width = this.#columns.length + (this.#actions ? 1 : 0);
    this.#detail = el("tr", { class: "detail" }, el("td", { colspan: width }, this.#list, this.#extra?.(this.#data).element, this.#actions && this.#group("narrow-only")));
    this.#tr.after(this.#detail);
    this.update(this.#data);
  }

  update(data) {
    this.#data = data;
    this.#columns.forEach((column, at) => {
      const { text, bar } = this.#cells[at];
      setText(text, column.text(data));
      if (column.kind) text.className = `badge ${column.kind(data)}`;
      if (bar) bar.style.width = `${Math.round(Math.min(1, Math.max(0, column.part(data))) * 100)}%`;
    });
    this.#updateButtons();
    if (this.#detail) this.#updateFacts();
  }

  /** The buttons stay the same elements while what can be done stays the same. */
  #updateButtons() {
    if (!this.#actions) return;
    const actions = this.#actions(this.#data);
    const shown = actions.map(({ label }) => label).join();
    for (const place of this.#buttons) {
      if (place.shown === shown) continue;
      place.shown = shown;
      place.group.replaceChildren(
        ...actions.map(({ label, danger }) => {
          const run = () => this.#actions(this.#data).find((action) => action.label === label)?.run();
          return el("button", { type: "button", class: `small ${danger ? "danger" : ""}`, onclick: run }, label);
        }),
      );
    }
  }

  #updateFacts() {
    const facts = this.#facts(this.#data).filter(([, text]) => text !== null && text !== "");
    const [names, texts] = [this.#list.querySelectorAll("dt"), this.#list.querySelectorAll("dd")];
    const isSame = names.length === facts.length && facts.every(([name], at) => names[at].textContent === name);
    if (isSame) facts.forEach(([, text], at) => setText(texts[at], text));
    else this.#list.replaceChildren(...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  }
}

function cell(column, isHead) {
  const text = column.kind || column.part ? el("span") : null;
  const bar = column.part ? el("span") : null;
  const node = el(isHead ? "th" : "td", { scope: isHead ? "row" : null, class: column.class });
  if (bar) node.append(el("span", { class: "bar", "aria-hidden": "true" }, bar));
  if (text) node.append(text);
  return { node, text: text ?? node, bar };
}
