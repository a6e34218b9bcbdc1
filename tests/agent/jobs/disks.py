"""Small disks of one's own: filled, made read-only, made to fail; skips where none can be mounted."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of a size such as ``4m`` at a folder, which is made."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


_FIBMAP = 1
_BLOCK_BYTES = 4096


class FailingDisk:
    """An ext2 on a loop device; what lies behind the end of the file under it, the kernel cannot read.

    Parameters
    ----------
    image : Path
        The file.
    folder : Path
        Where it is mounted.
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self.folder = folder

    def lose(self, path: Path) -> None:
        """Lose a file's bytes, and what lies behind them on the disk: from now on the kernel says EIO."""
        os.sync()
        with path.open("rb") as file:
            blocks = range(-(-path.stat().st_size // _BLOCK_BYTES))
            places = [_place(file.fileno(), block) for block in blocks]
            os.truncate(self._image, min(places) * _BLOCK_BYTES)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _place(fd: int, block: int) -> int:
    """Return where on its disk a block of a file lies."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _FIBMAP, struct.pack("i", block)))[0])


@contextmanager
def failing(folder: Path) -> Iterator[FailingDisk]:
    """Mount a disk of 16 MB at a folder, which is made; see `FailingDisk`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk on a loop device needs root")
    folder.mkdir(parents=True)
    image = folder.with_name(folder.name + ".img")
    with image.open("wb") as made:
        made.truncate(16_000_000 // _BLOCK_BYTES * _BLOCK_BYTES)
    for command in (
        ["mkfs.ext2", "-q", "-b", str(_BLOCK_BYTES), str(image)],
        ["mount", "-o", "loop", str(image), str(folder)],
    ):
        try:
            done = subprocess.run(command, check=False, capture_output=True)
        except FileNotFoundError as error:
            pytest.skip(f"no disk can be made here: {error}")
        if done.returncode != 0:
            pytest.skip(f"no disk on a loop device can be mounted here: {done.stderr.decode()}")
    try:
        yield FailingDisk(image, folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
