"""Power limits through ``sterna-power``, for an agent that NVML does not let set them itself."""

from agent.devices.power_client import PowerClient
from sterna.errors import PeerProtocolError, PermanentError, TransientError


class LimitHelper:
    """Asks root's helper for power limits, a GPU by its index.

    Parameters
    ----------
    client : PowerClient
        Its socket.
    """

    def __init__(self, client: PowerClient) -> None:
        self._client = client

    def takes(self, index: int) -> bool:
        """Tell whether the helper is there, lets us in, and knows what this GPU may be limited to."""
        try:
            found = self._client.ask("status").get("nvidia")
        except (TransientError, PermanentError, PeerProtocolError):
            return False
        return isinstance(found, list) and any(
            isinstance(one, dict) and one.get("gpu") == index and one.get("lowest_w") is not None
            for one in found
        )

    def set_limit_w(self, index: int, limit_w: float | None) -> None:
        """Limit a GPU; None: as it was before the helper changed it.

        Raises
        ------
        TransientError, PermanentError
            The helper did not; the reason is its own.
        """
        self._client.ask(
            "set_gpu_power_w", gpu=index, watts=None if limit_w is None else max(0, int(limit_w))
        )

    def close(self) -> None:
        """Hang up; the limits stay."""
        self._client.close()
