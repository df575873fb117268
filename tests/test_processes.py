"""Programs that are started end with what started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emamba.base import processes

TREE = "sleep 300 & echo $! >&2; echo ready; wait"
"""A program with a child, whose number it says."""


def ended(number: int) -> bool:
    """Whether a process ends within seconds; its parent may leave it as a zombie."""
    for _ in range(500):
        try:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_run():
    done = processes.run(["sh", "-c", "sleep 0.3; cat; echo wrong >&2; exit 3"], input="é\n" * 100_000)
    assert (done.returncode, done.stdout, done.stderr) == (3, "é\n" * 100_000, "wrong\n")
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run(["sleep", "300"], timeout=0.05)
    with pytest.raises(FileNotFoundError):
        processes.run(["no such program"])


def test_a_group_ends_with_the_block():
    with processes.group(["sh", "-c", TREE], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        child = int(process.stderr.readline())
    assert ended(child) and process.returncode


def heeding():
    """Ends by SIGINT, which a shell's background jobs are told to ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_group_ends_with_its_owner(number):
    """The signal goes to the owner alone, as a development environment's stop button sends it."""
    code = (f"import subprocess, sys\nfrom emamba.base import door, processes\n"
            "sys.exit(door.guarded('owner', lambda: processes.run("
            f"['sh', '-c', {TREE!r}], stderr=None).returncode))")
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, preexec_fn=heeding) as owner:
        child = int(owner.stderr.readline())
        os.kill(owner.pid, number)
        status, said = owner.wait(), owner.stderr.read()
    how = {signal.SIGINT: (130, "owner: interrupted; nothing half-written is left\n"),
           signal.SIGTERM: (143, "owner: terminated; nothing half-written is left\n"), signal.SIGKILL: (-9, "")}
    assert (status, said) == how[number] and ended(child)
