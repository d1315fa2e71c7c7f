/* Who looks: the token, which this tab keeps, and what may be done with it. */

const KEY = "distribution.token";

/** What the server has said of us: role, name, whether it demands a token. */
export const session = { role: null, name: "", demandsToken: false };

export function token() {
  return sessionStorage.getItem(KEY);
}

export function keepToken(text) {
  // What a terminal shows has the name of the variable in front.
  sessionStorage.setItem(KEY, text.trim().replace(/^DISTRIBUTION_TOKEN=/, ""));
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
  session.role = null;
}

export function mayChange() {
  return session.role === "admin";
}
