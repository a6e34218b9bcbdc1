"""One placed kill in a migration, and what must hold after it."""

import asyncio

from tests.system.daemons import until
from tests.system.harness import CHECKPOINT_EVERY, System, Training
from tests.system.judging import judge

STEPS = 60
CONVERGES_WITHIN_S = 30.0
VICTIMS = {"source": "west", "destination": "east", "coordinator": "coordinator"}
# Saving, transfer and loading take half a second each and more, so that a kill meets the state it is for.
SAVE_S = LOAD_S = 0.6
IN_ORDER = (
    "PLANNED",
    "PREPARED",
    "STOPPING",
    "SEALED",
    "TRANSFERRING",
    "VERIFIED",
    "COMMITTED",
    "STARTING",
    "CONFIRMED",
    "DONE",
)


async def killed_at(system: System, name: str, *victims: str, state: str, after_s: float = 0.0) -> str:
    """Move a job, kill somebody, bring him back, judge.

    Parameters
    ----------
    name : str
        The job's.
    victims : str
        Of `VICTIMS`.
    state : str
        The kill comes `after_s` seconds after this state, or a later one, was first seen in the record.

    Returns
    -------
    str
        The state on record at the kill.
    """
    system.start()
    training = Training(name=name, home="west", steps=STEPS, save_s=SAVE_S, load_s=LOAD_S)
    reached = IN_ORDER[IN_ORDER.index(state) :]
    async with system.admin() as admin:
        await admin.connected()
        job_id = await admin.submit(training)
        await admin.trained(job_id, training, CHECKPOINT_EVERY + 2)
        await admin.move(job_id, "east")
        await until(lambda: system.recorded_state(job_id) in reached, within_s=20, what=state, poll_s=0.002)
        await asyncio.sleep(after_s)  # the place of the kill
        for victim in victims:
            system[VICTIMS[victim]].kill()
        recorded = system.recorded_state(job_id)
        sealed = system.sealed(job_id)
        for victim in victims:
            system[VICTIMS[victim]].start()
        await admin.settled(job_id, within_s=CONVERGES_WITHIN_S)
        after = system.sealed(job_id)
        assert max(after.values(), default=0) >= max(sealed.values(), default=0), (
            "a sealed checkpoint was lost"
        )
        await judge(system, admin, job_id, training)
    return recorded
