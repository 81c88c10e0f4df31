"""The schedule inside of `serve`; the command is a script that stands for `scarwise retrain`."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from serving.outcome import EXIT
from serving.schedule import COMMAND, NICE, Schedule

NEVER = 3600.0


@pytest.fixture
def told(caplog):
    """The lines that the schedule logged so far."""
    caplog.set_level(logging.INFO, logger="serving.schedule")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "serving.schedule"]


def script(tmp_path, text):
    """A command that runs this Python, and notes each time in `runs`."""
    path = tmp_path / "retrain.py"
    path.write_text(f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n{text}\n")
    return [sys.executable, str(path)]


def runs(tmp_path):
    path = tmp_path / "runs"
    return len(path.read_text()) if path.exists() else 0


def until(holds):
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def ends(outcome, code, version=None):
    said = json.dumps({"outcome": outcome, "version": version})
    return f"print({said!r}); raise SystemExit({code})"


@pytest.mark.parametrize(
    ("outcome", "code", "version", "line"),
    [
        ("promoted", 0, 7, "retrain.ended outcome='promoted' model=7 code=0"),
        ("not due", 14, None, "retrain.ended outcome='not due' model=None code=14"),
    ],
)
def test_how_a_turn_ended_is_one_line_of_the_log(tmp_path, told, outcome, code, version, line):
    schedule = Schedule(NEVER, script(tmp_path, ends(outcome, code, version)))

    assert schedule.turn() == code
    assert told() == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "import sys; sys.exit('scarwise: the offline base is not made yet')",
            "retrain.failed code=1 why='scarwise: the offline base is not made yet'",
        ),
        ("print('[]')", "retrain.failed code=0 why=''"),
        ("print(3)", "retrain.failed code=0 why=''"),
        ("import os; os.kill(os.getpid(), 9)", "retrain.failed code=-9 why=''"),
    ],
)
def test_a_turn_that_failed_is_logged_with_the_reason_that_it_gave(tmp_path, told, text, line):
    Schedule(NEVER, script(tmp_path, text)).turn()

    assert told() == [line]


def test_a_command_that_is_not_there_is_logged_and_asked_again(told):
    schedule = Schedule(0.01, ["/nowhere/scarwise"])

    schedule.start()
    until(lambda: len(told()) > 1)
    schedule.close()

    assert told()[0].startswith("retrain.not_started why=")


def test_it_asks_at_once_and_then_again_and_again(tmp_path, told):
    schedule = Schedule(0.01, script(tmp_path, ends("not due", 14)))

    schedule.start()
    until(lambda: len(told()) > 2)
    schedule.close()
    asked = runs(tmp_path)
    time.sleep(0.2)

    assert runs(tmp_path) == asked


def test_a_turn_is_a_process_that_gives_way_to_the_questions(tmp_path):
    said = tmp_path / "said"
    text = f"import os, time; time.sleep(0.1); open({str(said)!r}, 'w').write(str(os.nice(0)))"

    Schedule(NEVER, script(tmp_path, text)).turn()

    assert int(said.read_text()) == max(NICE, os.nice(0))


def test_a_turn_that_is_on_ends_when_the_service_stops(tmp_path, told):
    schedule = Schedule(NEVER, script(tmp_path, "import time; time.sleep(600)"))

    schedule.start()
    until(lambda: runs(tmp_path))
    schedule.close()

    assert told() == [f"retrain.stopped code={-signal.SIGTERM}"]


def test_what_a_turn_started_ends_with_it(tmp_path):
    alive = tmp_path / "alive"
    child = f"import time\nwhile True: open({str(alive)!r}, 'a').write('x'); time.sleep(0.01)"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    schedule = Schedule(NEVER, script(tmp_path, text))

    schedule.start()
    until(alive.exists)
    schedule.close()
    size = alive.stat().st_size
    time.sleep(0.2)

    assert alive.stat().st_size == size


def test_a_turn_that_does_not_end_when_asked_to_is_killed(tmp_path, told):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    text = f"{deaf}; open({str(tmp_path / 'deaf')!r}, 'w'); time.sleep(600)"
    schedule = Schedule(NEVER, script(tmp_path, text), stop_s=0.1)

    schedule.start()
    until((tmp_path / "deaf").exists)
    schedule.close()

    assert told() == [f"retrain.stopped code={-signal.SIGKILL}"]


def test_turns_are_counted_by_how_they_ended(client, tmp_path):
    count = client.app.state.metrics.retrained
    for text in (ends("not due", 14), ends("not due", 14), ends("promoted", 1), "pass"):
        Schedule(NEVER, script(tmp_path, text), count=count).turn()
    Schedule(NEVER, ["/nowhere/scarwise"], count=count).turn()

    lines = client.get("/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith("scarwise_retrainings_total{")]
    assert 'scarwise_retrainings_total{outcome="not due"} 2.0' in counted
    # One that says promoted and fails is not believed.
    assert 'scarwise_retrainings_total{outcome="promoted"} 0.0' in counted
    assert 'scarwise_retrainings_total{outcome="failed"} 3.0' in counted
    assert len(counted) == len(EXIT) + 2


def test_nothing_begins_once_it_was_closed(tmp_path):
    schedule = Schedule(NEVER, script(tmp_path, "pass"))
    schedule.close()

    assert schedule.turn() is None
    assert runs(tmp_path) == 0


def test_what_it_runs_is_the_command_that_cron_would_run(environment):
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "`scarwise base build` makes it" in done.stderr


@pytest.mark.parametrize("hours", [0, 6])
def test_serve_keeps_to_the_schedule_of_the_settings(environment, hours):
    serving = subprocess.Popen(
        [sys.executable, "-m", "serving.cli", "serve", "--port", "0"],
        env={**environment, "SCARWISE_TRAINING_SCHEDULE_HOURS": str(hours)},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    with serving:
        try:
            for line in serving.stderr or []:
                lines.append(line)
                if "retrain." in line or (not hours and "ready" in line):
                    break
        finally:
            serving.terminate()

    # There is no base in this data folder: that the command says so shows that it was asked.
    assert any("retrain.failed code=2" in line for line in lines) == bool(hours)
