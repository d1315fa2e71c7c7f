/* Makes elements. Text only ever becomes text: nothing here reads HTML. */

/** An element with these attributes, listeners (`onclick`) and children: elements or texts. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets a text only if it is another one, so that a selection in it stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows a sentence for some seconds. */
export function say(sentence, isBad = false) {
  const line = el("p", { class: isBad ? "bad" : null }, sentence);
  const messages = document.getElementById("messages");
  messages.append(line);
  while (messages.children.length > 4) messages.firstChild.remove();
  setTimeout(() => line.remove(), isBad ? 12000 : 6000);
}

/** A label that is small and coloured. The text alone tells what it means too. */
export function badge(text, kind = "") {
  return el("span", { class: `badge ${kind}` }, text);
}
