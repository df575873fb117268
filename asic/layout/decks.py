"""The foundry's own decks in KLayout, where both are found: the main table of design rules, and layout versus schematic."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emamba.base import processes
from emamba.base.errors import InputError, ToolFailed
from emamba.io.files import read_text

from ..netlist.liberty import read_library
from .block import Block
from .rules import Rules

PROGRAM = "klayout"
REPORT_LIMIT = 1 << 30
SUBCIRCUIT = re.compile(r"^\.SUBCKT (\S+) ([^\n]*(?:\n\+[^\n]*)*)\n.*?^\.ENDS[^\n]*$", re.M | re.S)


def missing(rules: Rules) -> str:
    """Why the decks are not run, or nothing."""
    made = rules.pdk.layout
    if shutil.which(PROGRAM) is None:
        return f"there is no command {PROGRAM} on PATH"
    for name in (made.drc, made.lvs, made.cdl):
        if not name or not rules.pdk.has(name):
            return f"{name or 'a deck'} of {rules.pdk.name} is not in {rules.pdk.data}"
    return ""


def write_cdl(path: Path, block: Block, rules: Rules) -> None:
    """The block's netlist in CDL, with the transistors of the cells that it has."""
    text = read_library(rules.pdk.file(rules.pdk.layout.cdl))
    known = {match[1]: match for match in SUBCIRCUIT.finditer(text)}
    made, names, lines, loose = rules.pdk.layout, block.net_names, [], 0
    kinds = {cell.name for cell in block.cells}
    if missing := sorted(kinds - set(known)):
        raise InputError(f"{made.cdl} has no cell {missing[0]}; name another file in the PDK's description")
    ports = [port for port, (_, net) in block.ports.items()]
    lines += [known[kind][0] for kind in sorted(kinds)]
    lines.append(f".SUBCKT {block.name} {' '.join(ports)} {made.power} {made.ground}")
    for k, (cell, pins) in enumerate(zip(block.cells, block.pins, strict=True)):
        nets = []
        for pin in known[cell.name][2].replace("\n+", " ").split():
            if pin in pins:
                nets.append(names[pins[pin]])
            elif pin in (made.power, made.ground):
                nets.append(pin)
            else:
                nets.append(f"open{loose}")
                loose += 1
        lines.append(f"Xu{k} {' '.join(nets)} {cell.name}")
    path.write_text("\n".join([*lines, ".ENDS", ""]), encoding="utf-8")


def run(folder: Path, name: str, rules: Rules) -> dict:
    """Items of the main table by rule, and whether KLayout's netlist of the shapes matches the block's CDL."""
    made = rules.pdk.layout
    common = {"input": folder / f"{name}.gds", "topcell": name, "run_mode": "deep", "threads": 1}
    table = folder / f"{name}.lyrdb"
    with ThreadPoolExecutor() as pool:
        drc = pool.submit(_klayout, rules.pdk.file(made.drc), folder, common | {"report": table, "log": folder / "drc.log"})
        lvs = pool.submit(_klayout, rules.pdk.file(made.lvs), folder, common | {
            "schematic": folder / f"{name}.cdl", "report": folder / f"{name}.lvsdb",
            "target_netlist": folder / f"{name}.extracted.cir", "log": folder / "lvs.log", "ignore_top_ports_mismatch": "true"})
        drc.result()
        out = lvs.result()
    items = re.findall(r"<item>.*?<category>'?([^<']*)'?</category>", read_text(table, REPORT_LIMIT), re.S)
    same, different = "Netlists match" in out, "Netlists don't match" in out
    if same == different:
        raise ToolFailed(f"KLayout does not compare the netlists: see {folder / 'lvs.log'}")
    return {"rules": {rule: items.count(rule) for rule in sorted(set(items))}, "items": len(items), "matches": same}


def _klayout(deck: Path, folder: Path, settings: dict) -> str:
    command = [PROGRAM, "-b", "-r", deck, *(word for name, value in settings.items() for word in ("-rd", f"{name}={value}"))]
    done = processes.run([str(word) for word in command], cwd=folder)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line.upper()] or ["no message"]
        raise ToolFailed(f"{deck.name} ends with status {done.returncode} in KLayout: {said[0]}")
    return done.stdout + done.stderr
