"""A tethered program: the same process, output and exit code, and gone when its starter is."""

import os
import signal
import subprocess
import sys

import pytest

from wafermonitor.instrumentation import tether
from wafermonitor.instrumentation.tether import tethered

pytestmark = pytest.mark.slow


def test_the_process_becomes_the_program():
    with subprocess.Popen(tethered(["/bin/sh", "-c", "echo $$; exit 7"]), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid
    assert process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_gets_its_signal_when_the_starter_is_killed(number):
    program = (
        "import signal, sys\n"
        f"signal.signal({number.value}, lambda *_: (print('{number.name}', flush=True), sys.exit()))\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    starter = (
        "import subprocess, signal, sys\n"
        "from wafermonitor.instrumentation.tether import tethered\n"
        f"subprocess.run(tethered([sys.executable, '-c', sys.argv[1]], signal.{number.name}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        assert process.stdout.read() == f"{number.name}\n"


def test_a_starter_that_is_gone_already_starts_nothing():
    command = tethered(["/bin/echo", "never"])
    command[command.index(tether.__file__) + 1] = str(os.getppid())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "/bin/echo is not started" in done.stderr


def test_a_program_that_is_not_there_is_named():
    done = subprocess.run(tethered(["/no/such/program"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "/no/such/program: No such file or directory\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give up root")
def test_it_runs_as_another_account():
    words = tethered(["/bin/sh", "-c", "id -u; id -g; id -G"], account=(65534, 65533))
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == ["65534", "65533", "65533"]
