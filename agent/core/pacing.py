"""A token bucket: how long to wait before the next bytes, so that a rate is kept on average."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Bytes that may pass at once and what refills them. A negative level is a debt that time pays.

    `rate_bytes_s` is bytes per second, above 0; `burst_bytes` is the most that may gather while idle;
    `at_s` is the reading of the duration clock at which `level_bytes` held.
    """

    rate_bytes_s: float
    burst_bytes: float
    level_bytes: float
    at_s: float


def full_bucket(rate_bytes_s: float, burst_bytes: float, now_s: float) -> Bucket:
    """Return a bucket that starts full."""
    return Bucket(rate_bytes_s=rate_bytes_s, burst_bytes=burst_bytes, level_bytes=burst_bytes, at_s=now_s)


def draw(bucket: Bucket, size_bytes: int, now_s: float) -> tuple[Bucket, float]:
    """Take bytes out, going into debt where there are too few.

    Parameters
    ----------
    bucket : Bucket
        As the last draw left it.
    size_bytes : int
        What is about to pass, 0 or more.
    now_s : float
        Duration clock; a reading before the last one counts as no time passed.

    Returns
    -------
    Bucket, float
        The bucket afterwards, and the seconds to wait before these bytes may pass.
    """
    gained_bytes = max(0.0, now_s - bucket.at_s) * bucket.rate_bytes_s
    level_bytes = min(bucket.burst_bytes, bucket.level_bytes + gained_bytes) - size_bytes
    after = replace(bucket, level_bytes=level_bytes, at_s=max(now_s, bucket.at_s))
    return after, max(0.0, -level_bytes / bucket.rate_bytes_s)
