"""A whole fleet in one thread, on virtual time: production cores, simulated disks, network and clocks.

One seed is one history; the same seed gives the same history again. ``python -m tests.simulation --seed 7
--trace`` tells it.
"""
