// Why a job is where it is, and what each move would take: `sterna job explain` with a button per site.

import { byId, el, fillTable, number, right } from "./dom.js";
import { UNKNOWN, clock, duration, figure, words } from "./format.js";

export function showExplanation({ job, decision, now, deadline_slack_s: slack }, act) {
  byId("job-title").textContent = `${job.spec.name} · ${words(job.state)}${job.owner_site ? ` at ${job.owner_site}` : ""}`;
  byId("explanation").replaceChildren(
    deadline(job, slack),
    ...lastDecision(decision),
    el("h3", {}, now.length ? "Judged now" : ""),
    ...now.map((site) => judged(site, job, act)),
  );
}

function deadline(job, slack) {
  if (slack == null) return "";
  const left = slack < 0 ? `it ends ${duration(-slack)} late even if it runs from now on` : `${duration(slack)} to spare`;
  return el("p", { class: slack < 0 ? "failed" : "" }, `Deadline ${clock(job.deadline_at, Date.now())} UTC; ${left}.`);
}

function lastDecision(decision) {
  if (decision == null) return [el("p", { class: "dim" }, "No decision yet.")];
  const towards = decision.kind === "migrate"
    ? `from ${decision.source_site} to ${decision.target_site}`
    : decision.kind === "wait" ? "" : `at ${decision.target_site}`;
  const others = decision.alternatives.filter((one) => one.rejections.length);
  return [
    el("h3", {}, `Last decision: ${words(decision.kind)} ${towards}`),
    el("p", { class: "dim" }, `${clock(decision.decided_at, Date.now())} UTC, policy ${decision.policy}`),
    el("p", {}, decision.reason),
    el("ul", {}, others.map((one) => el("li", {}, `not ${one.site_id}: ${one.rejections.join("; ")}`))),
  ];
}

function judged(site, job, act) {
  const table = el("table");
  fillTable(table, ["", right("is"), right("against"), "what would mend it"], site.terms.map((term) => [
    el("th", { scope: "row", class: term.satisfied ? "" : "failed" }, `${term.satisfied ? "✓" : "✗"} ${words(term.name)}`),
    number(term.name === "window" && term.value <= 0 ? "no window" : figure(term.value, term.unit)),
    number(term.limit == null ? UNKNOWN : figure(term.limit, term.unit)),
    el("td", { class: "note" }, term.remedy),
  ]), "nothing to judge");
  const here = site.site_id === job.owner_site;
  return el("details", { open: here || site.feasible },
    el("summary", {}, el("b", {}, site.site_id), ` ${here ? "is where it runs" : site.feasible ? "feasible" : "not feasible"}`,
      site.forecast_source ? el("small", {}, ` forecast: ${site.forecast_source}`) : ""),
    el("ul", {}, site.rejections.map((rejection) => el("li", {}, rejection))),
    site.terms.length ? el("div", { class: "wide" }, table) : "",
    here || !job.owner_site ? "" : el("button", { type: "button", onclick: () => act.migrate(job, site) },
      site.feasible ? `Move to ${site.site_id}` : `Move to ${site.site_id} all the same`));
}
