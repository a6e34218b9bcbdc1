// Figures as people read them. Missing is a dash, never zero.

export const UNKNOWN = "–";

function scaled(value, unit, steps) {
  const [factor, prefix] = steps.find(([factor]) => Math.abs(value) >= factor) ?? [1, ""];
  const shown = value / factor;
  const digits = factor === 1 || Math.abs(shown) >= 100 ? 0 : 1;
  return `${shown.toFixed(digits).replace("-", "−")} ${prefix}${unit}`;
}

const DECIMAL = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

export const watts = (value) => (value == null ? UNKNOWN : scaled(value, "W", DECIMAL));
export const size = (value) => (value == null ? UNKNOWN : scaled(value, "B", DECIMAL));

export function duration(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds); // before it is split, lest 119.7 s be 1 min 60 s
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function figure(value, unit) {
  switch (unit) {
    case "W": return watts(value);
    case "B": return size(value);
    case "s": return duration(value);
    case "bit/s": return scaled(value, "bit/s", DECIMAL);
    case "1": case "": return String(Number(value.toPrecision(3)));
    default: return `${Number(value.toPrecision(3))} ${unit}`;
  }
}

export const words = (state) => (state == null ? UNKNOWN : state.replaceAll("_", " "));
/** The time in UTC; with the day where that is not today's. */
export function clock(instant, now) {
  if (instant == null) return UNKNOWN;
  const [day, time] = new Date(instant).toISOString().split("T");
  return day === new Date(now).toISOString().slice(0, 10) ? time.slice(0, 8) : `${day.slice(5)} ${time.slice(0, 5)}`;
}

export const secondsUntil = (instant, now) => (Date.parse(instant) - Date.parse(now)) / 1000;
