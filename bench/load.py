"""What goes on beside a measurement: work in a thread of its own, and sending at a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Work for as long as a block lasts; the event that is set at its end is what the work is given."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def at_rate(stop: threading.Event, rate: float, workers: int, send: Callable[[int], object]) -> None:
    """Call ``send`` with 0, 1, 2, … so many times a second, by so many at once, until the event is set."""
    began, number = time.monotonic(), 0
    with ThreadPoolExecutor(workers) as pool:
        while not stop.wait(max(0.0, began + number / rate - time.monotonic())):
            pool.submit(send, number)
            number += 1
