"""The two vendor tools that have no file behind them: nvpmodel (Jetson modes) and nvidia-smi (watts).

Both are run without a shell, with numbers as their only variable arguments, with a time limit, and neither's
word is taken: what is set now is asked for afterwards.
"""

import re
from pathlib import Path
from typing import NamedTuple

from agent.power.held import Held
from agent.power.refusal import Refusal

TIMEOUT_S = 10.0
"""Longest run of a tool; a mode change takes up to 4 s."""
_MODE = re.compile(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)\b")
_REBOOT = re.compile(r"reboot", re.IGNORECASE)
_FIELDS = ("index", "power.limit", "power.min_limit", "power.max_limit", "power.default_limit")


class Mode(NamedTuple):
    """An nvpmodel mode in force."""

    number: int
    name: str


class Nvpmodel:
    """Modes of a Jetson board.

    Parameters
    ----------
    path : pathlib.Path
        Of the tool.
    modes : frozenset of int
        Those that may be switched to; their numbers differ between boards.
    may_reboot : bool
        Whether a request may ask for a mode that reboots the machine at once.
    """

    def __init__(self, path: Path, *, modes: frozenset[int], may_reboot: bool) -> None:
        self._path = path
        self._modes = modes
        self._may_reboot = may_reboot

    @property
    def present(self) -> bool:
        """Tell whether the tool is installed."""
        return self._path.is_file()

    @property
    def modes(self) -> list[int]:
        """The modes that may be switched to."""
        return sorted(self._modes)

    def mode(self) -> Mode | None:
        """Ask for the mode in force; None: the tool does not say."""
        found = _MODE.search(_run(self._path, "-q"))
        return None if found is None else Mode(number=int(found[2]), name=found[1])

    def set_mode(self, number: int, *, reboot: bool) -> Mode:
        """Switch to a mode.

        Parameters
        ----------
        number : int
            Of the mode.
        reboot : bool
            Answer yes when the tool wants to reboot: the machine goes down at once, jobs and all.

        Raises
        ------
        Refusal
            ``mode_not_allowed``, ``reboot_not_allowed``, ``needs_reboot``, ``not_taken``, ``tool_failed``.
        """
        if number not in self._modes:
            raise Refusal("mode_not_allowed", f"mode: allowed here are {self.modes or 'none'}")
        if reboot and not self._may_reboot:
            raise Refusal("reboot_not_allowed", "reboot: sterna-power was started without --allow-reboot")
        before = self.mode()
        if before is not None and before.number == number:
            return before
        # The question waits on stdin; without an answer the tool fails and says nothing.
        said = _run(self._path, "-m", str(number), answer="YES\n" if reboot else "n\n")
        after = self.mode()
        if after is not None and after.number == number:
            return after
        if _REBOOT.search(said) and not reboot:
            raise Refusal("needs_reboot", f"mode: {number} needs a reboot; the mode is still {_words(after)}")
        raise Refusal("not_taken", f"mode: asked for {number}, it is {_words(after)}")


class NvidiaSmi:
    """Power limits of discrete GPUs.

    Parameters
    ----------
    path : pathlib.Path
        Of the tool.
    held : Held
        Remembers what was found.
    """

    def __init__(self, path: Path, held: Held) -> None:
        self._path = path
        self._held = held

    @property
    def present(self) -> bool:
        """Tell whether the tool is installed."""
        return self._path.is_file()

    def status(self) -> list[dict[str, object]]:
        """Read all limits back, in watts; None: this GPU does not say."""
        said = _run(self._path, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits")
        found: list[dict[str, object]] = []
        for line in said.splitlines():
            words = [word.strip() for word in line.split(",")]
            if len(words) == len(_FIELDS) and words[0].isdigit():
                limit_w, lowest_w, highest_w, default_w = (_watts(word) for word in words[1:])
                found.append(
                    {
                        "gpu": int(words[0]),
                        "limit_w": limit_w,
                        "lowest_w": lowest_w,
                        "highest_w": highest_w,
                        "default_w": default_w,
                        "original_w": self._held.original(_knob(int(words[0]))),
                    }
                )
        return found

    def set_limit_w(self, gpu: int, asked_w: int | None) -> float:
        """Set one GPU's power limit, brought into its own range, and return what is in force then.

        Parameters
        ----------
        gpu : int
            Index.
        asked_w : int or None
            Watts; None: as it was before we changed it.

        Raises
        ------
        Refusal
            ``unknown_device``, ``no_range``, ``not_taken``, ``tool_failed``.
        """
        now_w, lowest_w, highest_w = self._range_w(gpu)
        knob = _knob(gpu)
        self._held.raise_to(knob, int(now_w))
        ceiling_w = min(highest_w, self._held.original(knob) or now_w)
        target_w = int(ceiling_w if asked_w is None else min(max(asked_w, -(-lowest_w // 1)), ceiling_w))
        if target_w != now_w:
            self._held.keep(knob, int(now_w))
            _run(self._path, "-i", str(gpu), "-pl", str(target_w))
        set_w = self._range_w(gpu)[0]
        if set_w > target_w + 1:
            raise Refusal("not_taken", f"gpu: {gpu}: asked for {target_w} W, it is {set_w:g} W")
        if set_w >= int(ceiling_w):
            self._held.forget(knob)
        return set_w

    def held(self) -> list[int]:
        """Return the GPUs whose limit we have lowered."""
        return [int(str(one["gpu"])) for one in self.status() if one["original_w"] is not None]

    def _range_w(self, gpu: int) -> tuple[float, float, float]:
        for one in self.status():
            if one["gpu"] == gpu:
                now_w, lowest_w, highest_w = one["limit_w"], one["lowest_w"], one["highest_w"]
                if isinstance(now_w, float) and isinstance(lowest_w, float) and isinstance(highest_w, float):
                    return now_w, lowest_w, highest_w
                raise Refusal("no_range", f"gpu: {gpu}: does not say what its power limit may be")
        raise Refusal("unknown_device", f"gpu: no GPU {gpu} on this machine")


def _run(path: Path, *arguments: str, answer: str = "") -> str:
    """Run a tool and return all that it said."""
    import subprocess  # most requests never need it, and every start would wait for it

    try:
        done = subprocess.run(
            [str(path), *arguments],
            input=answer.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise Refusal("tool_failed", f"{path.name}: no end within {TIMEOUT_S:g} s") from error
    except OSError as error:
        raise Refusal("tool_failed", f"{path.name}: {error.strerror}") from error
    return done.stdout.decode("utf-8", "replace")


def _watts(word: str) -> float | None:
    try:
        watts = float(word)
    except ValueError:  # "[N/A]", "[Not Supported]"
        return None
    return watts if 0 < watts < 1e5 else None


def _words(mode: Mode | None) -> str:
    return "unknown" if mode is None else f"{mode.number} ({mode.name})"


def _knob(gpu: int) -> str:
    return f"nvidia/{gpu}"
