"""The bundles for boards with a Zynq UltraScale+, as far as they can be checked without Vivado and a board."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tcl
from programs import need
from test_zcu102 import SMALL

from boards.driver import uio
from boards.vivado import UNRUN
from boards.zcu102.target import part
from boards.zynqmp import bundle
from boards.zynqmp.layout import Layout
from boards.zynqmp.presets import PRESETS
from emamba.base.errors import EmambaError
from rtl.engine.machine import Machine, Stream
from rtl.engine.reader import read_ports
from rtl.engine.schedule import EngineSchedule
from rtl.engine.stream import STREAMED
from rtl.plan.schedule import Schedule
from rtl.system import registers
from rtl.system.litex import litex_module
from rtl.system.system import Options, System
from sim.models import random_artifact

HERTZ = "99999001"
ANSWERS = {"get_board_parts *": "board:1.9 board:1.10", "get_property PROGRESS *": "100%", "get_property STATS.* *": "0.1",
           "get_property CONFIG.FREQ_HZ processor/pl_clk0": HERTZ, "make_wrapper *": "/a folder/system_wrapper.v"}
TO_SLAVE = {"AWADDR", "AWPROT", "AWVALID", "WDATA", "WSTRB", "WVALID", "BREADY", "ARADDR", "ARPROT", "ARVALID", "RREADY",
            "ARLEN", "ARSIZE", "ARBURST", "ARCACHE", "TDATA", "TKEEP", "TLAST", "TVALID", "CLK", "RST", "INTERRUPT"}
"""Signals that AMBA drives from the master; the rest go back."""


NAME = '[exec touch planted] $(touch planted) `touch planted` "; touch planted'
"""Of the artifact: text, and no command."""


def system_of(bus_bits=64, stream=None):
    artifact = replace(random_artifact(SMALL), name=NAME)
    schedule = EngineSchedule(artifact, Machine(4, tile=1, stream=stream)) if stream else Schedule(artifact, 8)
    return System(schedule, Options(bus_bits=bus_bits))


@pytest.fixture(scope="module", params=[("zcu102", 128), ("kv260", 64, Stream(4, 32))], ids=lambda param: param[0])
def built(request, tmp_path_factory):
    """Folder, system and preset; one is a pipeline, the other one an engine that reads its weights from memory."""
    name, *chosen = request.param
    system, folder = system_of(*chosen), tmp_path_factory.mktemp(name) / "system"
    bundle.write(folder, system, PRESETS[name], 100.0)
    return folder, system, PRESETS[name]


@pytest.fixture
def copy(built, tmp_path):
    """The folder as Vivado leaves it behind its runs, so that a script can copy from there."""
    folder = tmp_path / "system"
    shutil.copytree(built[0], folder)
    for name in ("emamba.runs/impl_1/system_wrapper.bit", "emamba.gen/sources_1/bd/system/hw_handoff/system.hwh"):
        path = folder / "project" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    return folder


def verilog_ports(text: str, module: str) -> dict[str, tuple[str, int]]:
    """Name → direction and width, of a module's header."""
    body = re.search(rf"^module {module}\((.*?)\);(.*?)^endmodule", text, re.M | re.S)
    found = {name: (direction, int(high or 0) + 1)
             for direction, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body[2], re.M)}
    assert set(found) == set(re.split(r"\s*,\s*", body[1].strip()))
    return found


