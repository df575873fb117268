"""Runs a Tcl script with every command of Vivado replaced by one that is only recorded."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from programs import need

PRELUDE = """\
set calls {}
array set answers [list ANSWERS]
proc unknown {args} {
    lappend ::calls $args
    foreach key [array names ::answers] {
        if {[string match $key $args]} {return $::answers($key)}
    }
    switch -glob [lindex $args 0] {
        ipx::get_* {return [lindex $args 1]}
        get_* - create_bd_cell {return [lindex $args end]}
    }
    return {}
}
if {[catch {source SCRIPT} message]} {puts stderr $message; exit 1}
foreach call $calls {puts -nonewline "[join $call \\x1f]\\x1e"}
"""


def run(folder: Path, script: str, answers: Mapping[str, str] | None = None) -> list[list[str]]:
    """The commands that the script in `folder` calls. `answers`: pattern of a command → what it returns; where none is given,
    what looks for or makes something returns its name. A script that fails raises CalledProcessError."""
    given = " ".join(f"{{{pattern}}} {{{answer}}}" for pattern, answer in (answers or {}).items())
    text = PRELUDE.replace("ANSWERS", given).replace("SCRIPT", script)
    need("tclsh")
    process = subprocess.run(["tclsh"], input=text, cwd=folder, check=True, capture_output=True, text=True)
    return [call.split("\x1f") for call in process.stdout.split("\x1e") if call]
