/* Numbers as people read them: "3 m 12 s", "1.2 GiB", "38,827". */

const WHOLE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** A count: `38,827`. */
export function count(number) {
  return WHOLE.format(number ?? 0);
}

/** A count with its noun: `1 call`, `2 calls`. */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Something per second. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  if (perSecond > 0 && perSecond < 10) return perSecond.toFixed(1);
  return count(perSecond);
}

/** A time in seconds: `340 µs`, `12 ms`, `4.2 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const pair = (large, small, divisor, unit) => `${Math.floor(whole / divisor)} ${large} ${Math.floor((whole % divisor) / unit)} ${small}`;
  if (whole < 3600) return pair("m", "s", 60, 1);
  if (whole < 86400) return pair("h", "m", 3600, 60);
  return pair("d", "h", 86400, 3600);
}

/** Bytes: `120 B`, `1.2 GiB`. */
export function size(bytes) {
  let value = bytes ?? 0;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024 || unit === "TiB") return unit === "B" || value >= 100 ? `${Math.round(value)} ${unit}` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
}

/** A part of one: `34 %`. What is not all is not 100 %. */
export function percent(part) {
  return `${part < 1 ? Math.min(99, Math.round(part * 100)) : Math.round(part * 100)} %`;
}

/** A date and a time that mean the same everywhere, from seconds since 1970: `2026-01-31 12:30:05 UTC`. */
export function moment(seconds) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** A time of the day, from seconds since 1970; with the date if it is not today. */
export function clock(seconds) {
  const at = new Date(seconds * 1000);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}
