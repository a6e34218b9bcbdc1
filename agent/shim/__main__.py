"""The shim: the small process that owns one run of a job. ``python -I -S .../agent/shim RUN_DIR LOCK_FD``.

Without arguments systemd started it, and who is connected to its standard input says which run it is.
It outlives the agent. It starts the program, enforces its lease on CLOCK_BOOTTIME, stops it with grace,
pauses it, kills it when its run directory is taken away, and leaves a durable exit record. It talks with the
agent through the run directory alone (`files`); SIGHUP says "look now", SIGTERM says "stop the job".
"""

import os
import sys

if __package__ in (None, ""):  # run as a path, isolated: no site-packages, no current directory
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

if __name__ == "__main__":
    if len(sys.argv) == 1:
        from agent.shim import unit

        sys.exit(unit.main())
    from agent.shim.owner import main

    # The agent runs ahead of the jobs; what it starts does not.
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
