"""The command ``sterna-power``: the helper itself, and two ways to talk to it by hand."""

import argparse
import contextlib
import grp
import json
import pwd
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from agent.power.clocks import Clocks
from agent.power.held import Held
from agent.power.refusal import Refusal
from agent.power.server import Server, handed_over, listen
from agent.power.tools import NvidiaSmi, Nvpmodel
from agent.power.tree import Tree
from agent.power.units import SLICES, JobUnits
from agent.power.verbs import Verbs

SOCKET = "/run/sterna-power.sock"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ASK_WITHIN_S = 30.0
EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 5


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        if args.command == "serve":
            return _serve(args)
        return _ask(args)
    except Refusal as refusal:
        print(f"sterna-power: {refusal.reason}", file=sys.stderr)
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sterna-power", description="Root's few verbs for the Sterna agent."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer requests (as root, by systemd)")
    serve.add_argument("--socket", default=None, help="listen here; default: what systemd hands over")
    serve.add_argument("--allow-user", action="append", default=[], help="who may ask besides root; repeat")
    serve.add_argument(
        "--allow-group", action="append", default=[], help="whose primary group may ask; repeat"
    )
    serve.add_argument("--sys", type=Path, default=Path("/sys"), help="sysfs (default %(default)s)")
    serve.add_argument("--cgroup", type=Path, default=None, help="cgroup v2 (default SYS/fs/cgroup)")
    serve.add_argument("--slice", action="append", default=[], help="where job units lie in it; repeat")
    serve.add_argument(
        "--state", type=Path, default=Path("/run/sterna-power/held.json"), help="(default %(default)s)"
    )
    serve.add_argument("--idle-s", type=float, default=60.0, help="end after so long; 0: never (%(default)s)")
    serve.add_argument("--nvpmodel", type=Path, default=Path("/usr/sbin/nvpmodel"), help="(%(default)s)")
    serve.add_argument("--nvpmodel-mode", type=int, action="append", default=[], help="allowed; repeat")
    serve.add_argument("--allow-reboot", action="store_true", help="a mode change may reboot when asked to")
    serve.add_argument("--nvidia-smi", type=Path, default=Path("/usr/bin/nvidia-smi"), help="(%(default)s)")
    ask = commands.add_parser(
        "ask", help="send one request, e.g. ask set_gpu_max_hz device=17000000.gpu hz=null"
    )
    ask.add_argument("verb", help="status, clocks, restore, set_gpu_max_hz, ... (docs/power.md)")
    ask.add_argument("fields", nargs="*", metavar="FIELD=VALUE")
    ask.add_argument("--socket", default=SOCKET, help="(default %(default)s)")
    return parser


def _serve(args: argparse.Namespace) -> int:
    listener = handed_over()
    if listener is None:
        if args.socket is None:
            raise Refusal("usage", "serve: systemd handed over no socket; give --socket")
        listener = _listen(args.socket)
    tree = Tree(args.sys)
    held = Held(args.state, BOOT_ID.read_text().strip())
    verbs = Verbs(
        clocks=Clocks(tree, held),
        units=JobUnits(Tree(args.cgroup or _cgroup(args.sys)), tuple(args.slice) or SLICES),
        nvpmodel=Nvpmodel(args.nvpmodel, modes=frozenset(args.nvpmodel_mode), may_reboot=args.allow_reboot),
        nvidia=NvidiaSmi(args.nvidia_smi, held),
    )
    with contextlib.suppress(KeyboardInterrupt):
        Server(
            listener=listener,
            verbs=verbs,
            uids=frozenset(
                _id(name, lambda known: pwd.getpwnam(known).pw_uid, "user") for name in args.allow_user
            ),
            gids=frozenset(
                _id(name, lambda known: grp.getgrnam(known).gr_gid, "group") for name in args.allow_group
            ),
            idle_s=args.idle_s,
        ).run()
    return EXIT_OK


def _cgroup(sys_root: Path) -> Path:
    """Return where cgroup v2 is: below the old one on systems that have both."""
    both = sys_root / "fs/cgroup/unified"
    return both if (both / "cgroup.controllers").exists() else sys_root / "fs/cgroup"


def _listen(path: str) -> socket.socket:
    try:
        return listen(path)
    except OSError as error:
        raise Refusal("usage", f"serve: --socket {path}: {error.strerror}") from error


def _id(name: str, find: Callable[[str], int], what: str) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return find(name)
    except KeyError as error:
        raise Refusal("usage", f"serve: no {what} {name} on this machine") from error


def _ask(args: argparse.Namespace) -> int:
    request: dict[str, object] = {"verb": args.verb}
    for pair in args.fields:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Refusal("usage", f"ask: expected FIELD=VALUE, got {pair}")
        try:
            request[name] = json.loads(value)
        except ValueError:
            request[name] = value
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ASK_WITHIN_S)
            line.connect(args.socket)
            with contextlib.suppress(BrokenPipeError):  # one who is not let in is told why before it asks
                line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        print(f"sterna-power: {args.socket}: {why}", file=sys.stderr)
        return EXIT_UNREACHABLE
    print(json.dumps(answer, indent=2))
    return EXIT_OK if answer.get("ok") else EXIT_REFUSED
