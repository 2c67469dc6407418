"""Ctrl-C and SIGTERM: deferred until what must not be lost is saved, then delivered as if they had come that late.

And Ctrl-C while the command is still importing its modules, which ends it as it does later.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

DEFERRED = (signal.SIGINT, signal.SIGTERM)


INTERRUPTED = 128 + signal.SIGINT
"""The command's exit status after Ctrl-C, as shells have it."""


SAID = "bbb: interrupted; nothing half-written was left behind"
"""What the command prints then."""


def is_command() -> bool:
    """Return whether this program is the command, `bbb` or `python -m bbb`, and not one that imports the library."""
    if sys.argv[:1] == ["-m"]:  # Python is still looking for the module that it runs
        return sys.orig_argv[-len(sys.argv)] in ("bbb", "-mbbb")
    return os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0] == "bbb"


def leave_on_interrupt() -> None:
    """Make Ctrl-C end the process at once, if it is the command and Ctrl-C is neither ignored nor handled otherwise.

    For the time of the imports, where a KeyboardInterrupt would end in a traceback, or in a module half made.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def raise_on_interrupt() -> None:
    """Undo `leave_on_interrupt`, now that somebody catches KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: Any) -> None:
    del number, frame
    os.write(2, f"{SAID}.\n".encode())
    os._exit(INTERRUPTED)


class DeferredSignals:
    """The signals that came: the first of each kind waits until it is delivered, a second one acts at once."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._before: dict[int, Any] = {}

    def begin(self) -> None:
        """Take the signals from whoever handled them."""
        self._before = {number: signal.signal(number, self._note) for number in DEFERRED}

    def release(self) -> None:
        """Give the signals back to whoever handled them."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def deliver(self, *, in_order: bool = False) -> None:
        """Release the signals, and deliver the first: Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process.

        Args:
            in_order: whether to leave by an exception at SIGTERM too, so that Python does what is due at its end.

        Raises:
            SystemExit: at SIGTERM, in the first process of a container, or in order.
        """
        self.release()
        first = self.came[0]
        self.came.clear()
        if in_order and signal.getsignal(first) is signal.SIG_DFL:
            sys.exit(128 + first)
        _act(first)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if number in self.came:
            self.release()
            _act(number)
        self.came.append(number)


def _act(number: int) -> None:
    """Raise a signal again; leave by an exception if nobody handles it, and the system does not end the process either.

    Linux ends the first process of a container, whose id is 1, by no signal that it has no handler for.

    Raises:
        SystemExit: there, with the exit status that shells give for this signal.
    """
    signal.raise_signal(number)
    if signal.getsignal(number) is signal.SIG_DFL:
        sys.exit(128 + number)


@contextlib.contextmanager
def deferred(wanted: bool) -> Iterator[DeferredSignals]:
    """Defer signals, if wanted; Python lets only the main thread do so, and elsewhere none arrive."""
    signals = DeferredSignals()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield signals
        return
    signals.begin()
    try:
        yield signals
    finally:
        signals.release()
    if signals.came:  # after the last look at them
        signals.deliver()
