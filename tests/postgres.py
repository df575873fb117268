"""A PostgreSQL server of its own for a test: in a folder that goes again, on a socket in it, without a port."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server() -> Iterator[str]:
    """Runs a server and yields the URL of its database. It refuses to be root's: then it is the user postgres'."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # the path of a socket has 107 characters at most
    prefix = []
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        prefix = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]

    def call(program: str, *arguments: str) -> None:
        result = subprocess.run([*prefix, _find(program), *arguments], cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, f"{program}: {result.stdout}{result.stderr}"

    control = ("-D", str(folder / "data"), "-w")
    try:
        call("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
        call("pg_ctl", *control, "-l", str(folder / "log"), "-o",
             f"-k {folder} -c listen_addresses='' -c fsync=off -c shared_buffers=16MB", "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            call("pg_ctl", *control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find(program: str) -> str:
    """A program of the newest server; Debian keeps them off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which(program, path=os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")]))
    assert found, f"{program} is missing: install PostgreSQL's server, e.g. apt-get install postgresql (tools/setup.sh does)"
    return found
