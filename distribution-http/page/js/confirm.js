/* Asks before something is done that cannot be undone. */

import { change } from "./api.js";
import { say } from "./dom.js";

function ask(title, text, yes) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  const [no, ok] = ["confirm-no", "confirm-yes"].map((id) => document.getElementById(id));
  ok.textContent = yes;
  return new Promise((resolve) => {
    // Not by `close`: the browser tells of it later, when the dialog may be open again, with another question.
    const answer = (isYes) => {
      dialog.close();
      resolve(isYes);
    };
    ok.onclick = () => answer(true);
    no.onclick = () => answer(false);
    // The key Escape.
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
    no.focus();
  });
}

/** A button's action: asks if there is a `question`, sends the request, and says what came of it. */
export function action({ label, danger = false, question = null, path, done }) {
  return {
    label,
    danger,
    async run() {
      if (question && !(await ask(question.title, question.text, label))) return;
      try {
        await change(path);
        say(done);
      } catch (error) {
        say(error.message, true);
      }
    },
  };
}
