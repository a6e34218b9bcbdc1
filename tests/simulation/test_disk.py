"""The disk of the simulation keeps what was synced, and may lose the rest."""

import random

from tests.simulation.disk import Disk

HERE = ("a", "b")


def test_a_power_cut_takes_what_was_not_synced() -> None:
    disk = Disk()
    disk.write(HERE, "kept", 1, durable=True)
    disk.write(HERE, "kept", 2, durable=False)
    disk.write(HERE, "new", 3, durable=False)
    disk.remove(HERE, "kept")
    disk.power_cut(random.Random(1), survival=0.0)
    assert dict(disk.folder(HERE)) == {"kept": 1}


def test_what_was_written_back_in_time_survives() -> None:
    disk = Disk()
    disk.write(HERE, "one", 1, durable=False)
    disk.sync(HERE)
    disk.write(HERE, "two", 2, durable=False)
    disk.power_cut(random.Random(1), survival=1.0)
    disk.power_cut(random.Random(1), survival=0.0)
    assert dict(disk.folder(HERE)) == {"one": 1, "two": 2}
