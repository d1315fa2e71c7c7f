/* The list of panels, and which of them is shown: the part of the address behind the # says it. */

import { el, setText } from "./dom.js";

export class Navigation {
  #panels;
  #numbers = new Map();
  #links = new Map();
  #onShow;

  constructor(panels, onShow) {
    this.#panels = panels;
    const nav = document.getElementById("navigation");
    for (const panel of panels) {
      const number = el("span", { class: "number" });
      const link = el("a", { href: `#${panel.id}` }, panel.title, number);
      this.#numbers.set(panel.id, number);
      this.#links.set(panel.id, link);
      nav.append(link);
    }
    this.#onShow = onShow;
    addEventListener("hashchange", () => this.show());
    // The address keeps the name of the panel.
    document.querySelector("a.skip").addEventListener("click", (event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    });
  }

  /** The panel that is shown. */
  get current() {
    const id = location.hash.slice(1);
    return this.#panels.find((panel) => panel.id === id) ?? this.#panels[0];
  }

  /** Shows the panel that the address names. */
  show() {
    for (const [id, link] of this.#links) {
      if (id === this.current.id) {
        link.setAttribute("aria-current", "page");
        // In narrow windows the list is a line that scrolls.
        link.scrollIntoView({ block: "nearest", inline: "center" });
      } else link.removeAttribute("aria-current");
    }
    this.#onShow(this.current);
  }

  /** Shows a figure beside each panel that has one. */
  update(state) {
    for (const panel of this.#panels) {
      const figure = panel.figure?.(state) ?? null;
      const number = this.#numbers.get(panel.id);
      setText(number, figure === null ? "" : String(figure.text));
      number.classList.toggle("bad", Boolean(figure?.isBad));
    }
  }
}
