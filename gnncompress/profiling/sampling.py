"""A thread that looks at something again and again, for little of the processor's time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# So much of a core a sampler takes at most, whatever a sample costs.
SHARE = 0.005


class Sampler:
    """Calls ``sample`` every ``interval`` seconds between ``start`` and ``stop``; less often if that took too much.

    Too much is more than ``SHARE`` of the time since ``start``. What ``sample`` raises ends the sampling and is raised
    by ``stop``.
    """

    def __init__(self, sample: Callable[[], None], interval: float) -> None:
        self._sample, self._interval = sample, interval
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin to sample, the first time after an interval."""
        self._done.clear()
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        started, wait = time.perf_counter(), self._interval
        try:
            while not self._done.wait(wait):
                self._sample()
                wait = max(self._interval, time.thread_time() / SHARE - (time.perf_counter() - started))
        except Exception as error:
            self._error = error
