"""The schedule inside of `serve`: every so many hours `scarwise retrain --if-due`, as a process.

A turn shares neither memory nor locks with the service, and is finished by the next one when the
service stops. What it promotes is served by the live model, which follows the store by itself.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from serving.outcome import EXIT, Outcome

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "serving.cli", "retrain", "--if-due", "--json")
NICE = 10  # questions are answered first
FAILED, STOPPED = "failed", "stopped"  # ended without an outcome; the next turn goes on with it
STOP_S = 10.0  # until a turn that is asked to end is ended; the next one goes on with it


class Schedule:
    """Runs a command now and then every `every_s`, one at a time, from `start` to `close`.

    `count` is told how each turn ended: its outcome, else `FAILED` or `STOPPED`.
    """

    def __init__(
        self,
        every_s: float,
        command: Sequence[str] = COMMAND,
        *,
        count: Callable[[str], None] = lambda outcome: None,
        stop_s: float = STOP_S,
    ) -> None:
        self.every_s = every_s
        self.command = tuple(command)
        self.count = count
        self.stop_s = stop_s
        self._stopping = threading.Event()
        # A process that starts while the schedule closes would be stopped by nobody.
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Ask for the first time at once: a service that is started every day would never, else."""
        self._thread = threading.Thread(target=self._keep_asking, name="schedule", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no more, and end the turn that is on."""
        with self._lock:
            self._stopping.set()
            self._signal(signal.SIGTERM)
        if self._thread:
            self._thread.join(timeout=self.stop_s)
            self._signal(signal.SIGKILL)
            self._thread.join(timeout=1)

    def turn(self) -> int | None:
        """Run the command once and log how it ended; its exit code, None when it never ran."""
        try:
            running = self._begun()
        except OSError as error:
            log.error("retrain.not_started why=%r", str(error))
            self.count(FAILED)
            return None
        if running is None:
            return None
        said, complained = running.communicate()
        self._running = None
        was_stopped = self._stopping.is_set()
        self.count(_tell(running.returncode, said, complained, was_stopped=was_stopped))
        return running.returncode

    def _begun(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            self._running = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
            with suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, self._running.pid, NICE)
            return self._running

    def _signal(self, which: signal.Signals) -> None:
        """To the turn that is on and to what it started: each is a session of its own."""
        running = self._running
        if running is not None and running.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, which)

    def _keep_asking(self) -> None:
        while not self._stopping.is_set():
            self.turn()
            self._stopping.wait(self.every_s)


def _tell(code: int, said: str, complained: str, *, was_stopped: bool) -> str:
    """Log one line, how the turn ended or the last line of what it complained about; its outcome.

    A turn has ended as it says only when its exit code says the same.
    """
    outcome, version = _ended(said)
    if outcome is not None and code == EXIT[outcome]:
        log.info("retrain.ended outcome=%r model=%s code=%d", outcome, version, code)
        return outcome
    if was_stopped:
        log.info("retrain.stopped code=%d", code)
        return STOPPED
    why = next(reversed(complained.strip().splitlines()), "")
    log.error("retrain.failed code=%d why=%r", code, why)
    return FAILED


def _ended(said: str) -> tuple[Outcome | None, int | None]:
    """The outcome in the last line of what the command said, and the model it is about."""
    try:
        ended = json.loads(said.splitlines()[-1])
        return (ended["outcome"], ended["version"]) if ended["outcome"] in EXIT else (None, None)
    except (IndexError, ValueError, TypeError, KeyError):
        return None, None
