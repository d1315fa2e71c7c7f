/* The history of the cluster: points that charts can draw, over ten minutes, an hour or a day. */

import { read } from "./api.js";

/** The ranges that can be chosen: seconds, name, and the resolution that has them. */
export const RANGES = [
  { seconds: 600, name: "10 min", resolution: "second" },
  { seconds: 3600, name: "1 h", resolution: "second" },
  { seconds: 86400, name: "1 d", resolution: "minute" },
];

/** Points of a minute as those of a second: numbered by seconds, with what happened in each second on average. */
export function inSeconds(points) {
  return points.map((point) => ({ ...point, number: point.number * 60 + 59, ended: point.ended / 60, failed: point.failed / 60 }));
}

/** The points of the cluster by minutes. */
export async function lastDay() {
  return inSeconds((await read("history", { resolution: "minute" })).cluster);
}
