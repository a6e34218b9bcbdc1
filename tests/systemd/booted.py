"""The life of the package on a booted system, step by step: ``python -m tests.systemd.booted DEB``.

scripts/test-systemd builds the package and calls this. Prints what it saw, then one JSON line; exits with 77
and the reason where the machine cannot boot a tree.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent.shim.files import boottime_s
from tests.systemd.tree import Tree, UnavailableError, prepare, until, why_not

CANNOT = 77
AGENT, COORDINATOR = "sterna-agent.service", "sterna-coordinator.service"
UNITS = (AGENT, COORDINATOR, "sterna-power.service")
RUNS = "/var/lib/sterna-agent/jobs"

CREDENTIALS = """[Service]
LoadCredential=key.pem:/etc/sterna/keys/{name}
"""
COORDINATOR_TOML = """fleet = "f"
listen = "127.0.0.1:7400"
state_dir = "/var/lib/sterna-coordinator"
[tls]
ca = "ca.pem"
cert = "coordinator-main.pem"
key = "$CREDENTIALS_DIRECTORY/key.pem"
[[sites]]
id = "a"
[planner]
policy = "static"
"""
AGENT_TOML = """fleet = "f"
site = "a"
state_dir = "/var/lib/sterna-agent"
[tls]
ca = "ca.pem"
cert = "site-a.pem"
key = "$CREDENTIALS_DIRECTORY/key.pem"
[coordinator]
address = "127.0.0.1:7400"
[grid]
operator = "none"
failsafe_import_w = 5000.0
{limit}
[gpu]
kind = "fake"
idle_w = 10.0
max_w = 200.0
[jobs]
runner = "systemd"
[power]
resume_hold_s = 1.0
resume_margin_w = 1.0
[[meters]]
name = "grid"
kind = "fake"
role = "grid"
fake_power_w = 100.0
"""
CLIENT_TOML = """coordinator = "127.0.0.1:7400"
fleet = "f"
[tls]
ca = "ca.pem"
cert = "operator-ann.pem"
key = "operator-ann-key.pem"
"""
TRAINER = """
import json, os, signal, sys, time

stop = []
signal.signal(signal.SIGUSR1, lambda *_: stop.append(1))
folder, step = os.environ["STERNA_CHECKPOINT_DIR"], 0
resume = os.environ.get("STERNA_RESUME_FROM")
if resume:
    path = resume if os.path.isfile(resume) else os.path.join(resume, sorted(os.listdir(resume))[-1])
    step = json.load(open(path))["step"]
while not stop:
    step += 1
    with open("/var/lib/sterna-agent/beat.new", "w") as beat:
        beat.write(f"{os.getpid()} {step}")
    os.replace("/var/lib/sterna-agent/beat.new", "/var/lib/sterna-agent/beat")  # it may be frozen at any time
    time.sleep(0.05)
with open(os.path.join(folder, f"step-{step}.json"), "w") as file:
    json.dump({"step": step}, file)
with open(os.environ["STERNA_RESULT_FILE"], "w") as file:
    json.dump({"outcome": "stopped", "step": step}, file)
