/* The event stream, read with fetch, because an EventSource cannot send a token. */

import { request } from "./api.js";

/**
 * Reads events until the stream ends or fails, and connects again. Calls `onEvent(name, data)`, `onState("live" | "lost",
 * sentence)`, and `onRefused(error)` once if the token is not accepted, which ends it.
 */
export function follow({ onEvent, onState, onRefused }) {
  const aborted = new AbortController();
  let wait = 1000;

  async function once() {
    const response = await request("stream", { signal: aborted.signal, headers: { Accept: "text/event-stream" } });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    onState("live", "Live");
    wait = 1000;
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      let end;
      while ((end = rest.indexOf("\n\n")) >= 0) {
        dispatch(rest.slice(0, end));
        rest = rest.slice(end + 2);
      }
    }
  }

  function dispatch(block) {
    let name = "message";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (data) onEvent(name, JSON.parse(data));
  }

  (async () => {
    while (!aborted.signal.aborted) {
      let why = "The connection has ended.";
      try {
        await once();
      } catch (error) {
        if (aborted.signal.aborted) return;
        if (error.status === 401 || error.status === 403) return onRefused(error);
        why = error.status ? error.message : "The server cannot be reached.";
      }
      if (aborted.signal.aborted) return;
      onState("lost", `${why} Trying again.`);
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 1.6, 10000);
    }
  })();

  return () => aborted.abort();
}
