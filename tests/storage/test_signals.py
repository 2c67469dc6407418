"""Signals that wait: also in the first process of a container, which no signal ends by itself."""

import shutil
import signal
import subprocess
import sys

import pytest

from bbb.storage import signals
from tests import ROOT

WAIT = """
import os, signal, sys
from bbb.storage import signals

assert os.getpid() == 1
for times in (1, 2):
    try:
        with signals.deferred(True) as came:
            for _ in range(times):
                os.kill(1, signal.SIGTERM)
            print("saved")
        print("went on")
    except SystemExit as error:
        print(error.code)
"""


def first_of_a_container(script):
    """Return the command that runs a script as process 1 of a space of processes of its own; skip if it is refused."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine")
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no space of processes of one's own")
    return [*command, sys.executable, "-c", script]


def test_the_first_process_of_a_container_leaves_once_all_is_saved():
    done = subprocess.run(first_of_a_container(WAIT), capture_output=True, text=True, check=False, cwd=ROOT)
    # the second time, the second signal acts at once, before anything is saved
    assert done.stdout.split("\n") == ["saved", str(128 + signal.SIGTERM), str(128 + signal.SIGTERM), ""], done.stderr


def test_a_handler_of_the_program_decides_what_a_signal_does():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with signals.deferred(True):
            signal.raise_signal(signal.SIGTERM)
            assert came == []
        assert came == [signal.SIGTERM]  # and this process goes on
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_may_leave_in_order_at_sigterm_too():
    """By an exception, with what shells call its exit status; a handler of the program still decides."""
    with signals.deferred(True) as waiting:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
            waiting.deliver(in_order=True)
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with signals.deferred(True) as waiting:
            signal.raise_signal(signal.SIGTERM)
            waiting.deliver(in_order=True)
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
