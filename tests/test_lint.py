"""What `make lint` checks, beside the other tests instead of before them: one process alone would leave the other core idle."""

import subprocess

import pytest

pytestmark = pytest.mark.slow


def test_lint():
    done = subprocess.run(["make", "-s", "-o", ".venv/ready", "lint"], capture_output=True, text=True)  # -o: set-up is over
    assert done.returncode == 0, done.stdout + done.stderr
