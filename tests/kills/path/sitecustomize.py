"""Kills the process that it is loaded into at a named place, once; see `tests.kills.boundaries`.

Python loads it where this folder is on PYTHONPATH: in the daemons of those tests, in nothing else. Standard
library only, and nothing happens where the test's variable is not set.
"""

import functools
import importlib.abc
import importlib.util
import inspect
import json
import os
import signal
import sys
from pathlib import Path

VARIABLE = "STERNA_TEST_BOUNDARIES"
SHIMS = "agent.jobs.shims"


class _Killer(importlib.abc.MetaPathFinder):
    """Wraps what the test has named as soon as its module is imported."""

    def __init__(self, armed, places, shim):
        self._armed = armed
        self._places = places
        self._shim = shim
        self._busy = set()

    def find_spec(self, fullname, path, target=None):
        """Find the module as everybody does, and have it changed once it was executed."""
        if fullname in self._busy or not any(place["module"] == fullname for place in self._places):
            return None
        self._busy.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy.discard(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module):
                execute(module)
                self._wrap_all(fullname, module)

            spec.loader.exec_module = executed
        return spec

    def _wrap_all(self, fullname, module):
        for name in {place["attribute"] for place in self._places if place["module"] == fullname}:
            holder = module
            *outer, last = name.split(".")
            for part in outer:
                holder = getattr(holder, part)
            mine = [
                place for place in self._places if (place["module"], place["attribute"]) == (fullname, name)
            ]
            setattr(holder, last, self._wrapped(getattr(holder, last), mine))
        if fullname == SHIMS:
            self._replace_shim(module.ForkedShims)

    def _replace_shim(self, starter):
        """Have the agent start a shim that can be armed too; it runs isolated, so it is wrapped in a file."""
        make = starter.__init__

        def made(this, **options):
            make(this, **options)
            this._shim = self._shim

        starter.__init__ = made

    def _wrapped(self, function, places):
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def around(*args, **kwargs):
                self._die("before", places, args)
                result = await function(*args, **kwargs)
                self._die("after", places, args)
                return result

        else:

            @functools.wraps(function)
            def around(*args, **kwargs):
                self._die("before", places, args)
                result = function(*args, **kwargs)
                self._die("after", places, args)
                return result

        return around

    def _die(self, when, places, args):
        """Kill this process if it is armed for one of these places and the arguments are those meant."""
        try:
            name = self._armed.read_text(encoding="utf-8").strip()
        except OSError:
            return
        for place in places:
            if place["name"] == name and place["when"] == when and eval(place["only"], {"args": args}):
                self._armed.rename(f"{self._armed}.fired")
                os.kill(os.getpid(), signal.SIGKILL)


def _begin():
    given = json.loads(Path(os.environ[VARIABLE]).read_text(encoding="utf-8"))
    sys.meta_path.insert(0, _Killer(Path(given["armed"]), given["places"], given["shim"]))


if VARIABLE in os.environ:
    _begin()