def test_litex_meets_the_verilog(built, tmp_path, monkeypatch):
    """With LiteX' names standing in for it: every port of the module is connected once, in its direction and width."""
    if built[1].supply:  # there is no such module of a design with ports to a memory
        return

    def endpoint(layout):
        return SimpleNamespace(valid=1, ready=1, last=1, **dict(layout))

    class Address(int):
        def __getitem__(self, bits):
            return bits.stop

    def lite(data_width, address_width, addressing):
        address, answer = [("addr", Address(address_width)), ("prot", 3)], [("data", data_width), ("resp", 2)]
        return SimpleNamespace(aw=endpoint(address), ar=endpoint(address), r=endpoint(answer), b=endpoint(answer[1:]),
                               w=endpoint([("data", data_width), ("strb", data_width // 8)]))

    connected, sources = [], []
    modules = {"litex": {}, "litex.gen": {"LiteXModule": type("Module", (), {"specials": 0})}, "litex.soc": {},
               "litex.soc.interconnect": {"axi": SimpleNamespace(AXILiteInterface=lite),
                                          "stream": SimpleNamespace(Endpoint=endpoint)},
               "migen": {"ClockSignal": lambda name: 1, "ResetSignal": lambda name: 1, "Signal": lambda: 1,
                         "Instance": lambda name, **ports: connected.append((name, ports)) or 0}}
    for name, members in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**members, __path__=[]))
    file = tmp_path / "emamba_litex.py"
    file.write_text(litex_module(built[1]))
    names = {"__file__": str(file)}
    exec(compile(file.read_text(), file, "exec"), names)
    names["EMamba"](SimpleNamespace(add_source=sources.append))
    (name, ports), = connected
    wanted = verilog_ports((built[0] / "emamba_system.v").read_text(), "emamba_system")
    assert name == "top" and sources == [str(tmp_path / "top.v")]
    assert ports == {f"{direction[0]}_{port}": width for port, (direction, width) in wanted.items()}


def test_ip_meets_the_verilog(built):
    """Every port of the module but TUSER belongs to one interface, in the direction and width that AMBA gives it."""
    folder, system, preset = built
    calls = tcl.run(folder, "package_ip.tcl")
    ports = verilog_ports((folder / "emamba_system.v").read_text(), "emamba_system")
    modes = {call[3]: call[2] for call in calls if call[:2] == ["set_property", "interface_mode"]}
    masters = bundle.masters(system)
    assert modes == {"s_axil": "slave", "s_axis": "slave", "m_axis": "master", "clk": "slave", "rst": "slave",
                     "irq": "master"} | dict.fromkeys(masters, "master")
    mapped = {}
    for added, named in zip(calls, calls[2:], strict=False):
        if added[0] == "ipx::add_port_map":
            _, logical, interface = added
            assert named[:2] == ["set_property", "physical_name"] and named[3] == logical
            mapped[named[2]] = (interface, logical)
    assert set(ports) == {*mapped, "m_axis_tuser"}
    size = system.options.bus_bits // 8
    widths = {"TDATA": 8 * size, "TKEEP": size, "WDATA": 32, "RDATA": 32, "WSTRB": 4, "BRESP": 2, "RRESP": 2, "AWPROT": 3,
              "ARPROT": 3, "AWADDR": registers.ADDRESS_BITS, "ARADDR": registers.ADDRESS_BITS}
    for port, (interface, logical) in mapped.items():
        towards = (logical in TO_SLAVE) == (modes[interface] == "slave")
        ours = read_ports(system.supply.readers[0].bits) if interface in masters else {}
        width = ours[logical.lower()].shape if ours else widths.get(logical, 1)
        assert ports[port] == ("input" if towards else "output", width), port
    kinds = {call[3]: call[2] for call in calls if call[:2] == ["set_property", "bus_type_vlnv"]}
    assert kinds == {"s_axil": bundle.AXIMM, "s_axis": bundle.AXIS, "m_axis": bundle.AXIS,
                     "clk": "xilinx.com:signal:clock:1.0", "rst": "xilinx.com:signal:reset:1.0",
                     "irq": "xilinx.com:signal:interrupt:1.0"} | dict.fromkeys(masters, bundle.AXIMM)
    values = [(call[3], call[2]) for call in calls if call[:2] == ["set_property", "value"]]
    assert values == [("POLARITY", "ACTIVE_HIGH"), ("SENSITIVITY", "LEVEL_HIGH"), ("PROTOCOL", "AXI4LITE"),
                      ("ASSOCIATED_BUSIF", ":".join(["s_axil:s_axis:m_axis", *masters])), ("ASSOCIATED_RESET", "rst"),
                      *[("PROTOCOL", "AXI4"), ("READ_WRITE_MODE", "READ_ONLY")] * len(masters)]
    assert [call[2] for call in calls if call[:2] == ["set_property", "master_address_space_ref"]] == masters
    assert ["set_property", "range", str(1 << registers.ADDRESS_BITS), "registers"] in calls
    assert calls[0] == ["create_project", "-force", "-part", preset.part, "package_ip", "package_ip"]
    assert ["set_property", "name", "emamba_system", ""] in calls and calls[-2][0] == "ipx::save_core"


def test_ip_without_what_vivado_infers(copy):
    """The recorder infers interfaces and a memory map as Vivado does: a script that leaves one of them there stops."""
    script = copy / "package_ip.tcl"
    text = script.read_text()
    removal = re.search(r"^foreach map .*?^}\n", text, re.M | re.S)[0]
    spaces = re.search(r"^foreach space .*?^}\n", text, re.M | re.S)
    for line, sentence in ((removal, "cannot add memory_map s_axil"),
                           *([(spaces[0], "cannot add address_space m_axi_0")] if spaces else []),
                           ("ipx::remove_all_bus_interface $core\n", "cannot add bus_interface s_axil")):
        script.write_text(text.replace(line, ""))
        with pytest.raises(subprocess.CalledProcessError) as caught:
            tcl.run(copy, "package_ip.tcl")
        assert sentence in caught.value.stderr


def test_block_design(copy, built):
    """Every pin is driven once, from what exists; clocks and resets reach every cell."""
    _, system, preset = built
    calls = tcl.run(copy, "block_design.tcl", ANSWERS)
    cells = {call[-1]: call[-2] for call in calls if call[0] == "create_bd_cell"}
    assert cells.pop("accelerator") == "emamba:user:emamba_system:1.0"
    ips = {"processor": "zynq_ultra_ps_e", "dma": "axi_dma", "control": "smartconnect", "memory": "smartconnect",
           "reset": "proc_sys_reset"} | {f"weights_{port}": "smartconnect" for port in Layout.of(system).ports[1:]}
    pieces = {"interrupts": "concat"} | ({"fan": "slice"} if preset.fan else {})
    inline = {name: f"xilinx.com:inline_hdl:il{piece}" for name, piece in pieces.items()}
    assert cells == {name: f"xilinx.com:ip:{ip}" for name, ip in ips.items()} | inline
    before = tcl.run(copy, "block_design.tcl", ANSWERS | {"get_ipdefs *": ""})  # Vivado 2024.1
    old = {call[-1]: call[-2] for call in before if call[0] == "create_bd_cell"}
    assert {name: old[name] for name in pieces} == {name: f"xilinx.com:ip:xl{piece}" for name, piece in pieces.items()}
    processor, = (call[2] for call in calls if call[:2] == ["set_property", "-dict"] and call[-1] == "processor")
    assert all(f"CONFIG.{name} {value}" in processor for name, value in preset.settings.items())
    nets = [call[1:] for call in calls if call[0] == "connect_bd_net"]
    streams = [call[1:] for call in calls if call[0] == "connect_bd_intf_net"]
    ends = [end for pair in nets + streams for end in pair]
    assert {end.split("/")[0] for end in ends} == {*cells, "accelerator", *(["fan_en_b"] if preset.fan else [])}
    xdc = (copy / "system.xdc").read_text()
    assert re.findall(r"PACKAGE_PIN (\w+) .*get_ports (\w+)", xdc) == [(preset.fan, "fan_en_b")] * bool(preset.fan)
    for pairs in (nets, streams):
        assert len({sink for _, sink in pairs}) == len(pairs)
    assert len({end for pair in streams for end in pair}) == 2 * len(streams)
    interfaces = {interface["name"] for interface in bundle.interfaces(system)}
    assert {end.split("/")[1] for end in ends if end.startswith("accelerator/")} == interfaces
    clocked = {sink for source, sink in nets if source == "processor/pl_clk0"}
    assert {sink.split("/")[0] for sink in clocked} == {"accelerator", *ips}
    memory = {sink: source for source, sink in streams if sink.startswith(("memory/", "weights_", "processor/"))}
    assert memory == {"memory/S00_AXI": "dma/M_AXI_MM2S", "memory/S01_AXI": "dma/M_AXI_S2MM",
                      "processor/S_AXI_HP0_FPD": "memory/M00_AXI"} | ({} if not system.supply else {
                          "memory/S02_AXI": "accelerator/m_axi_3"} | {end: begin for port in (1, 2, 3) for end, begin in (
                              (f"weights_{port}/S00_AXI", f"accelerator/m_axi_{port - 1}"),
                              (f"processor/S_AXI_HP{port}_FPD", f"weights_{port}/M00_AXI"))})
    counts = {call[-1]: call[2] for call in calls if call[:2] == ["set_property", "-dict"]}
    assert counts["memory"].split()[:2] == ["CONFIG.NUM_SI", "3" if system.supply else "2"]
    used = {int(port) for port in re.findall(r"PSU__USE__S_AXI_GP(\d) 1", processor)}
    assert used == {2 + port for port in Layout.of(system).ports} and all(
        f"processor/saxihp{port - 2}_fpd_aclk" in clocked for port in used)
    assert ["reset/peripheral_reset", "accelerator/rst"] in nets  # active high, as the IP says
    lines = {sink: source for source, sink in nets if sink.startswith("interrupts/")}
    assert lines == {"interrupts/In0": "dma/mm2s_introut", "interrupts/In1": "dma/s2mm_introut",
                     "interrupts/In2": "accelerator/irq"}
    assert ["set_property", "CONFIG.NUM_PORTS", str(len(lines)), "interrupts"] in calls
    settings = {name: value for call in calls if call[:2] == ["set_property", "-dict"] and call[-1] == "dma"
                for name, value in re.findall(r"CONFIG\.(\w+) (\S+)", call[2])}
    bits = str(system.options.bus_bits)
    assert settings["c_include_sg"] == "0" and settings["c_sg_length_width"] == "26"
    assert {settings[f"c_{name}_width"] for name in ("m_axi_mm2s_data", "m_axis_mm2s_tdata", "m_axi_s2mm_data")} == {bits}
    order = [call[0] for call in calls]
    assert order.index("assign_bd_address") < order.index("validate_bd_design") < order.index("save_bd_design")
    assert (copy / "host" / "clock.dtsi").read_text() == f"assigned-clock-rates = <{HERTZ}>;\n"


def test_build(copy, built):
    """The newest files of the board; every file that is read is there; nothing is exported where the timing fails."""
    _, _, preset = built
    calls = tcl.run(copy, "build.tcl", ANSWERS)
    assert calls[0] == ["get_board_parts", "-quiet", f"{preset.board}:*"]
    assert ["create_project", "-force", "-part", preset.part, "emamba", "project"] in calls
    assert ["set_property", "board_part", "board:1.10", ""] in calls
    connected = [call[2] for call in calls if call[:2] == ["set_property", "board_connections"]]
    assert connected == [preset.connections] * bool(preset.connections)
    read = [call[-1] for call in calls if call[0] == "add_files" and call[-1]]
    assert read == ["{/a folder/system_wrapper.v}", "system.xdc"] and (copy / "system.xdc").is_file()
    assert ["write_hw_platform", "-fixed", "-include_bit", "-force", "-file", "emamba.xsa"] in calls
    assert (copy / "host" / "emamba.bit").read_text().endswith(".bit")
    assert (copy / "host" / "emamba.hwh").read_text().endswith(".hwh")
    for change, sentence in (({"get_board_parts *": ""}, f"Vivado has no files of the board {preset.board}: install them"),
                             ({"get_property PROGRESS *": "40%"}, "the implementation did not end"),
                             ({"get_property STATS.* *": "-0.1"}, "the timing is not met at 100 MHz: build with a lower")):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            tcl.run(copy, "build.tcl", ANSWERS | change)
        assert sentence in caught.value.stderr


def test_overlay_and_block_design_agree(copy, built):
    """dtc reads the overlay, without and with Vivado's clock; its addresses are those of the block design."""
    _, system, _ = built
    layout = Layout.of(system)
    assigned = {}
    for call in tcl.run(copy, "block_design.tcl", ANSWERS):
        if call[0] == "assign_bd_address" and len(call) > 1:
            assigned[call[-1].split("/")[0]] = (int(call[2], 16), int(call[4], 16))
    assert assigned == {"dma": (layout.dma, layout.dma_bytes), "accelerator": (layout.registers, layout.registers_bytes)}
    for folder, hertz in ((built[0], 100_000_000), (copy, int(HERTZ))):
        need("dtc")
        blob = subprocess.run(["dtc", "-@", "-I", "dts", "-O", "dtb", "emamba.dts"], cwd=folder / "host", check=True,
                              capture_output=True)
        assert blob.stderr == b""
        text = subprocess.run(["dtc", "-q", "-I", "dtb", "-O", "dts"], input=blob.stdout, check=True, capture_output=True)
        text = text.stdout.decode()
        nodes = {name: (int(unit, 16), [int(cell, 16) for cell in cells.split()])
                 for name, unit, cells in re.findall(r"([\w-]+)@(\w+) \{[^}]*?reg = <([^>]*)>", text)}
        assert nodes == {name: (base, [0, base, 0, size]) for name, (base, size) in (
            (layout.dma_name, assigned["dma"]), (layout.registers_name, assigned["accelerator"]))}
        assert f"assigned-clock-rates = <{hertz:#x}>" in text and f"size = <{layout.buffer_bytes:#x}>" in text
        lines = [int(line, 16) for line in re.findall(r"interrupts = <0x00 (\w+) 0x04>", text)]
        assert lines == [layout.received, layout.accelerator] == [layout.sent + 1, layout.sent + 2]
        assert f'device-name = "{layout.buffer_name}"' in text and 'firmware-name = "emamba.bit.bin"' in text
        ports = [int(cell, 16) for cell in re.search(r"config-afi = <([^>]*)>", text)[1].split()]
        assert ports == [cell for n in range(2 * len(layout.ports)) for cell in (4 + n, 0)] + [14, 0xA00]
        weights = re.search(rf'device-name = "{layout.weights_name}";\s*size = <(\w+)>', text)
        assert (int(weights[1], 16) if weights else 0) == layout.image_bytes
    if system.supply:
        image = (built[0] / "host" / STREAMED).read_bytes()
        assert len(image) <= layout.image_bytes and image == system.supply.image.content.tobytes()
        assert "accelerator.stream(" in (built[0] / "host/example.py").read_text()


def test_terms_go_with_the_files(built):
    """Beside the designs, and on the board."""
    for place, name in product((built[0], built[0] / "host"), ("LICENSE", "NOTICE")):
        assert (place / name).read_bytes() == Path(name).read_bytes()


def test_the_name_is_in_no_script(built):
    """Whatever an artifact is called, it is text for readers and JSON alone."""
    files = {path.name: path.read_text(errors="replace") for path in built[0].rglob("*") if path.is_file()}
    assert {name for name, text in files.items() if NAME in text or "touch planted" in text} == {"README.txt", "accelerator.json"}


def test_layout(built):
    layout = Layout.of(built[1])
    assert layout.buffer_bytes == 1 << 20
    spans = sorted([(layout.dma, layout.dma_bytes), (layout.registers, layout.registers_bytes)])
    assert all(base % size == 0 for base, size in spans) and sum(spans[0]) <= spans[1][0]
    assert (layout.dma_bytes, layout.registers_bytes) == (uio.DMA_SPAN, registers.SPAN)


def test_example_needs_no_more_than_its_folder(built, tmp_path):
    """On the board there is nothing but host; without its devices the example says so."""
    host = tmp_path / "host"
    shutil.copytree(built[0] / "host", host)
    process = subprocess.run([sys.executable, "example.py"], cwd=host, capture_output=True, text=True)
    assert process.returncode == 1 and process.stdout == ""
    assert process.stderr.startswith("example: there is no UIO device 'emamba-registers': load the device-tree overlay")
    names = {Layout.registers_name, Layout.dma_name, Layout.buffer_name, Layout.weights_name}
    assert {uio.REGISTERS, uio.DMA, uio.BUFFER, uio.WEIGHTS} == names


def test_notebook(built, monkeypatch):
    """Its cells run one after another, on an accelerator that answers as the description says."""
    found = json.loads((built[0] / "host/emamba.ipynb").read_text())
    assert found["nbformat"] == 4 and "not run" in found["cells"][0]["source"].lower()
    frames = np.arange(12).reshape(3, 2, 2)
    description = SimpleNamespace(name="a", golden=(frames, frames + 1), classes=["a"],
                                  named=lambda answers: ["a"] * len(answers))
    fake = SimpleNamespace(description=description, self_test=lambda: 3, clear_counters=lambda: None,
                           stream=lambda file: None,
                           counters=lambda: {"cycles": 4, "stages": {"embed": {"busy": 3}}}, bottleneck=lambda: "embed",
                           run=lambda batch: batch + 1)
    monkeypatch.setitem(sys.modules, "pynq", SimpleNamespace(Overlay=lambda name: name, allocate=None))
    monkeypatch.setattr("boards.driver.pynq.PynqTransport", lambda overlay: overlay)
    monkeypatch.setattr("boards.driver.accelerator.Accelerator", lambda folder, transport: fake)
    names: dict = {}
    for cell in found["cells"][1:]:
        exec(cell["source"], names)


def test_a_radar_needs_no_more_than_its_folder(built):
    """Features and answers of a stream of frames, with NumPy alone."""
    code = ("import sys, numpy as np\n"
            "from boards.driver.radar import RadarStream\n"
            "stream = RadarStream(lambda windows: windows[:, :, :4].sum(1, keepdims=True), 2)\n"
            "print(stream.push(np.ones((3, 4))), stream.push(np.zeros((0, 4))), stream.vote())\n"
            "print(*sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'pydantic', 'rtl'}))")
    process = subprocess.run([sys.executable, "-c", code], cwd=built[0] / "host", capture_output=True, text=True, check=True)
    assert process.stdout.split("\n") == ["None [27 64  0 64] 1", "", ""]


def test_device(tmp_path):
    for number, name in ((0, "axi-pmon"), (3, "emamba-dma")):
        (tmp_path / f"uio{number}").mkdir()
        (tmp_path / f"uio{number}" / "name").write_text(f"{name}\n")
    assert uio.device("emamba-dma", tmp_path) == "/dev/uio3"
    with pytest.raises(EmambaError, match="there is no UIO device 'emamba-registers'"):
        uio.device("emamba-registers", tmp_path)


def test_the_overlay_devices_are_found(tmp_path, monkeypatch):
    """`UioTransport()` opens what the overlay makes, in a tree of Linux' as it stands then."""
    monkeypatch.setattr(uio, "SYSTEM", tmp_path)
    with pytest.raises(EmambaError, match="there is no DMA buffer 'udmabuf-emamba'; load the device-tree overlay"):
        uio.overlay_buffer()
    for number, name in ((0, "axi-pmon"), (2, uio.REGISTERS), (3, uio.DMA)):
        (tmp_path / f"uio/uio{number}").mkdir(parents=True)
        (tmp_path / f"uio/uio{number}/name").write_text(f"{name}\n")
    (tmp_path / "u-dma-buf/udmabuf0").mkdir(parents=True)
    assert uio.overlay_buffer() == "/dev/udmabuf0"
    for name in (uio.BUFFER, "udmabuf1"):
        (tmp_path / "u-dma-buf" / name).mkdir()
    opened = []
    monkeypatch.setattr(uio, "Claim", lambda path: opened.append(path) or SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(uio.UioTransport, "_map", lambda self, *paths: opened.extend(paths[:3]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        uio.UioTransport()
    assert opened == ["/dev/uio2", "/dev/uio2", "/dev/uio3", "/dev/udmabuf-emamba"]


def test_every_file_says_that_it_was_not_run(built):
    folder = built[0]
    assert "Not run in Vivado" in (folder / "host/example.py").read_text()
    for name in (*bundle.DESK, "host/emamba.dts", "host/example.py"):
        assert UNRUN.lower() in (folder / name).read_text().lower(), name


def test_readme_names_every_file(built):
    folder = built[0]
    text = (folder / "README.txt").read_text()
    names = {path.name for place in (folder, folder / "host") for path in place.iterdir()} - {"README.txt"}
    assert [name for name in sorted(names) if name.removeprefix("registers") not in text] == []


def test_presets():
    assert PRESETS["zcu102"].part == part()
    assert all(preset.board.startswith("xilinx.com:") and preset.name == name for name, preset in PRESETS.items())
