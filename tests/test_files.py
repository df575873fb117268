"""Files: what is read, what is replaced, and what is left behind."""

import os
import socket
from functools import partial

import pytest

from emamba import files
from emamba.errors import EmambaError


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        make = {"pipe": os.mkfifo, "folder": os.mkdir, "socket": listener.bind, "device": partial(os.symlink, "/dev/zero")}
        make[kind]("x")
        for read in (files.check_regular, files.read_bytes):
            with pytest.raises(EmambaError, match=f"^cannot read x: it is a {kind}; name a file, or save it as one first$"):
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
