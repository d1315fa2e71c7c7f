/* The event stream, read with fetch, because an EventSource cannot send a token. */

import { Refused, request } from "./api.js";

/** In milliseconds: the server says something every ten seconds, so a longer silence is a connection that hangs. */
const SILENCE = 25000;

/** How long a hidden page goes on: a browser has six connections to a server, for all its tabs. */
const HIDDEN = 10000;

const PAUSED = new Error("paused");

/** Waits until the page is seen. */
function seen() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });
}

/**
 * Reads events until the stream ends or fails, and connects again. Calls `onEvent(name, data)`, `onState("live" | "lost",
 * sentence)`, and `onRefused(error)` once if the token is not accepted, which ends it. Returns what ends it.
 */
export function follow({ onEvent, onState, onRefused }) {
  const ended = new AbortController();
  let connection = new AbortController();
  let hiding = null;
  let wait = 1000;

  function onVisibility() {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => connection.abort(PAUSED), HIDDEN);
  }

  async function once() {
    connection = new AbortController();
    const { signal } = connection;
    // It may be hidden since before.
    onVisibility();
    let silence = null;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => connection.abort(new Refused(0, `Nothing has come from the server for ${SILENCE / 1000} s.`)), SILENCE);
    };
    heard();
    try {
      const response = await request("stream", { patience: null, signal: AbortSignal.any([ended.signal, signal]), headers: { Accept: "text/event-stream" } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      onState("live", "Live");
      wait = 1000;
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        heard();
        rest += value;
        let end;
        while ((end = rest.indexOf("\n\n")) >= 0) {
          dispatch(rest.slice(0, end));
          rest = rest.slice(end + 2);
        }
      }
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      clearTimeout(silence);
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

  async function run() {
    while (!ended.signal.aborted) {
      let why = "The connection has ended.";
      try {
        await once();
      } catch (error) {
        if (ended.signal.aborted) return;
        if (error === PAUSED) {
          onState("lost", "Paused while this tab is hidden.");
          await seen();
          continue;
        }
        if (error.status === 401 || error.status === 403) return onRefused(error);
        why = error instanceof Refused ? error.message : "The server cannot be reached.";
      }
      if (ended.signal.aborted) return;
      onState("lost", `${why} Trying again.`);
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 1.6, 10000);
    }
  }

  document.addEventListener("visibilitychange", onVisibility, { signal: ended.signal });
  run();
  return () => {
    clearTimeout(hiding);
    ended.abort();
  };
}
