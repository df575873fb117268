"""How the programs end: exit status and sentence of every end that is no success."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from emamba import cli, door
from emamba.errors import EmambaError
from rtl import build


def ends(error: BaseException | None = None):
    def work():
        if error:
            raise error
    return work


@pytest.mark.parametrize("error, status, sentence", [
    (None, 0, None),
    (EmambaError("no"), 1, "no"),
    (EmambaError("no a\nb\x1b é"), 1, "no a\\nb\\x1b é"),
    (KeyboardInterrupt(), 130, "interrupted; nothing half-written is left"),
    (door.Terminated(signal.SIGTERM), 143, "terminated; nothing half-written is left"),
    (MemoryError("Unable to allocate 8 GiB"), 1,
     "not enough memory (Unable to allocate 8 GiB): use less data, a smaller model, or another machine"),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "cannot read or write x: No space left on device"),
])
def test_ends(capsys, error, status, sentence):
    assert door.guarded("program", ends(error)) == status
    assert capsys.readouterr() == ("", f"program: {sentence}\n" if sentence else "")


@pytest.mark.parametrize("error", [KeyError("RMSNorm"), RecursionError("deep"), BrokenPipeError(errno.EPIPE, "of a tool"),
                                   UnicodeEncodeError("ascii", "é", 0, 1, "no\nsuch")], ids=lambda error: type(error).__name__)
def test_a_fault_is_a_sentence_and_a_file(capsys, monkeypatch, tmp_path, error):
    monkeypatch.setattr(door.tempfile, "tempdir", str(tmp_path))
    status, said = door.guarded("program", ends(error)), capsys.readouterr().err
    if isinstance(error, BrokenPipeError):  # not of standard output
        assert (status, said) == (1, "program: cannot read or write the output: of a tool\n")
        return
    file, = tmp_path.iterdir()
    assert status == 70 and said.count("\n") == 1
    assert said.startswith(f"program: {type(error).__name__}: ") and said.endswith(
        f": this is a fault of eMamba and not of what you gave it; report it with {file}, where its traceback lies\n")
    assert "in work\n" in file.read_text(encoding="utf-8") and type(error).__name__ in file.read_text(encoding="utf-8")
    monkeypatch.setattr(door.tempfile, "tempdir", str(tmp_path / "none"))
    assert door.guarded("program", ends(error)) == 70 and capsys.readouterr().err.endswith("gave it; report it\n")


@pytest.mark.parametrize("program, main, name", [("emamba", cli.main, "emamba.cli._run"),
                                                 ("rtl.build", build.main, "rtl.build.build")])
def test_both_programs_are_guarded(monkeypatch, capsys, program, main, name):
    monkeypatch.setattr(name, lambda options: 1 / 0)
    monkeypatch.setattr(door, "_keep_traceback", lambda error: "")
    assert main(["schema", "recipe"] if program == "emamba" else ["verilog"]) == 70
    assert capsys.readouterr().err.startswith(f"{program}: ZeroDivisionError: division by zero: this is a fault of eMamba ")


def emamba(*words: str, **options) -> tuple[int, str]:
    """Exit status and standard error of a process, whose output is buffered."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-m", "emamba.cli", *words], stderr=subprocess.PIPE, text=True, env=environment,
                          **options)
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["schema", "recipe"], ["--version"]], ids=" ".join)
def test_an_output_that_nobody_reads(words):
    """Long ones break the pipe while they are printed, short ones when they are flushed."""
    end, pipe = os.pipe()
    os.close(end)
    assert emamba(*words, stdout=pipe) == (141, "")
    os.close(pipe)


def test_a_full_output():
    with open("/dev/full", "w") as full:
        assert emamba("--version", stdout=full) == (1, "emamba: cannot read or write the output: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1"])
def test_an_output_without_a_character_escapes_it(encoding):
    code = "from emamba.door import guarded; guarded('x', lambda: print('a → é'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == {"ascii": b"a \\u2192 \\xe9\n", "iso8859-1": b"a \\u2192 \xe9\n"}[encoding]
