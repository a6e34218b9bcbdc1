"""How a checkpoint gets out of a trainer's reach, and a copy of it back into it. Blocking.

Reflinked where the file system can, else copied. Files that a trainer has left behind for good may be linked
instead; a link to files that somebody may still write to would protect nothing (DESIGN 5).
"""

import errno
import fcntl
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent.core.manifest import Layout
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoint_pass import ChunkPass
from agent.model.jobs import CheckpointFile
from sterna.errors import CorruptError

_FICLONE = 0x40049409
_NO_REFLINK = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EIO}
)
"""EIO: the copy that is made instead tells which of the two files the disk failed with."""

_CLONED_BYTES = 65_536
"""At least a block of every file system that has reflinks."""

Locate = Callable[[str], Path]


def link_out(found: Sequence[disk.Found], target: Path, left_in: Path) -> bool:
    """Give files that a trainer left behind a second name below `target`; all of them, or none.

    Parameters
    ----------
    found : sequence of Found
        The files.
    target : Path
        New folder.
    left_in : Path
        Folder of a run that has ended: nobody resumes in it, and it is going to be removed.

    Returns
    -------
    bool
        False: one of them lies elsewhere, has another name or owner, is open for writing, or cannot be
        linked.
    """
    left_in = left_in.resolve()
    ours = os.geteuid()
    try:
        for item in found:
            status = item.path.stat()
            if not item.path.is_relative_to(left_in) or status.st_nlink != 1 or status.st_uid != ours:
                break
            path = target / item.name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(item.path, path)
            if not without_writers(path):
                break
        else:
            return True
    except OSError:  # another file system, or one without links
        pass
    disk.remove(target)
    return False


def without_writers(path: Path) -> bool:
    """Ask the kernel whether nobody has a file open for writing: only then does it give a read lease."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Whoever opens it right now breaks the lease, and the kernel's usual signal for that would end us.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def hash_in_place(
    layout: Layout, locate: Locate, stop: threading.Event, threads: int, digests: list[bytes]
) -> None:
    """Hash files where they lie, as far as `digests` is empty, and make them durable meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="sync") as pool:
        synced = pool.submit(sync, layout.manifest.files, locate, stop)
        ChunkPass(layout, locate, digests=digests).run(stop, threads)
        synced.result()


def sync(files: Sequence[CheckpointFile], locate: Locate, stop: threading.Event) -> None:
    """Make files durable."""
    for file in files:
        if stop.is_set():
            raise disk.Abandoned
        fd = os.open(locate(file.path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def copy(
    layout: Layout,
    locate: Locate,
    target: Path,
    stop: threading.Event,
    *,
    threads: int,
    hashing: bool = True,
    verified_as: str = "",
) -> tuple[bytes, ...]:
    """Copy files below `target`, reflinked where the file system can; see `ChunkPass`."""
    if not _clone_all(layout.manifest.files, locate, target):
        made = ChunkPass(layout, locate, target=target, hashing=hashing, verified_as=verified_as)
        return made.run(stop, threads)
    if not hashing:
        return ()
    return ChunkPass(layout, target.joinpath, verified_as=verified_as).run(stop, threads)


def _clone_all(files: Sequence[CheckpointFile], locate: Locate, target: Path) -> bool:
    """Reflink every file; False, with nothing left below `target`, where that cannot be."""
    for file in files:
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with locate(file.path).open("rb") as reader, path.open("xb") as writer:
            try:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            except OSError as error:
                if error.errno not in _NO_REFLINK:
                    raise
                break
    else:
        return True
    for left in target.iterdir():
        disk.remove(left)
    return False


def can_clone(folder: Path) -> bool:
    """Tell whether the file system of a folder has reflinks; tried with two small files."""
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        one.write(bytes(_CLONED_BYTES))
        one.flush()
        try:
            fcntl.ioctl(other.fileno(), _FICLONE, one.fileno())
        except OSError:
            return False
    return True


def require_sizes(files: Sequence[CheckpointFile], folder: Path) -> None:
    """Compare the stored files with the manifest's list.

    Raises
    ------
    CorruptError
        One is missing or has another size.
    UnreadableError
        The disk does not tell.
    """
    for file in files:
        path = folder / file.path
        try:
            size_bytes = disk.reading(path, path.stat).st_size
        except FileNotFoundError as error:
            raise CorruptError(f"checkpoint file {file.path} is missing") from error
        if size_bytes != file.size_bytes:
            raise CorruptError(f"checkpoint file {file.path} has {size_bytes} bytes, not {file.size_bytes}")
