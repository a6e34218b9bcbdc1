// One snapshot of the fleet as tables.

import { byId, el, fillTable, number, right, settle, svg } from "./dom.js";
import { UNKNOWN, clock, duration, secondsUntil, size, watts, words } from "./format.js";

const SHOWN_JOBS = 200;
const TREND_POINTS = 600;
const TREND_LEAST = 60;
const TREND_WIDTH = 120;
const ROW_HEIGHT = 24;
const OVER = new Set(["completed", "failed", "cancelled"]);

/** What each site had in the last snapshots: [{surplus, compute}], oldest first. */
const trends = new Map();

export function showFleet(snapshot, act) {
  const names = new Map(snapshot.jobs.map((job) => [job.job_id, job.spec.name]));
  byId("at").textContent = `${clock(snapshot.at, snapshot.at)} UTC · policy ${snapshot.policy}`;
  byId("link").textContent = "";
  showTotals(snapshot);
  showSites(snapshot, names, act);
  showJobs(snapshot.jobs, act);
  showMigrations(snapshot, names, act);
}

export function showWarnings(warnings) {
  byId("attention").hidden = warnings.length === 0;
  settle(byId("warnings"), warnings.map((warning) => el("li", {}, warning)));
}

export function showJobs(jobs, act) {
  const wanted = byId("filter").value.trim().toLowerCase();
  const found = jobs.filter((job) =>
    [job.job_id, job.spec.name, job.owner_site, words(job.state)].some((text) => text.toLowerCase().includes(wanted)));
  const running = (job) => Number(OVER.has(job.state));
  const shown = found.toSorted((one, other) => running(one) - running(other)).slice(0, SHOWN_JOBS);
  byId("more").textContent = found.length > shown.length ? `${shown.length} of ${found.length}` : "";
  fillTable(
    byId("jobs"),
    ["job", "state", "site", right("step"), right("moves"), right("checkpoint"), "note", ""],
    shown.map((job) => [
      el("td", {}, jobLink(job.job_id, job.spec.name, act), " ", el("small", {}, job.job_id.slice(0, 8))),
      state(job.state),
      job.owner_site || UNKNOWN,
      number(job.step == null ? UNKNOWN : job.step.toLocaleString("en")),
      number(String(job.migrations)),
      number(size(job.checkpoint?.size_bytes || job.spec.checkpoint_bytes || null)),
      note(job.message),
      OVER.has(job.state) ? "" : button("End", job.spec.name, job.job_id, () => act.end(job)),
    ]),
    wanted ? "no job fits" : "no jobs: sterna job submit FILE",
  );
}

