/* Starts the page: finds out who looks, reads the event stream, and keeps the panel that is shown up to date. */

import { identify, read } from "./api.js";
import { setUpCanvases } from "./chart.js";
import { el, setText } from "./dom.js";
import { clock, moment } from "./format.js";
import { Flame } from "./flame.js";
import { Navigation } from "./navigation.js";
import { callers } from "./panels/callers.js";
import { Calls } from "./panels/calls.js";
import { Events } from "./panels/events.js";
import { Failures } from "./panels/failures.js";
import { Logs } from "./panels/logs.js";
import { methods } from "./panels/methods.js";
import { nodes } from "./panels/nodes.js";
import { Overview } from "./panels/overview.js";
import { Runs } from "./panels/runs.js";
import { services } from "./panels/services.js";
import { Tasks } from "./panels/tasks.js";
import { limits, profile, report } from "./report.js";
import { saveReport } from "./save.js";
import { forgetToken, keepToken, session, token } from "./session.js";
import { follow } from "./stream.js";
import { setUpTheme } from "./theme.js";

/** Each panel has `id`, `title`, `build()`, `update(state)`, and may have `leave()` and `figure(state)`. */
const PANELS = [new Overview(), nodes(), new Calls(), new Runs(), new Tasks(), methods(), new Failures(), new Logs(), services(), callers(), new Events()];

/** The newest of each part that the stream has brought. */
const state = {};

const byId = (id) => document.getElementById(id);
let shown = null;
let stop = null;
let isPlanned = false;
/** Whether we know who looks: before that no panel asks for anything. */
let isIn = false;

const navigation = new Navigation(PANELS, show);

function show(panel) {
  if (!isIn) return;
  shown?.leave?.();
  shown = panel;
  byId("panel").replaceChildren(panel.build());
  document.title = `${panel.title} – cluster`;
  panel.update(state);
}

/** Several parts come together, and a hidden page need not be drawn. */
function plan() {
  if (isPlanned) return;
  isPlanned = true;
  const draw = () => {
    isPlanned = false;
    navigation.update(state);
    shown?.update(state);
    showTrouble();
    if (state.status) setText(byId("title"), `Cluster ${state.status.status.addr}`);
  };
  if (document.hidden) setTimeout(draw, 1000);
  else requestAnimationFrame(draw);
}

/** How many seconds of the history are kept. */
const POINTS = 3600;

/** Takes the newest seconds. Those that are missing are asked for: the ones before, and what passed while nothing came. */
function remember({ started, points }) {
  const isNew = state.history?.started !== started;
  if (isNew) state.history = { started, points: [] };
  const last = state.history.points.at(-1)?.number ?? Infinity;
  state.history.points = merged(state.history.points, points);
  if (isNew || points[0]?.number > last + 1) askForHistory();
}

function askForHistory() {
  read("history").then(
    (history) => {
      if (state.history?.started !== history.started) return;
      state.history.points = merged(history.cluster, state.history.points);
      plan();
    },
    () => {},
  );
}

/** The points of both, in their order, without those that are too old. */
function merged(one, other) {
  const points = new Map([...one, ...other].map((point) => [point.number, point]));
  return [...points.values()].sort((a, b) => a.number - b.number).slice(-POINTS);
}

/** What has changed of a part that we have: fields, and those of rows by their places. */
function applyChange({ part, set, rows, length }) {
  const known = state[part];
  if (!known) return;
  const list = known[part].slice(0, length);
  for (const [place, fields] of rows) list[place] = { ...list[place], ...fields };
  state[part] = { ...known, ...set, [part]: list };
}

function showTrouble() {
  const { sentence, since } = state.trouble ?? {};
  const line = byId("trouble");
  line.hidden = !sentence;
  if (sentence) setText(line, `The master cannot be read: ${sentence}.${since ? ` What is shown is from ${clock(since)}.` : ""}`);
}

function showConnection(kind, sentence) {
  const line = byId("connection");
  line.className = `connection ${kind}`;
  setText(line, sentence);
}

function showWho() {
  const isViewer = session.role === "viewer";
  setText(byId("who"), session.role ? `${session.name}${isViewer ? ": may look, and change nothing" : ""}` : "");
  byId("save").hidden = !session.role;
  byId("logout").hidden = !session.demandsToken || !session.role;
}

function showLogin(reason) {
  stop?.();
  stop = null;
  for (const key of Object.keys(state)) delete state[key];
  const hadToken = Boolean(token());
  forgetToken();
  showWho();
  showConnection("", "Not logged in");
  isIn = false;
  shown?.leave?.();
  shown = null;
  byId("panel").replaceChildren();
  byId("trouble").hidden = true;
  byId("login").hidden = false;
  setText(byId("login-reason"), hadToken ? reason : "");
  byId("token").focus();
}

async function begin() {
  try {
    await identify();
  } catch (error) {
    if (error.status === 401 || error.status === 429) return showLogin(error.message);
    showConnection("lost", `${error.message} Trying again.`);
    setTimeout(begin, 2000);
    return;
  }
  byId("login").hidden = true;
  showWho();
  isIn = true;
  if (!shown) navigation.show();
  stop?.();
  stop = follow({
    onEvent(name, data) {
      if (name === "revoked") return showLogin("This token was revoked.");
      if (name === "history") remember(data);
      else if (name === "change") applyChange(data);
      else state[name] = data;
      plan();
    },
    onState(kind, sentence) {
      const from = kind === "lost" && state.status ? ` What is shown is from ${clock(state.status.at)}.` : "";
      showConnection(kind, sentence + from);
    },
    onRefused: (error) => showLogin(error.message),
  });
}

function listen() {
  byId("login").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(byId("token").value);
    byId("token").value = "";
    begin();
  });
  byId("logout").addEventListener("click", () => {
    forgetToken();
    showLogin("");
  });
  byId("save").addEventListener("click", () => saveReport(byId("save")));
}

/** Shows a report: everything is there, and nothing comes. */
function showReport() {
  Object.assign(state, report.parts);
  const { started, cluster } = report.history.second;
  state.history = { started, points: cluster };
  isIn = true;
  navigation.show();
  showConnection("", `Report of the master ${report.parts.status.status.addr}, made ${moment(report.made)}. Nothing here is live.`);
  const left = limits();
  if (left) byId("panel").before(el("p", { class: "dim" }, left));
  plan();
}

/** Shows the file of a profile: nothing else is in it. */
function showProfile() {
  document.title = `Profile of ${profile.name}`;
  setText(byId("title"), document.title);
  showConnection("", "Nothing here is live.");
  document.body.classList.add("alone");
  byId("panel").replaceChildren(new Flame(profile).element);
}

setUpTheme();
setUpCanvases();
if (report) showReport();
else if (profile) showProfile();
else {
  listen();
  begin();
}
