/* Draws lines over time on a canvas: a figure for each second, the newest at the right. */

import { el, setText } from "./dom.js";
import { duration } from "./format.js";

/** A colour of the style sheet, as it is now. */
export function colour(name) {
  const probe = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const pair = /^light-dark\(([^,]+),\s*([^)]+)\)$/.exec(probe);
  if (!pair) return probe;
  return isDarkNow() ? pair[2] : pair[1];
}

/** Whether the page is dark now. */
export function isDarkNow() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** A canvas does not follow the style sheet: tells each when colours or the width of the window have changed. */
export function setUpCanvases() {
  const tell = () => document.querySelectorAll("canvas").forEach((canvas) => canvas.dispatchEvent(new Event("redraw")));
  addEventListener("themechange", tell);
  addEventListener("resize", tell);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
}

/** Makes a canvas as sharp as the screen, and gives its context with sizes in CSS pixels. */
export function prepare(canvas, height) {
  const width = canvas.parentElement.clientWidth;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** In pixels. */
const HEIGHT = 84;

/** `series`: `{ key(point), colour, name }`. The first one is filled. `show(value)` writes a value. */
export class Chart {
  #canvas = el("canvas", { role: "img" });
  #now = el("span", { class: "dim" });
  #series;
  #show;
  #seconds;
  #title;
  #points = [];

  constructor({ title, series, show, seconds = 600 }) {
    this.#series = series;
    this.#show = show;
    this.#seconds = seconds;
    this.#title = title;
    this.#canvas.addEventListener("redraw", () => this.#draw());
    this.element = el("figure", { class: "chart" }, el("figcaption", {}, el("span", {}, title), this.#now), el("div", { class: "plot" }, this.#canvas));
  }

  /** Draws this many seconds from now on. */
  set range(seconds) {
    this.#seconds = seconds;
  }

  update(points) {
    this.#points = points;
    this.#draw();
  }

  #draw() {
    const points = this.#points;
    if (!this.#canvas.isConnected) return;
    if (!points.length) {
      prepare(this.#canvas, HEIGHT);
      setText(this.#now, "");
      this.#canvas.setAttribute("aria-label", `${this.#title}: nothing was measured yet`);
      return;
    }
    const last = points.at(-1);
    const said = this.#series.map(({ name, key }) => `${name} ${this.#show(key(last))}`).join(", ");
    setText(this.#now, said);
    const { context, width, height } = prepare(this.#canvas, HEIGHT);
    // A young cluster is not drawn in a corner.
    const seconds = Math.min(this.#seconds, Math.max(60, last.number - points[0].number));
    const from = last.number - seconds;
    const shown = points.filter((point) => point.number >= from);
    const most = Math.max(1, ...shown.flatMap((point) => this.#series.map(({ key }) => key(point))));
    this.#canvas.setAttribute("aria-label", `${this.#title}, last ${duration(seconds)}. Now: ${said}. Most: ${this.#show(most)}`);
    const [top, bottom] = [14, height - 2];
    const x = (point) => ((point.number - from) / seconds) * width;
    const y = (value) => bottom - (value / most) * (bottom - top);
    context.strokeStyle = colour("line");
    context.beginPath();
    context.moveTo(0, bottom + 0.5);
    context.lineTo(width, bottom + 0.5);
    context.moveTo(0, top + 0.5);
    context.lineTo(width, top + 0.5);
    context.stroke();
    this.#series.forEach(({ key, colour: name }, at) => {
      context.beginPath();
      shown.forEach((point, index) => (index ? context.lineTo(x(point), y(key(point))) : context.moveTo(x(point), y(key(point)))));
      context.strokeStyle = colour(name);
      context.lineWidth = 1.5;
      context.stroke();
      if (at === 0 && shown.length > 1) {
        context.lineTo(x(shown.at(-1)), bottom);
        context.lineTo(x(shown[0]), bottom);
        context.globalAlpha = 0.15;
        context.fillStyle = colour(name);
        context.fill();
        context.globalAlpha = 1;
      }
    });
    context.fillStyle = colour("dim");
    context.font = "11px system-ui, sans-serif";
    context.fillText(this.#show(most), 2, 10);
  }
}
