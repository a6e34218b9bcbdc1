// The page: follows the fleet, and passes on what the operator decides.

import { byId } from "./dom.js";
import { showExplanation } from "./explanation.js";
import { changed } from "./changes.js";
import { showFleet, showJobs, showWarnings } from "./fleet.js";

let latest = { jobs: [] };

const act = {
  explain: (id) => tell(async () => {
    const answer = await ask(`/jobs/${encodeURIComponent(id)}/explanation`);
    showExplanation(answer.data, act);
    if (!byId("job").open) byId("job").showModal();
  }),
  end: (job) => confirm(`End ${job.spec.name} for good?`) && tell(() => ask(`/jobs/${job.job_id}/end`, {})),
  migrate: (job, site) => {
    const doubt = site.feasible ? "" : `\n\nIt is not feasible:\n${site.rejections.join("\n")}`;
    if (!confirm(`Move ${job.spec.name} to ${site.site_id}?${doubt}`)) return;
    tell(async () => {
      await ask(`/jobs/${job.job_id}/migration`, { destination: site.site_id, force: !site.feasible });
      byId("job").close();
    });
  },
  drain: (site) => confirm(`Move every job away from ${site.site_id} and let none arrive?`)
    && tell(() => ask(`/sites/${site.site_id}/drain`, {})),
  resume: (site) => tell(() => ask(`/sites/${site.site_id}/resume`, {})),
};

/** GET, or POST where there is something to say; throws with the coordinator's own words. */
async function ask(path, body) {
  const answer = await fetch(path, body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function tell(work) {
  byId("said").hidePopover();
  try {
    await work();
  } catch (error) {
    byId("said").textContent = error.message;
    byId("said").showPopover(); // above an open dialog
  }
}

function lost(why) {
  byId("link").textContent = `what you see is old: ${why}`;
}

function follow() {
  const events = new EventSource("/fleet");
  events.addEventListener("fleet", (event) => {
    latest = JSON.parse(event.data).data;
    showFleet(latest, act);
  });
  events.addEventListener("changes", (event) => {
    latest = changed(latest, JSON.parse(event.data).data);
    showFleet(latest, act);
  });
  events.addEventListener("waiting", (event) => { byId("waiting").textContent = JSON.parse(event.data); });
  events.addEventListener("warnings", (event) => showWarnings(JSON.parse(event.data)));
  events.addEventListener("lost", (event) => lost(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    if (!byId("link").textContent) lost("`sterna page` does not answer");
  });
}

byId("filter").addEventListener("input", () => showJobs(latest.jobs, act));
byId("close").addEventListener("click", () => byId("job").close());
byId("said").addEventListener("click", () => byId("said").hidePopover());
follow();
