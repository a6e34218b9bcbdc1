"""Shares one cap among several devices, each of which has a lowest and a highest cap of its own."""

from collections.abc import Sequence


def share_cap_w(cap_w: float, limits_w: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Share a cap: every device gets its lowest, and what is left is spread evenly up to each one's highest.

    Parameters
    ----------
    cap_w : float
        Watts for all devices together, >= 0.
    limits_w : sequence of (lowest, highest)
        Watts per device.

    Returns
    -------
    tuple of float
        Watts per device, in order. Their sum is at most the cap, except where the lowest caps alone are more.
    """
    shares_w = [low_w for low_w, _ in limits_w]
    left_w = cap_w - sum(shares_w)
    # Devices with the least room first: what they cannot take is left for the others.
    order = sorted(range(len(limits_w)), key=lambda index: limits_w[index][1] - limits_w[index][0])
    for place, index in enumerate(order):
        low_w, high_w = limits_w[index]
        extra_w = min(max(left_w, 0.0) / (len(order) - place), high_w - low_w)
        shares_w[index] += extra_w
        left_w -= extra_w
    return tuple(shares_w)
