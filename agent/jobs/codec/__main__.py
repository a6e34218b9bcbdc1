"""``python -m agent.jobs.codec encode|decode|estimate …``: one piece of work, then the process ends.

It writes JSON lines: ``{"done_bytes": …}`` as it goes, then ``{"result": {…}}`` or ``{"error": {…}}`` with
the kind of the error and its message. With ``--orphan-ends`` it ends at once when its standard input closes,
as it does when the agent that started it dies. ``--container -`` streams: encode writes the container to
standard output and its one line, at the end, to standard error; decode reads it from standard input and fills
the files that are at the target already.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sterna.errors import CorruptError, SternaError

_REPORTS_PER_S = 4.0
_ORPHANED_EXIT_CODE = 3
_STREAM = Path("-")


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; return 0, or 1 after an error was written."""
    options = _parser().parse_args(argv)
    if options.orphan_ends:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    os.setpriority(os.PRIO_PROCESS, 0, options.nice)  # not by how much: the agent itself runs ahead of others
    streams = getattr(options, "container", None) == _STREAM
    say = _say_aside if streams and options.verb == "encode" else _say
    try:
        result = _work(options, streams=streams)
    except CorruptError as error:
        return _failed(say, "corrupt", error)
    except SternaError as error:
        return _failed(say, "refused", error)
    except ImportError as error:
        return _failed(say, "missing", error)
    except OSError as error:
        return _failed(say, "disk", error)
    say({"result": result})
    return 0


def _work(options: argparse.Namespace, *, streams: bool) -> Mapping[str, object]:
    # Here, so that a missing library is an answer and not a traceback.
    from agent.jobs.codec import decode, encode

    progress = _Progress()
    if options.verb == "decode":
        target, old, max_bytes = options.target, options.old, options.max_bytes
        if streams:
            size_bytes = decode.decode_into(
                sys.stdin.buffer, target, old, max_bytes=max_bytes, progress=progress
            )
        else:
            size_bytes = decode.decode(options.container, target, old, max_bytes=max_bytes, progress=progress)
        return {"size_bytes": size_bytes}
    if streams:
        encoder = encode.Encoder(options.new, options.old)
        summary = encoder.write(encoder.plan(), sys.stdout.buffer)
        sys.stdout.buffer.flush()
    elif options.verb == "encode":
        summary = encode.encode(options.new, options.container, options.old, progress)
    else:
        summary = encode.estimate(options.new, options.old, progress)
    return {
        "size_bytes": summary.size_bytes,
        "sent_bytes": summary.sent_bytes,
        "codec_bytes": summary.codec_bytes,
    }


class _Progress:
    """Counts, and says so a few times per second."""

    def __init__(self) -> None:
        self._done_bytes = 0
        self._said_s = float("-inf")

    def __call__(self, more_bytes: int) -> None:
        self._done_bytes += more_bytes
        now_s = time.monotonic()  # noqa: TID251 - a pace, not a date
        if now_s - self._said_s >= 1.0 / _REPORTS_PER_S:
            self._said_s = now_s
            _say({"done_bytes": self._done_bytes})


def _failed(say: Callable[[Mapping[str, object]], None], kind: str, error: Exception) -> int:
    say({"error": {"kind": kind, "message": str(error)}})
    return 1


def _say(line: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _say_aside(line: Mapping[str, object]) -> None:
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


def _end_with_parent() -> None:
    # Not through sys.stdin: at the end of the process a reader that still waits there would abort it.
    while os.read(0, 4096):
        pass
    os._exit(_ORPHANED_EXIT_CODE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent.jobs.codec", description=__doc__)
    parser.add_argument("--nice", type=int, default=0, help="niceness of the process, 0 to 19")
    parser.add_argument("--orphan-ends", action="store_true", help="end when standard input closes")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("encode", "estimate"):
        command = verbs.add_parser(verb)
        command.add_argument("--new", type=Path, required=True, help="checkpoint: a file or a folder")
        command.add_argument("--old", type=Path, help="earlier one that the destination has")
        if verb == "encode":
            command.add_argument("--container", type=Path, required=True, help="file to make")
    command = verbs.add_parser("decode")
    command.add_argument("--container", type=Path, required=True)
    command.add_argument("--target", type=Path, required=True, help="checkpoint to make")
    command.add_argument("--old", type=Path, help="the earlier one")
    command.add_argument("--max-bytes", type=int, required=True, help="most that may be written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
