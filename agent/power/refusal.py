"""The one exception of `sterna-power`: a request that is not carried out, and why."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """Refuse a request; nothing was changed unless the reason says so.

    Parameters
    ----------
    code : str
        One word for programs, e.g. ``unknown_device``.
    reason : str
        One sentence for people; names the field or device.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
