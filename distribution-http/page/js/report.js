/* A report: the page in one file, with all that it shows inside. What the live page asks its server for is read from there. */

function inside(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}

/** What the report has, or `null` in the live page. */
export const report = inside("report");

/** The profile of a node, if this file is of one. */
export const profile = inside("profile");

/** All texts in a value, in lower case. */
function texts(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return Object.values(value).map(texts).join("\n");
  return String(value).toLowerCase();
}

/** Whether a method is the one that is wanted, or one of the service that is wanted. */
function isOf(method, wanted) {
  return !wanted || method === wanted || (method ?? "").startsWith(`${wanted}.`);
}

function calls({ method, node, status, older_than: age }) {
  const { running, waiting, stopping } = report.parts;
  const all = [...running.running, ...waiting.waiting, ...stopping.stopping];
  const found = all.filter((call) => {
    const [name, of] = Object.entries(call.status)[0];
    if (!isOf(call.method, method) || (status && name !== status) || call.age < Number(age || 0)) return false;
    return !node || of.node?.name === node || of.node?.id === node;
  });
  return { calls: found.sort((one, other) => other.age - one.age), next: null };
}

const LEVELS = ["trace", "debug", "info", "warn", "error"];

function logs({ node, method, call, level, contains, limit = 2000 }) {
  const found = report.logs.filter((record) => {
    if (node && record.node.name !== node && record.node.id !== node) return false;
    if (!isOf(record.method, method) || (call && record.call !== call)) return false;
    if (level && LEVELS.indexOf(record.level) < LEVELS.indexOf(level)) return false;
    return !contains || `${record.message} ${record.fields}`.includes(contains);
  });
  return { logs: found.slice(-limit) };
}

function history({ resolution = "second", node, from = 0 }) {
  const all = report.history[resolution];
  if (!node) return all;
  const points = (report.history.nodes[resolution][node] ?? []).map(([number, ended, failed, busy, cpu, memory, lag]) => ({ number, ended, failed, busy, cpu, memory, lag }));
  return { ...all, cluster: [], nodes: [{ id: node, points: points.filter((point) => point.number >= from) }] };
}

/** What a server would answer. */
export function recall(path, parameters) {
  if (path === "calls") return calls(parameters);
  if (path === "logs") return logs(parameters);
  if (path === "history") return history(parameters);
  if (path === "timeline") return { ...report.timeline, has_more: false };
  const list = report.parts[path];
  const wanted = (parameters.q ?? "").toLowerCase();
  if (!wanted) return list;
  const rows = list[path].filter((row) => texts(row).includes(wanted));
  return { [path]: rows, total: rows.length };
}

/** What was left out of the report, and how large one may be. */
export function limits() {
  const rule = "A report has at most 40 MiB: 2,000 rows of each list, 60,000 bars of the task stream, 5,000 log records, 1,000 events, and the load of 250 nodes.";
  return report.left_out.length ? `Left out: ${report.left_out.join("; ")}. ${rule}` : "";
}
