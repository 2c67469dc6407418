"""Ctrl-C and SIGTERM held back until what must not be lost is saved, then delivered as if they had come that late."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

HELD = (signal.SIGINT, signal.SIGTERM)


class Held:
    """The signals that came: the first of each kind is held back, a second one acts at once."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """Begin."""
        self._before = {number: signal.signal(number, self._note) for number in HELD}

    def release(self) -> None:
        """Let signals act as before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def deliver(self) -> None:
        """Release, and deliver the first that came: Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process."""
        self.release()
        first = self.came[0]
        self.came.clear()
        signal.raise_signal(first)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if number in self.came:
            self.release()
            signal.raise_signal(number)
        self.came.append(number)


@contextlib.contextmanager
def held(wanted: bool) -> Iterator[Held]:
    """Hold signals back, if wanted; Python lets only the main thread do so, and elsewhere none arrive."""
    signals = Held()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield signals
        return
    signals.hold()
    try:
        yield signals
    finally:
        signals.release()
    if signals.came:  # after the last look at them
        signals.deliver()
