/* Requests to the server. The token goes in a header: never in an address, never in a cookie. */

import { recall, report } from "./report.js";
import { session, token } from "./session.js";

/** What the server refuses, with its sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** How many seconds the server may take. It ends most requests after 15. */
const PATIENCE = 20;

/** The server's answer to a request, or an error with its sentence. `patience` is in seconds, `null` for what has no end. */
export async function request(path, { patience = PATIENCE, signal: ended, ...options } = {}) {
  const late = patience === null ? null : AbortSignal.timeout(patience * 1000);
  const signal = AbortSignal.any([ended, late].filter(Boolean));
  const headers = { Accept: "application/json", ...options.headers };
  const ours = token();
  if (ours) headers.Authorization = `Bearer ${ours}`;
  let response;
  try {
    response = await fetch(`api/${path}`, { ...options, signal, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (ended?.aborted) throw error;
    if (late?.aborted) throw new Refused(0, `The server has not answered for ${patience} s. A browser has six connections to a server: are there many tabs?`);
    throw new Refused(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  let sentence = `The server answered with ${response.status}.`;
  try {
    sentence = (await response.json()).error ?? sentence;
  } catch {
    // Not from the page's server, but from something between.
  }
  throw new Refused(response.status, sentence);
}

/** Reads a list or an object. Parameters that are empty are left out. */
export async function read(path, parameters = {}) {
  if (report) return recall(path, parameters);
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return (await request(query.size ? `${path}?${query}` : path)).json();
}

/** Changes something. A request that the server has not answered in time is given up: it must not be carried out later. */
export async function change(path, body = undefined, patience = PATIENCE) {
  const options = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await request(path, { method: "POST", patience, ...options })).json();
}

/** Asks who we are, and remembers it. */
export async function identify() {
  const me = await read("me");
  session.role = me.role;
  session.name = me.name;
  session.demandsToken = me.demands_token;
}
