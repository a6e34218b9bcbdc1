// The fleet after a message of changes, in the order that the coordinator sends.

export const changed = (fleet, by) => ({
  ...by,
  left: null,
  sites: merged(fleet.sites, by.sites, "site_id", []),
  jobs: merged(fleet.jobs, by.jobs, "job_id", by.left.job_ids),
  migrations: merged(fleet.migrations, by.migrations, "migration_id", by.left.migration_ids).sort(newestFirst),
});

/** Whoever is known keeps the place; whoever is new comes last, as jobs do, in order of submission. */
function merged(known, changes, id, gone) {
  const all = new Map(known.map((one) => [one[id], one]));
  for (const one of changes) all.set(one[id], one);
  for (const id of gone) all.delete(id);
  return [...all.values()];
}

const newestFirst = (one, other) =>
  Date.parse(other.planned_at) - Date.parse(one.planned_at) || (one.migration_id < other.migration_id ? 1 : -1);
