"""Threads that are there before they are needed.

A thread that is begun while memory is short can die before it says that it runs, and `threading.Thread.start` waits for
that for ever: in the event loop it would stop the whole daemon. And `ThreadPoolExecutor.submit` has put the work into
its queue before it fails for want of a thread, so that it would be done behind the back of who was told that it failed.
"""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor


def begun(count: int, name: str) -> ThreadPoolExecutor:
    """An executor all of whose threads run. Raises RuntimeError when one cannot be begun."""
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    together = threading.Barrier(count + 1)
    for _ in range(count):
        threads.submit(together.wait)
    together.wait()
    return threads


def watch_children_without_threads() -> None:
    """Let the running loop wait for processes by pidfd_open(2), as asyncio does by itself from Python 3.12 on.

    Before, it begins a thread for each process.
    """
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)
