"""A script for torchrun that catches SIGTERM, saves and exits with what it is told to."""

import signal
import sys
import time
from pathlib import Path

losses = Path(sys.argv[1])
options = dict(word.split("=", 1) for word in sys.argv[2:])


def save(*_):
    Path("saved").touch()
    sys.exit(int(options["code"]))


signal.signal(signal.SIGTERM, save)
for step in range(10**6):
    with losses.open("a") as file:
        file.write(f"{step} 0.0\n")
    time.sleep(0.05)
