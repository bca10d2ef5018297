"""How fast the disk can be, for the limit: it must not look slower here than in the run that is held against it.

Buffers in huge pages: a request has at most 254 segments (virtio), and of 4 KiB pages that is 1 MB. On the machine of
November 2026 reads and writes side by side made 5.5 GB/s with huge pages and 2.0 GB/s without.
"""

import ctypes
import mmap
import os
import tempfile
import threading
import time

HUGE_PAGE = 2 << 20
BLOCK = 4 << 20
SLOTS = 384  # of the scratch file
SAMPLE = 3 << 29  # bytes that are moved at most
DEPTHS = (1, 4)  # threads for each direction; what saturates a disk differs


def buffer():
    """A block of noise in huge pages, where there are any."""
    pages = mmap.mmap(-1, BLOCK + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        pass  # a kernel without them
    begin = -ctypes.addressof(ctypes.c_char.from_buffer(pages)) % HUGE_PAGE
    block = memoryview(pages)[begin : begin + BLOCK]
    block[:] = os.urandom(BLOCK)
    return block


def timed(file, depth, blocks):
    """Seconds for `blocks` blocks read and as many written, side by side, `depth` in flight of each."""

    def read(file, block, at):
        os.preadv(file, [block], at)

    def work(block, call, first):
        for i in range(first, blocks, depth):
            call(file, block, i % SLOTS * BLOCK)

    threads = [threading.Thread(target=work, args=(buffer(), call, first)) for first in range(depth) for call in (read, os.pwrite)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - start


def seconds(folder, moved):
    """Of `moved` bytes, half of them read and half written, with O_DIRECT: the least over the depths, from a sample."""
    blocks = min(moved, SAMPLE) // 2 // BLOCK
    if blocks == 0:
        return 0.0
    with tempfile.NamedTemporaryFile(dir=folder) as scratch:
        file = os.open(scratch.name, os.O_RDWR | os.O_DIRECT)
        try:
            block = buffer()
            for slot in range(min(blocks, SLOTS)):
                os.pwrite(file, block, slot * BLOCK)
            return min(timed(file, depth, blocks) for depth in DEPTHS) * moved / (2 * blocks * BLOCK)
        finally:
            os.close(file)
