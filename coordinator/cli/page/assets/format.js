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
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
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
export const clock = (instant) => (instant == null ? UNKNOWN : new Date(instant).toISOString().slice(11, 19));
export const secondsUntil = (instant, now) => (Date.parse(instant) - Date.parse(now)) / 1000;
