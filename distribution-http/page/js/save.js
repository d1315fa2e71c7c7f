/* Saves a report: the page with all that it shows, in one file. */

import { request } from "./api.js";
import { el, say } from "./dom.js";

/** Has the server make one, and the browser save it. */
export async function saveReport(button) {
  button.disabled = true;
  try {
    const file = URL.createObjectURL(await (await request("report", { patience: 300, headers: { Accept: "text/html" } })).blob());
    const at = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    el("a", { href: file, download: `cluster-${at}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(file), 60000);
    say("The report was saved. It opens from disk, and has what callers and handlers say: look before you pass it on.");
  } catch (error) {
    say(error.message, true);
  }
  button.disabled = false;
}
