"""What a command says of its progress, on a terminal and off it."""

import io
import time

import pytest

from emamba.base import progress
from emamba.base.errors import EmambaError


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def hear(monkeypatch):
    def to(stream, every=10.0):
        monkeypatch.setattr(progress.sys, "stderr", stream)
        monkeypatch.setattr(progress, "EVERY", every)
        return stream

    return to


def test_a_terminal_line_is_rewritten(hear, monkeypatch):
    monkeypatch.setattr(progress, "REDRAWN", 0.0)
    out = hear(Terminal())
    with progress.shown("train"):
        show = progress.meter(3, "epochs")
        show(1, "rmse 3")
        show(2, "rmse 2")
        show(3, "rmse 1")
        progress.say("writes")
    assert out.getvalue() == (
        "1 of 3 epochs; rmse 3\r\033[K2 of 3 epochs, 0 s left; rmse 2\r\033[K3 of 3 epochs; rmse 1\nwrites …\n")


def test_start_up_is_not_in_the_time_left(hear, monkeypatch):
    """A first epoch of 16 s, and then one of 1 s each."""
    clock = iter([0.0, 16.0, 17.0, 18.0])
    out = hear(io.StringIO(), every=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "_write", lambda text, **_: print(text, file=out))
    show = progress.meter(40, "epochs")
    for done in (1, 2, 3):
        show(done)
    assert out.getvalue() == "1 of 40 epochs\n2 of 40 epochs, 38 s left\n3 of 40 epochs, 37 s left\n"


def test_lines_elsewhere(hear, tmp_path):
    """Short work says nothing; long work a line now and then; the log has all."""
    out = hear(io.StringIO())
    with progress.shown("train", log=tmp_path / "log"):
        progress.say("reads")
        progress.meter(2, "epochs")(2)
        progress.note("done")
    assert out.getvalue() == "" and [line[20:] for line in (tmp_path / "log").read_text().splitlines()] == ["reads …", "done"]
    out = hear(io.StringIO(), every=0.0)
    with progress.shown("train"):
        progress.meter(9, "epochs")(3)
    assert "3 of 9 epochs\n" in out.getvalue()


def test_a_silent_stage_is_heard(hear):
    out = hear(io.StringIO(), every=0.02)
    with progress.shown("plan"):
        time.sleep(0.2)
    assert out.getvalue().startswith("plan … 0 s\n")
    out = hear(io.StringIO(), every=0.02)
    with progress.shown("plan", quiet=True):
        time.sleep(0.1)
    assert out.getvalue() == ""


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmambaError, match=r"^cannot write --log "), progress.shown("train", log=tmp_path / "file" / "log"):
        pass
