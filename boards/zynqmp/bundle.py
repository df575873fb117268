"""The AXI system of a board with a Zynq UltraScale+, from Verilog to example: all that Vivado and Linux need, in one folder."""

import json
import shutil
from itertools import product
from pathlib import Path

from amaranth.lib.wiring import Out

import emamba
from boards.describe import describe, golden_frames
from boards.vivado import UNRUN, templates
from rtl.engine.stream import STREAMED
from rtl.kit import emit
from rtl.kit.emit import to_verilog
from rtl.system import exports
from rtl.system.system import System

from .layout import Layout
from .notebook import notebook
from .presets import Preset

ROOT = Path(emamba.__file__).parents[1]
DRIVER = ("emamba/base/errors.py", "emamba/sensors/points.py", "emamba/sensors/sound.py", "rtl/system/registers.py", *(
    f"boards/driver/{name}.py" for name in (
        "accelerator", "claim", "description", "device", "pynq", "radar", "sound", "transaction", "uio", "windows")))
"""What runs on the board, with NumPy alone."""

TERMS = ("LICENSE", "NOTICE")

HOST = ("emamba.dts", "clock.dtsi", "emamba.bif", "example.py")
DESK = ("package_ip.tcl", "block_design.tcl", "build.tcl", "system.xdc", "README.txt")
SCRIPTS = ("package_ip.tcl", "build.tcl")
"""What Vivado runs, in this order; build.tcl reads block_design.tcl."""

AXIS = "xilinx.com:interface:axis:1.0"
AXIMM = "xilinx.com:interface:aximm:1.0"
STREAM = ("tdata", "tkeep", "tlast", "tvalid", "tready")

def write(folder: Path, system: System, preset: Preset, clock_mhz: float) -> None:
    """Writes the bundle into the new `folder`."""
    host = folder / "host"
    host.mkdir(parents=True)
    values = {"name": system.artifact.name, "unrun": UNRUN, "preset": preset, "layout": Layout.of(system),
              "interfaces": interfaces(system), "clock_mhz": f"{clock_mhz:g}", "clock_hz": round(clock_mhz * 1e6),
              "bus_bits": system.options.bus_bits, "masters": masters(system), "streamed": STREAMED if system.supply else ""}
    rendered = templates(__package__)
    texts = {folder / name: rendered.get_template(f"{name}.j2").render(values) for name in DESK}
    texts |= {host / name: rendered.get_template(f"{name}.j2").render(values) for name in HOST}
    texts |= {folder / "registers.h": exports.c_header(),
              folder / "registers.rdl": exports.systemrdl(),
              host / "emamba.ipynb": notebook(preset.title, UNRUN, values["streamed"]),
              host / "accelerator.json": json.dumps(describe(system, golden_frames(system.artifact))) + "\n"}
    emit.write(folder / "emamba_system.v", to_verilog(system, "emamba_system"))
    if system.supply:
        system.supply.image.content.tofile(host / STREAMED)
    if preset.kria:
        texts[host / "shell.json"] = json.dumps({"shell_type": "XRT_FLAT", "num_slots": "1"}) + "\n"
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    for name in DRIVER:
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, host / name)
    for place, name in product((folder, host), TERMS):  # `host` goes to the board alone
        shutil.copyfile(ROOT / "boards" / name, place / name)


def masters(system: System) -> list[str]:
    """The AXI4 ports to streamed weights."""
    return [f"m_axi_{k}" for k in range(len(system.supply.readers))] if system.supply else []


def interfaces(system: System) -> list[dict]:
    """The IP's interfaces: logical names of AMBA → ports of the Verilog."""
    lite = {name.removeprefix("s_axil_").upper(): name for name in system.signature.members if name.startswith("s_axil_")}
    found = [_interface("s_axil", "slave", AXIMM, lite)]
    for name in ("s_axis", "m_axis"):
        master = system.signature.members[f"{name}_tvalid"].flow is Out
        found.append(_interface(name, "master" if master else "slave", AXIS, {port.upper(): f"{name}_{port}" for port in STREAM}))
    for name in masters(system):
        ports = {port.removeprefix(f"{name}_").upper(): port for port in system.signature.members if port.startswith(f"{name}_")}
        found.append(_interface(name, "master", AXIMM, ports))
    return [*found, _interface("clk", "slave", "xilinx.com:signal:clock:1.0", {"CLK": "clk"}),
            _interface("rst", "slave", "xilinx.com:signal:reset:1.0", {"RST": "rst"}),
            _interface("irq", "master", "xilinx.com:signal:interrupt:1.0", {"INTERRUPT": "irq"})]


def _interface(name: str, mode: str, bus: str, ports: dict[str, str]) -> dict:
    kind, version = bus.rsplit(":", 1)
    return {"name": name, "mode": mode, "bus": bus, "abstraction": f"{kind}_rtl:{version}", "ports": ports}