function showTotals({ sites, jobs, migrations }) {
  const count = (wanted) => jobs.filter((job) => job.state === wanted).length;
  const sum = (key) => {
    const known = sites.map((site) => site.telemetry?.[key]).filter((value) => value != null);
    return known.length ? watts(known.reduce((one, other) => one + other, 0)) : UNKNOWN;
  };
  const heard = sites.filter((site) => site.connected).length;
  const moving = migrations.filter((one) => one.ended_at == null).length;
  const figures = {
    surplus: sum("surplus_w"),
    compute: sum("compute_w"),
    sites: `${heard} of ${sites.length}`,
    running: count("running"),
    queued: count("queued"),
    moving,
  };
  byId("totals").replaceChildren(
    ...Object.entries(figures).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
}

function showSites({ sites, at }, names, act) {
  for (const site of sites) remember(site);
  const most = Math.max(1, ...sites.map((site) => Math.max(site.telemetry?.surplus_w ?? 0, site.telemetry?.compute_w ?? 0)));
  const batteries = sites.some((site) => site.telemetry?.battery);
  fillTable(
    byId("sites"),
    ["site", "surplus and compute", "lately", right("surplus"), right("compute"), right("grid"), ...(batteries ? [right("battery")] : []), "limit", "window", right("slots"), "jobs", ""],
    sites.map((site) => [
      el("td", {}, el("b", {}, site.site_id), " ", standing(site, at)),
      bars(site.telemetry, most),
      trend(site.site_id, most),
      number(watts(site.telemetry?.surplus_w)),
      number(watts(site.telemetry?.compute_w)),
      number(watts(site.telemetry?.grid_w)),
      ...(batteries ? [number(charge(site.telemetry))] : []),
      limits(site.grid_status, at),
      el("td", {}, left(site, at), " ", el("small", {}, site.forecast_source)),
      number(`${site.job_ids.length}/${site.capabilities?.slots ?? UNKNOWN}`),
      el("td", { class: "jobs" }, site.job_ids.flatMap((id, index) => [index ? ", " : "", jobLink(id, names.get(id), act)])),
      site.draining || site.fenced
        ? button("Resume", site.site_id, site.site_id, () => act.resume(site))
        : button("Drain", site.site_id, site.site_id, () => act.drain(site)),
    ]),
    "no sites",
  );
}

function showMigrations({ migrations, at }, names, act) {
  fillTable(
    byId("migrations"),
    ["job", "from", "to", "state", "sent", right("downtime"), right("foreseen"), "planned", "why"],
    migrations.map((one) => [
      jobLink(one.job_id, names.get(one.job_id), act),
      one.source_site || UNKNOWN,
      one.destination_site,
      state(one.state),
      sent(one),
      number(duration(one.downtime_s)),
      number(duration(one.predicted_s)),
      clock(one.planned_at, at),
      note(one.failure || one.reason),
    ]),
    "none yet",
  );
}

function remember(site) {
  const points = trends.get(site.site_id) ?? [];
  points.push({ surplus: site.telemetry?.surplus_w, compute: site.telemetry?.compute_w });
  trends.set(site.site_id, points.slice(-TREND_POINTS));
}

/** How full the batteries of a site are, and what they take (+) or give (-). */
function charge(telemetry) {
  const { soc_frac: full, capacity_wh: capacity } = telemetry?.battery ?? {};
  const power = telemetry?.battery_w;
  if (full == null) return UNKNOWN;
  const held = capacity == null ? "" : ` of ${(capacity / 1000).toFixed(1)} kWh`;
  return `${Math.round(100 * full)} %${held}${power ? `, ${power > 0 ? "+" : ""}${watts(power)}` : ""}`;
}

function bars(telemetry, most) {
  const bar = (value, kind, y) =>
    svg("rect", { class: kind, y, height: 9, width: value == null ? 0 : (TREND_WIDTH * Math.max(0, value)) / most });
  const label = `surplus ${watts(telemetry?.surplus_w)}, compute ${watts(telemetry?.compute_w)}`;
  return svg("svg", { width: TREND_WIDTH, height: ROW_HEIGHT, role: "img", "aria-label": label },
    bar(telemetry?.surplus_w, "surplus", 2), bar(telemetry?.compute_w, "compute", 13));
}

function trend(siteId, most) {
  const points = trends.get(siteId);
  const highest = Math.max(most, ...points.flatMap((point) => [point.surplus ?? 0, point.compute ?? 0]));
  // A gap where nothing was known: a line through it would be a guess.
  const line = (kind) => points.reduce(({ path, on }, point, index) => {
    if (point[kind] == null) return { path, on: false };
    const x = TREND_WIDTH - ((points.length - 1 - index) * TREND_WIDTH) / (Math.max(points.length, TREND_LEAST) - 1);
    const y = ROW_HEIGHT - 1 - ((ROW_HEIGHT - 2) * Math.max(0, point[kind])) / highest;
    return { path: `${path}${on ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`, on: true };
  }, { path: "", on: false }).path;
  return svg("svg", { width: TREND_WIDTH, height: ROW_HEIGHT, class: "trend", "aria-hidden": "true" },
    ["surplus", "compute"].map((kind) => svg("path", { class: kind, d: line(kind) })));
}

function standing(site, now) {
  if (site.fenced) return el("span", { class: "state failed" }, "fenced");
  if (!site.connected) return site.last_seen_at
    ? el("span", { class: "state failed" }, `silent since ${clock(site.last_seen_at, now)}`)
    : el("span", { class: "state moving" }, "not heard yet");
  if (["stale", "bad"].includes(site.telemetry?.quality)) return el("span", { class: "state failed" }, `power ${site.telemetry.quality}`);
  return site.draining ? el("span", { class: "state moving" }, "draining") : "";
}

function limits(status, now) {
  const said = (limit, what) => limit && el("div", { class: "limit" },
    `${what}${watts(limit.limit_w)} (${limit.source})${limit.end_at ? ` until ${clock(limit.end_at, now)}` : ""}`);
  const lines = [said(status?.limits[0], ""), said(status?.export_limits[0], "export ")].filter(Boolean);
  return el("td", {}, lines.length ? lines : el("span", { class: "dim" }, words(status?.state)));
}

function left(site, now) {
  if (site.window_end_at == null) return UNKNOWN;
  const seconds = secondsUntil(site.window_end_at, now);
  return seconds > 0 ? duration(seconds) : UNKNOWN;
}

function sent(migration) {
  const { transferred_bytes: done, checkpoint_bytes: all } = migration;
  if (!all) return UNKNOWN;
  return el("td", {}, el("progress", { max: all, value: Math.min(done, all) }), " ", `${size(done)} of ${size(all)}`);
}

const KINDS = { running: "good", done: "good", completed: "good", confirmed: "good", failed: "failed", aborted: "failed", contact_lost: "failed", cancelled: "dim", queued: "dim", paused: "dim" };

const state = (word) => el("td", {}, el("span", { class: `state ${KINDS[word] ?? "moving"}` }, words(word)));
const note = (text) => el("td", { class: "note" }, text);
const button = (text, name, id, act) =>
  el("button", { type: "button", "data-of": id, "aria-label": `${text} ${name}`, onclick: act }, text);
const jobLink = (id, name, act) =>
  el("button", { type: "button", class: "link", "data-of": id, onclick: () => act.explain(id) }, name ?? id.slice(0, 8));
