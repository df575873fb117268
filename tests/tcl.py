"""Runs a Tcl script with every command of Vivado replaced by one that is only recorded; of an IP's interfaces and memory maps it
is known which there are, since Vivado infers some from the ports' names."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from programs import need

PRELUDE = """\
set calls {}
array set answers [list ANSWERS]
array set there {bus_interface {} memory_map {} address_space {}}
proc infer {} {
    foreach name [glob -nocomplain *.v] {
        set file [open $name]
        foreach {- way port kind} [regexp -all -inline {(in|out)put (\\w+)_(arvalid|tvalid);} [read $file]] {
            if {$port in $::there(bus_interface)} continue
            lappend ::there(bus_interface) $port
            if {$kind eq "arvalid"} {lappend ::there([expr {$way eq "in" ? "memory_map" : "address_space"}]) $port}
        }
        close $file
    }
}
proc known {verb kind name} {
    upvar #0 there($kind) names
    if {$verb eq "get"} {return [lsearch -all -inline $names $name]}
    if {($verb eq "add") == ($name in $names)} {error "cannot $verb $kind $name"}
    set names [expr {$verb eq "add" ? [concat $names $name] : [lsearch -all -inline -not -exact $names $name]}]
    return $name
}
proc unknown {args} {
    lappend ::calls $args
    switch -exact [lindex $args 0] {
        ipx::package_project {infer}
        ipx::remove_all_bus_interface {set ::there(bus_interface) {}}
    }
    if {[regexp {^ipx::(add|get|remove)_(bus_interface|memory_map|address_space)s?$} [lindex $args 0] - verb kind]} {
        return [known $verb $kind [lindex $args 1]]
    }
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