sys.exit(85)
"""
JOB_TOML = """name = "beat"
argv = ["/usr/bin/python3", "/opt/jobs/beat.py"]
checkpoint_glob = "*.json"
power_w = 50.0
checkpoint_bytes = 100
stop_signal = "USR1"
stop_grace_s = 30.0
"""


class Walk:
    """What an operator does with the package, and what must be true after each act."""

    def __init__(self, tree: Tree, package: Path) -> None:
        self.tree = tree
        self.package = package
        self.figures: dict[str, object] = {}

    def walk(self) -> None:
        """Do all of it, in order."""
        steps: tuple[Callable[[], str], ...] = (
            self.install,
            self.configure,
            self.start,
            self.run_a_job,
            self.freeze_and_thaw,
            self.watchdog,
            self.ask_for_power,
            self.upgrade,
            self.stop_agent,
            self.stop_job,
            self.remove,
            self.come_back,
            self.remove,
            self.purge,
        )
        for step in steps:
            print(f"{step.__name__:16} {step()}", flush=True)

    def install(self) -> str:
        """Nothing is enabled and nothing runs without a configuration."""
        self._install(self.package)
        for unit in UNITS:
            assert self.tree.show(unit, "ActiveState") == "inactive", unit
        for unit in (AGENT, COORDINATOR):
            assert self.tree.run("systemctl", "is-enabled", unit, check=False) == "disabled"
        scores = {unit: self._exposure(unit) for unit in (*UNITS, "sterna-job@x.service")}
        assert max(scores.values()) <= 2.0, scores
        self.figures["exposure"] = scores
        return f"users made, nothing runs; exposure on the booted system {scores}"

    def configure(self) -> str:
        """Certificates by the shipped command; keys that root alone may read, given by LoadCredential."""
        tree = self.tree
        for who in ("init f", "issue coordinator main", "issue site a", "issue operator ann"):
            tree.run("sterna", "pki", *who.split(), "--dir", "/etc/sterna")
        keys = ("coordinator-main-key.pem", "site-a-key.pem")
        tree.run("mkdir", "-m", "700", "/etc/sterna/keys")
        tree.run("mv", *(f"/etc/sterna/{key}" for key in keys), "/etc/sterna/keys")
        tree.run("sh", "-c", "cd /etc/sterna && chmod 644 *.pem && chmod 600 *-key.pem")
        for unit, key in ((AGENT, "site-a-key.pem"), (COORDINATOR, "coordinator-main-key.pem")):
            tree.write(f"/etc/systemd/system/{unit}.d/credentials.conf", CREDENTIALS.format(name=key))
        tree.write("/etc/sterna/coordinator.toml", COORDINATOR_TOML)
        tree.write("/etc/sterna/client.toml", CLIENT_TOML)
        tree.write("/opt/jobs/beat.py", TRAINER)
        tree.write("/srv/job.toml", JOB_TOML)
        self._limit(None)
        tree.run("systemctl", "daemon-reload")
        return "certificates, keys for root alone, both configurations"

    def start(self) -> str:
        """`systemctl start` of a Type=notify unit returns when the daemon has said READY."""
        took = {}
        for unit in (COORDINATOR, AGENT):
            began_s = boottime_s()
            self.tree.run("systemctl", "enable", "--now", unit)
            took[unit] = round(boottime_s() - began_s, 1)
            assert self.tree.show(unit, "ActiveState") == "active"
        self.figures["ready_s"] = took
        return f"READY after {took} s: {self.tree.show(AGENT, 'StatusText')}"

    def run_a_job(self) -> str:
        """The job is in a unit of its own, outside the agent's cgroup."""
        submitted = json.loads(self._sterna("job", "submit", "/srv/job.toml", "--json"))
        until(self._beats, "the job steps", 60.0)
        (unit,) = self._job_units()
        pid = self._pid()
        cgroup = self.tree.run("grep", "^0::", f"/proc/{pid}/cgroup")
        assert cgroup == f"0::/sterna.slice/sterna-jobs.slice/{unit}/job", cgroup
        assert self.tree.show(AGENT, "ControlGroup") == f"/sterna.slice/{AGENT}"
        status = self.tree.show(unit, "StatusText")
        assert submitted["data"]["job_id"] in status, (submitted, status)
        return f"{unit}, PID {pid}, {status}"

    def freeze_and_thaw(self) -> str:
        """A limit that leaves no room pauses the job: its cgroup is frozen, and thawed when there is room."""
        pid = self._pid()
        events = f"/sys/fs/cgroup/sterna.slice/sterna-jobs.slice/{self._job_units()[0]}/job/cgroup.events"
        self._limit(60.0)
        self.tree.run("systemctl", "restart", AGENT)
        frozen_s = until(lambda: "frozen 1" in self.tree.run("cat", events), "frozen", 60.0)
        assert not self._beats()
        self._limit(None)
        self.tree.run("systemctl", "restart", AGENT)
        until(lambda: "frozen 0" in self.tree.run("cat", events), "thawed", 60.0)
        until(self._beats, "the job steps again", 30.0)
        assert self._pid() == pid
        return f"frozen {frozen_s:.1f} s after READY, thawed; PID {pid} as before"

    def watchdog(self) -> str:
        """An agent that hangs is killed and started again; its job does not notice."""
        pid, main = self._pid(), int(self.tree.show(AGENT, "MainPID"))
        restarts = int(self.tree.show(AGENT, "NRestarts"))
        self.tree.run("kill", f"-{signal.SIGSTOP.value}", str(main))

        def restarted() -> bool:
            return (
                int(self.tree.show(AGENT, "NRestarts")) == restarts + 1
                and self.tree.show(AGENT, "ActiveState") == "active"
            )

        took_s = until(restarted, "the watchdog restarted the agent", 120.0)
        assert int(self.tree.show(AGENT, "MainPID")) != main
        assert self._pid() == pid and self._beats()
        self.figures["watchdog_restart_s"] = round(took_s, 1)
        return f"READY again {took_s:.1f} s after SIGSTOP (WatchdogSec=30); the job's PID is still {pid}"

    def ask_for_power(self) -> str:
        """The helper starts when it is asked, by the agent's user and by nobody else."""
        self.tree.run("systemctl", "stop", "sterna-power.service")
        answer = self._as("sterna", "sterna-power", "ask", "status")
        assert self.tree.show("sterna-power.service", "ActiveState") == "active"
        assert self._as("nobody", "sterna-power", "ask", "status", check=False) == ""
        return f"started by a request: {' '.join(answer.split())[:60]}"

    def upgrade(self) -> str:
        """A newer package restarts the daemons; the job goes on under its PID."""
        pid, main = self._pid(), self.tree.show(AGENT, "MainPID")
        shim = self.tree.show(self._job_units()[0], "MainPID")
        self._install(self._newer())
        assert self.tree.show(AGENT, "ActiveState") == "active"
        assert self.tree.show(AGENT, "MainPID") != main
        assert (self._pid(), self.tree.show(self._job_units()[0], "MainPID")) == (pid, shim)
        until(self._beats, "the job steps", 30.0)
        version = self.tree.run("dpkg-query", "-W", "-f", "${Version}", "sterna")
        self.figures["job_pid_unchanged_by_upgrade"] = True
        return f"now {version}; the agent is new, the job's PID is still {pid}, its shim's {shim}"

    def stop_agent(self) -> str:
        """Stopping the agent leaves its jobs alone; started again it adopts them."""
        pid = self._pid()
        self.tree.run("systemctl", "stop", AGENT)
        assert self.tree.show(AGENT, "Result") == "success"
        until(self._beats, "the job steps without an agent", 30.0)
        self.tree.run("systemctl", "start", AGENT)
        until(self._adopted, "adopted", 60.0)
        assert self._pid() == pid
        return f"clean; the job stepped on and was adopted, PID {pid}"

    def stop_job(self) -> str:
        """Systemd stops a job as the agent would: with its own signal, and with a checkpoint."""
        (unit,) = self._job_units()
        step = self._step()
        self.tree.run("systemctl", "stop", AGENT)
        self.tree.run("systemctl", "stop", unit)
        assert not self._job_units()
        (ended,) = (json.loads(path.read_text()) for path in self._files("exit.json"))
        assert (ended["cause"], ended["code"], ended["killed"]) == ("shutdown", 85, False), ended
        result = json.loads(next(iter(self._files("result.json"))).read_text())
        assert result["step"] >= step
        self.tree.run("systemctl", "start", AGENT)
        until(self._beats, "the job was started again", 60.0)
        assert self._step() > result["step"]
        return f"ended with {ended['code']} at step {result['step']}, resumed from there by the agent"

    def remove(self) -> str:
        """Removing the package ends everything, jobs with a checkpoint; state and configuration stay."""
        self.tree.run("dpkg", "--remove", "sterna")
        left = self.tree.run("ps", "-o", "pid=,args=", "-u", "sterna", check=False)
        assert not left, left
        left = self.tree.run("systemctl", "list-units", "--plain", "--no-legend", "sterna*")
        assert not left, left
        assert (self.tree.root / "etc/sterna/agent.toml").exists()
        assert (self.tree.root / "var/lib/sterna-agent/agent.db").exists()
        assert not (self.tree.root / "opt/sterna").exists()
        return "no process, no unit; configuration and state are kept"

    def come_back(self) -> str:
        """What was removed and is installed again runs as before, with the configuration that was kept."""
        self._install(self.package)
        for unit in (AGENT, COORDINATOR):
            assert self.tree.run("systemctl", "is-enabled", unit) == "enabled"
            assert self.tree.show(unit, "ActiveState") == "active"
        until(self._beats, "the job was started again", 60.0)
        return "both daemons are enabled and run; so does the job"

    def purge(self) -> str:
        """Purging leaves nothing."""
        self.tree.run("rm", "-r", "/etc/systemd/system/sterna-agent.service.d")
        self.tree.run("rm", "-r", "/etc/systemd/system/sterna-coordinator.service.d")
        self.tree.run("dpkg", "--purge", "sterna")
        left = self.tree.run(
            *("find", "/etc", "/opt", "/usr", "/var/lib", "/run", "-xdev", "-name", "*sterna*"),
            *("-not", "-path", "/run/systemd/*"),
        )
        assert not left, left
        assert not self.tree.run("getent", "passwd", "sterna", check=False)
        assert self.tree.run("systemctl", "is-system-running", check=False) == "running"
        return "no file, no user; the system is running"

    def _install(self, package: Path) -> None:
        target = self.tree.root / "var/tmp" / package.name
        target.write_bytes(package.read_bytes())
        self.tree.run("dpkg", "-i", f"/var/tmp/{package.name}")
        target.unlink()

    def _newer(self) -> Path:
        """Repack the package with a higher version."""
        with tempfile.TemporaryDirectory(dir=self.tree.folder) as folder:
            subprocess.run(["dpkg-deb", "-R", self.package, f"{folder}/p"], check=True, timeout=300)
            control = Path(folder) / "p/DEBIAN/control"
            control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+newer", control.read_text()))
            newer = self.tree.folder / "newer.deb"
            subprocess.run(
                ["dpkg-deb", "-Zgzip", "-z1", "-b", f"{folder}/p", newer],
                check=True,
                timeout=300,
                stdout=subprocess.DEVNULL,
            )
        return newer

    def _exposure(self, unit: str) -> float:
        done = self.tree.run("systemd-analyze", "security", "--no-pager", unit)
        return float(done.splitlines()[-1].split(":")[1].split()[0])

    def _limit(self, limit_w: float | None) -> None:
        line = "" if limit_w is None else f"local_limit_w = {limit_w}"
        self.tree.write("/etc/sterna/agent.toml", AGENT_TOML.format(limit=line))

    def _sterna(self, *arguments: str) -> str:
        return self.tree.run("env", "STERNA_CLIENT_CONFIG=/etc/sterna/client.toml", "sterna", *arguments)

    def _as(self, user: str, *command: str, check: bool = True) -> str:
        return self.tree.run(
            "setpriv",
            f"--reuid={user}",
            "--regid=" + user.replace("nobody", "nogroup"),
            "--clear-groups",
            *command,
            check=check,
        )

    def _job_units(self) -> list[str]:
        lines = self.tree.run("systemctl", "list-units", "--plain", "--no-legend", "sterna-job@*.service")
        return [line.split()[0] for line in lines.splitlines()]

    def _files(self, name: str) -> list[Path]:
        return sorted((self.tree.root / RUNS.lstrip("/")).glob(f"*/runs/*/{name}"))

    def _beat(self) -> list[str]:
        beat = self.tree.root / "var/lib/sterna-agent/beat"
        return beat.read_text().split() if beat.exists() else []

    def _pid(self) -> int:
        """The trainer's process id, as the tree sees it."""
        until(lambda: len(self._beat()) == 2, "a beat", 10.0)
        return int(self._beat()[0])

    def _step(self) -> int:
        until(lambda: len(self._beat()) == 2, "a beat", 10.0)
        return int(self._beat()[1])

    def _beats(self) -> bool:
        """Tell whether the job's step changes."""
        before = self._beat()
        time.sleep(0.3)
        after = self._beat()
        return len(after) == 2 and before != after

    def _adopted(self) -> bool:
        jobs = json.loads(self._sterna("jobs", "--json"))["data"]
        return [job["state"] for job in jobs] == ["running"]


def main() -> int:
    """Boot, walk, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="tree that is copied; made where missing")
    parser.add_argument("--suite", default="bookworm")
    args = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"test-systemd: cannot boot a tree here: {reason}", file=sys.stderr)
        return CANNOT
    try:
        prepare(args.base, args.suite)
    except UnavailableError as error:
        print(f"test-systemd: cannot make a tree: {error}", file=sys.stderr)
        return CANNOT
    with Tree(args.base, args.base.with_name(f"{args.base.name}.{os.getpid()}")) as tree:
        walk = Walk(tree, args.package)
        try:
            walk.walk()
        except BaseException:
            print(tree.run("journalctl", "--no-pager", "-n", "60", check=False), file=sys.stderr)
            raise
        print(json.dumps(walk.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
