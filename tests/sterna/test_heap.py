"""One heap for all threads, as the C library itself tells."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, platform, sys, threading
from sterna.heap import share_one_heap
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
shared = sys.argv[2] == "shared" and share_one_heap()
gate = threading.Barrier(5)
def allocate():
    held = [bytes(5000) for _ in range(100)]
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
gate.wait()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(platform.libc_ver()[0], shared)
"""


def heaps(folder: Path, mode: str) -> int:
    told = folder / mode
    run = [sys.executable, "-c", PROGRAM, str(told), mode]
    said = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    if said[0] != "glibc":
        pytest.skip("malloc_info and mallopt are glibc's")
    assert said[1] == str(mode == "shared")
    return told.read_text().count("<heap nr=")


def test_threads_share_one_heap(tmp_path: Path) -> None:
    assert heaps(tmp_path, "apart") > 1
    assert heaps(tmp_path, "shared") == 1


GIVING_BACK = """
import asyncio, platform, resource
from pathlib import Path
from sterna.heap import FreedMemory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
async def main():
    freed = FreedMemory(linger_s=0.01)
    with freed.given_back(), freed.given_back():
        held = [b"x" * 60_000 + bytes([number % 256]) for number in range(500)]
        above = held[-1]  # what lies below it, glibc keeps
        del held
    before, waited = resident(), 0
    while resident() > before - 16 * 1024 * 1024 and waited < 3000:
        await asyncio.sleep(0.01)
        waited += 1
    print(platform.libc_ver()[0], before - resident())
asyncio.run(main())
"""


def test_freed_memory_is_given_back_after() -> None:
    run = [sys.executable, "-c", GIVING_BACK]
    libc, given_back = subprocess.run(
        run, capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    if libc != "glibc":
        pytest.skip("malloc_trim is glibc's")
    assert int(given_back) > 16 * 1024 * 1024
