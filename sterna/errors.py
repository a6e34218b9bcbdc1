"""Every error that Sterna raises.

The class says who is to blame and what the caller may do: a `TransientError` may be retried, a
`PermanentError` may not. Library errors are wrapped where they enter, chained with ``from``.
"""


class SternaError(Exception):
    """Something went wrong in a way that Sterna knows."""


class ConfigError(SternaError):
    """The configuration is not usable; the message names file, table and key, one fault a line."""


class TransientError(SternaError):
    """It may work later.

    Parameters
    ----------
    message : str
        What failed, with the peer or device named.
    retry_after_s : float or None
        When the other side said so: seconds to wait before the next try, >= 0.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(SternaError):
    """Trying again will not help."""


class PeerProtocolError(PermanentError):
    """The other side broke the contract; the message names the peer and the field."""


class IllegalTransitionError(PermanentError):
    """We broke the contract: a state machine has no entry for this event; nothing was changed."""


class StaleEpochError(PermanentError):
    """A command acts under an epoch lower than the highest seen for its job."""


class CorruptError(PermanentError):
    """Bytes on disk or from a peer do not match their hash or manifest."""
