"""Python runs this when it starts, where this folder is on PYTHONPATH: a job of Sterna gets its hooks.

Outside a job it does nothing. Whatever goes wrong here is told on stderr; the program runs as it is.
Kept to syntax that any Python 3 reads.
"""

# Every Python process of a job starts with this, and pathlib takes its time:
# ruff: noqa: PTH100, PTH118, PTH120
import sys
from os import environ, path


class _LastResort:
    """Finds `sterna` beside these files, for a Python that has no other."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> object:
        """See importlib.abc.MetaPathFinder."""
        if name != "sterna":
            return None
        from importlib.util import spec_from_file_location

        init = path.join(self._package, "__init__.py")
        return spec_from_file_location(name, init, submodule_search_locations=[self._package])


def _enter(here: str) -> None:
    """Install the hooks, which act when a known library is imported."""
    sys.meta_path.append(_LastResort(path.dirname(path.dirname(here))))  # type: ignore[arg-type]
    from sterna.trainers import hooks

    hooks.install(environ)


def _next_in_line(here: str) -> None:
    """Run the sitecustomize that this one hides: distributions and environments have theirs."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    others = [entry for entry in sys.path if path.abspath(entry) != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


def _main() -> None:
    here = path.dirname(path.abspath(__file__))
    if environ.get("STERNA_JOB_ID") and not environ.get("NO_STERNA_HOOKS"):
        try:
            _enter(here)
        except Exception as error:  # the program must run, with or without us
            sys.stderr.write("sterna: no hooks, the program runs as it is: " + repr(error) + "\n")
    _next_in_line(here)


_main()
