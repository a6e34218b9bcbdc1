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
