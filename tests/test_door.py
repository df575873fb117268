"""How the programs end: exit status and sentence of every end that is no success."""

import argparse
import errno
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emamba.base import door, options
from emamba.base.errors import EmambaError
from flow import build, cli
from flow.cli import look
from rtl.plan.schedule import MAX_CYCLES


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


@pytest.mark.parametrize("program, main, name", [("emamba", cli.main, "flow.cli.run"),
                                                 ("rtl.build", build.main, "flow.build.build")])
def test_both_programs_are_guarded(monkeypatch, capsys, program, main, name):
    monkeypatch.setattr(name, lambda options: 1 / 0)
    monkeypatch.setattr(door, "_keep_traceback", lambda error: "")
    assert main(["schema", "recipe"] if program == "emamba" else ["verilog"]) == 70
    assert capsys.readouterr().err.startswith(f"{program}: ZeroDivisionError: division by zero: this is a fault of eMamba ")


def emamba(*words: str, **options) -> tuple[int, str]:
    """Exit status and standard error of a process, whose output is buffered."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-m", "flow.cli", *words], stderr=subprocess.PIPE, text=True, env=environment,
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
    code = "from emamba.base.door import guarded; guarded('x', lambda: print('a → é'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == {"ascii": b"a \\u2192 \\xe9\n", "iso8859-1": b"a \\u2192 \xe9\n"}[encoding]


# -- numbers and files of the command line ------------------------------------------------------------------------------------

TEXTS = ("0", "-1", "nan", "inf", "-inf", "1e9", "1e3", "", "٣", "1_000", " 1", "1e999", "9" * 30, "0x10", "1,5", "--")


def numbers():
    """Every option and argument of both programs that takes a number."""
    commands = next(action for action in cli.make_parser()._actions if action.dest == argparse.SUPPRESS and action.choices)
    parsers = {"rtl.build": build.make_parser()} | commands.fill()
    return [(name, action) for name, parser in parsers.items() for action in parser._actions
            if action.type is not None and action.type is not Path]


def test_every_number_has_limits():
    assert len(numbers()) > 30 and all(isinstance(action, options.Number) for _, action in numbers())
    assert options.MOST_CYCLES == MAX_CYCLES


@pytest.mark.parametrize("text", TEXTS)
def test_numbers(text):
    """What is no number is wrong usage; what is no such number is one sentence; what is left is finite and inside its limits."""
    for name, action in numbers():
        flag, found = next(iter(action.option_strings), action.dest), argparse.Namespace()
        try:
            value = action.type(text)
        except ValueError:
            assert text not in ("0", "-1")
            continue
        try:
            action(None, found, value, flag)
            options.check(found)
        except EmambaError as error:
            assert re.fullmatch(rf"({flag}|cycles_per_token) (must|=) [^\n]+, not \S+|cycles_per_token = \S+ is out of .*",
                                str(error)), (name, str(error))
        else:
            kept = getattr(found, action.dest)
            assert math.isfinite(kept) and kept <= action.most and (action.least is None or kept >= action.least), (name, flag)
            assert action.above is None or kept > action.above


@pytest.mark.parametrize("words, status, sentence", [
    (["prepare", "w", "--out", "o", "--seconds", "inf"], 1, "emamba: --seconds must be at most 3600, not inf\n"),
    (["prepare", "w", "--out", "o", "--seconds", "nan"], 1, "emamba: --seconds must be at least 0.025, not nan\n"),
    (["pick", "s", "3", "--search", "s", "--out", "o", "--epochs", "0"], 1, "emamba: --epochs must be at least 1, not 0\n"),
    (["pick", "s", "-1", "--search", "s", "--out", "o"], 1, "emamba: TRIAL must be at least 0, not -1\n"),
    (["quantize", "c", "--out", "o", "--tolerance", "nan"], 1, "emamba: --tolerance must be at least 0, not nan\n"),
    (["sensitivity", "c", "--widths", "٦,8"], 1,
     "emamba: --widths ٦,8: name numbers of bits from 2 to 24, separated by commas\n"),
    (["evaluate", "--limit", "1e3"], 2, "emamba evaluate: error: argument --limit: invalid int value: '1e3'\n"),
])
def test_refused_numbers(capsys, words, status, sentence):
    try:
        found = cli.main(words)
    except SystemExit as end:
        found = end.code
    assert found == status and capsys.readouterr().err.endswith(sentence)


def test_an_output_is_no_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("r.json", "x.npy", "c.toml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link.json").symlink_to("r.json")
    for words, sentence in (
            ("report --out r.html --sensitivity r.json",
             "--sensitivity r.json is the file that what --out r.html writes beside it would replace"),
            ("report --out r.html --stalls link.json",
             "--stalls link.json is the file that what --out r.html writes beside it would replace"),
            ("report --out r.html --json r.html", "--json r.html is the file that --out r.html would replace"),
            ("evaluate --json r.html", ""),
            ("trace --inputs x.npy --out x.npy", "--inputs x.npy is the file that --out x.npy would replace"),
            ("simulate --vcd a.vcd --json a.gtkw",
             "--json a.gtkw is the file that what --vcd a.vcd writes beside it would replace"),
            ("sensitivity m --config c.toml --json c.toml", "--config c.toml is the file that --json c.toml would replace")):
        monkeypatch.setattr(look, "load", lambda *_: (_ for _ in ()).throw(EmambaError("went on")))
        assert cli.main(words.split()) == 1
        assert capsys.readouterr().err == f"emamba: {f'{sentence}: name another one' if sentence else 'went on'}\n"
    assert all((tmp_path / name).read_text() == name for name in ("r.json", "x.npy", "c.toml"))


def test_what_another_command_wrote_is_a_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for option in ("--sensitivity", "--stalls"):
        assert cli.main(["report", "--out", str(tmp_path / "r.html"), option, str(tmp_path / "pipe")]) == 1
        assert capsys.readouterr().err.startswith(f"emamba: cannot read {tmp_path}/pipe: it is a pipe; ")


def test_an_output_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    """Where its artifact could not be written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis").touch()
    for words in (["quantize", "c"], ["finetune", "a", "--run", "r"], ["pick", "s", "3", "--search", "s"]):
        assert cli.main([*words, "--out", "theirs"]) == 1
        assert capsys.readouterr().err.startswith("emamba: theirs is no earlier output, since it has no manifest.json: name an")
        assert cli.main([*words, "--out", "a\nb"]) == 1
        assert capsys.readouterr().err == "emamba: --out a\\nb: name it with characters that can be printed\n"
