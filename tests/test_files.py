"""Files: what is read, what is replaced, and what is left behind."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from emamba.base.errors import EmambaError
from emamba.io import files

MARKER = "mark.json"


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        make = {"pipe": os.mkfifo, "folder": os.mkdir, "socket": listener.bind, "device": partial(os.symlink, "/dev/zero")}
        make[kind]("x")
        for read in (files.check_regular, files.read_bytes):
            what = "Is a directory" if kind == "folder" else f"it is a {kind}; name a file, or save it as one first"
            with pytest.raises(EmambaError, match=f"^cannot read x: {what}$"):
                read("x")


def test_reading(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(EmambaError, match=r"^cannot read .*/x: No such file or directory$"):
        files.read_bytes(path)
    path.write_bytes(b"caf\xc3\xa9")
    assert files.read_bytes(path, 5) == b"caf\xc3\xa9" and files.read_text(path) == "café"
    with pytest.raises(EmambaError, match=r"/x has 5 bytes; at most 4 are read$"):
        files.read_bytes(path, 4)
    with pytest.raises(EmambaError, match="embedded null byte"):
        files.read_bytes("a\0b")


# -- writing ------------------------------------------------------------------------------------------------------------------


def make(path: Path, record: str | None = MARKER, **contents: str) -> None:
    with files.write_folder(path, MARKER, record) as folder:
        (folder / MARKER).write_text("{}")
        for name, text in contents.items():
            file = folder / name.replace("__", "/")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)


def tree(path: Path) -> dict[str, str]:
    return {file.relative_to(path).as_posix(): file.read_text() for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != MARKER}


@pytest.mark.parametrize("how", ["exchange", "without exchange", "without links"])
def test_what_is_of_the_user_is_kept(tmp_path, monkeypatch, how):
    if how == "without exchange":
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: None)
    if how == "without links":
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError))
    out = tmp_path / "out"
    make(out, top="1", old="1", system__a="1", gone__b="1")
    for name in ("notes", "system/mine", "project/run/x"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    (out / "empty").mkdir()
    (out / "link").symlink_to("project", target_is_directory=True)
    make(out, top="2", system__a="2", new="2")
    mine = {name: name for name in ("notes", "system/mine", "project/run/x")}
    assert tree(out) == mine | {"top": "2", "system/a": "2", "new": "2"}
    assert (out / "empty").is_dir() and (out / "link").readlink() == Path("project") and not (out / "gone").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_without_a_list(tmp_path):
    """Of an earlier version, or of a kind whose names are fixed: what has the names of the new one is ours."""
    make(tmp_path / "out", None, a="1", b="1")
    make(tmp_path / "out", a="2")
    assert tree(tmp_path / "out") == {"a": "2", "b": "1"}


@pytest.mark.parametrize("name", ["a", MARKER])
def test_what_the_user_changed_is_not_replaced(tmp_path, name):
    out = tmp_path / "out"
    make(out, a="1")
    text = json.dumps(json.loads((out / name).read_text()) | {"unit": "bar"}) if name == MARKER else "2"
    (out / name).write_text(text)
    with pytest.raises(EmambaError, match=rf"^{out}/{name} was changed after it was written: move it away, or name another"):
        files.check_replaceable(out, MARKER, MARKER)
    (out / name).unlink()
    (out / MARKER).touch()
    make(out, a="3")
    assert tree(out) == {"a": "3"}


def test_a_name_that_is_the_users(tmp_path):
    out = tmp_path / "out"
    make(out, a="1")
    (out / "b").write_text("mine")
    with pytest.raises(EmambaError, match=rf"^{out}/b was not written here and would be replaced: move it away, or name anoth"):
        make(out, a="2", b="2")
    assert tree(out) == {"a": "1", "b": "mine"} and len(list(tmp_path.iterdir())) == 1


def test_places_that_cannot_be_replaced(tmp_path, monkeypatch):
    make(tmp_path / "out", a="1")
    monkeypatch.chdir(tmp_path / "out")
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "mounted")
    make(tmp_path / "mounted", a="1")
    (tmp_path / "loop").symlink_to("loop")
    for place, sentence in ((Path("."), r"^\. is the current folder, which cannot be replaced as a whole: name a folder in it"),
                            (tmp_path / "mounted", r"/mounted is a mount point, which cannot be replaced as a whole: name a fol"),
                            (tmp_path / "loop", r"^cannot read .*/loop: Symlink loop from .*; name another folder with --out$"),
                            (Path(".."), r"^\.\. is no earlier output, since it has no mark.json"),
                            (Path("/"), "^/ is no earlier output"), (tmp_path / ("x" * 300), "File name too long; name another")):
        with pytest.raises(EmambaError, match=sentence):
            make(place, a="2")
    (tmp_path / MARKER).touch()
    with pytest.raises(EmambaError, match=r"^\.\. is above the current folder, which cannot be replaced as a whole"):
        make(Path(".."), a="2")
    assert tree(tmp_path / "out") == tree(tmp_path / "mounted") == {"a": "1"}


def test_a_link_to_a_folder_is_followed(tmp_path):
    make(tmp_path / "real", a="1")
    (tmp_path / "link").symlink_to("real")
    make(tmp_path / "link", a="2")
    assert (tmp_path / "link").is_symlink() and tree(tmp_path / "real") == {"a": "2"}


def test_one_file(tmp_path):
    def write(path: Path, text="new"):
        files.write_file(path, lambda new: new.write_text(text))

    planted = tmp_path / ".x.tmp"
    planted.symlink_to(tmp_path / "victim")
    write(tmp_path / "x")
    (tmp_path / "link").symlink_to("x")
    write(tmp_path / "link", "through a link")
    write(Path("/dev/null"))
    assert (tmp_path / "x").read_text() == "through a link" and (tmp_path / "link").is_symlink() and planted.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.tmp", "link", "x"] and Path("/dev/null").is_char_device()
    with pytest.raises(EmambaError, match=r"^cannot write .*: Is a directory; name a folder you may write to$"):
        write(tmp_path)
    with pytest.raises(ZeroDivisionError):
        files.write_file(tmp_path / "y", lambda new: 1 / 0)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("mask, file, folder", [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_modes_are_by_the_umask(tmp_path, mask, file, folder):
    """Whatever a library makes them: safetensors makes them 0600."""
    before = os.umask(mask)
    try:
        with files.write_folder(tmp_path / "out", MARKER) as new:
            for name in ("a", MARKER):
                (new / name).touch(0o600)
        files.write_file(tmp_path / "b", lambda new: (new.unlink(), new.touch(0o600)))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"out": folder, "a": file, MARKER: file, "b": file}


def test_the_next_run_cleans_what_a_killed_one_left(tmp_path):
    """And nothing else: not what lives, nor what only has such a name."""
    code = ("import sys\nfrom pathlib import Path\nfrom emamba.io.files import write_folder\n"
            "with write_folder(Path('out'), 'm'):\n"
            "    print('ready', flush=True)\n    sys.stdin.read()")
    start = partial(subprocess.Popen, [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with start() as killed, start() as living:
        for process in (killed, living):
            process.stdout.readline()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        (tmp_path / ".emamba-00000000").mkdir()
        (tmp_path / ".emamba-00000000" / "mine").touch()
        make(tmp_path / "new", a="1")
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 3 and names[:1] == [".emamba-00000000"] and names[-1:] == ["new"]
        living.communicate()
    shutil.rmtree(tmp_path / ".emamba-00000000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


def test_one_at_a_time(tmp_path):
    sentence = rf"^another process has a training in {tmp_path}: wait for it, or name another folder$"
    with files.alone(tmp_path, "a training"), pytest.raises(EmambaError, match=sentence), files.alone(tmp_path, "a training"):
        pass
    with files.alone(tmp_path, "a training"):
        pass


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
                                   RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 0 vs 1")])
def test_a_full_disk(tmp_path, error):
    """torch says it in its own way."""
    def write(path: Path):
        path.write_text("half")
        raise error

    with pytest.raises(EmambaError, match=rf"^cannot write {tmp_path}/x: No space left on device; name a folder you "):
        files.write_file(tmp_path / "x", write)
    assert not list(tmp_path.iterdir())
