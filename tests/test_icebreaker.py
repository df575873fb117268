"""The target `icebreaker`: what is refused, the flash memory's content, and what its tools are given."""

import json
import re
from dataclasses import replace

import pytest
from amaranth.hdl import Module

from boards.driver.description import Description
from boards.icebreaker import target
from emamba import artifact as artifacts
from emamba.base.errors import EmambaError, ToolFailed
from flow.build import main
from rtl.engine import shared_store
from rtl.engine.schedule import EngineSchedule
from rtl.engine.shared_store import SharedStore, load_ports
from rtl.kit import tools
from rtl.system.flash import FlashLoader, FlashSystem
from sim.small import artifact_of


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "artifact"
    artifacts.save(artifact_of(features=3, d_model=2, d_state=1, norm="range", outputs=3, pool="none"), folder)
    return folder


@pytest.fixture
def said(monkeypatch):
    """What tools that do nothing were asked to do: their answers are made up."""
    commands, log = [], ["achieved 30", ""]

    def yosys(folder, script):
        commands.append((folder / "top.il").read_text())

    def nextpnr(family, folder, options):
        commands.append((folder / "top.pcf").read_text())
        (folder / "top.log").write_text(log[1])
        if log[1]:
            raise ToolFailed("nextpnr-ice40 does not finish: ERROR: no place")
        rate = float(log[0].split()[1])
        return {"fmax": {"clk": {"achieved": rate}}, "utilization": {"ICESTORM_LC": {"used": 9, "available": 5280}}}

    monkeypatch.setattr(tools, "yosys", yosys)
    monkeypatch.setattr(tools, "nextpnr", nextpnr)
    monkeypatch.setattr(tools, "icepack", lambda folder, options: (folder / "top.bin").write_bytes(b"bits"))
    return commands, log


def test_files(small, said, tmp_path, capsys):
    """One file for the flash memory, pins of the board, memories without registers for collisions, SPRAMs, the PLL."""
    out = tmp_path / "out"
    assert main(["icebreaker", "--artifact", str(small), "--out", str(out), "--lanes", "4"]) == 0, capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"flash.bin", "top.pcf", "accelerator.json", "report.json"}
    rtlil, pins, *_ = said[0]
    assert rtlil.count("SB_SPRAM256KA") == 2 and "parameter \\DIVF 74" in rtlil
    assert "set_io flash_cs_0__io" in pins or " 16" in pins
    read = [cell for cell in rtlil.split("cell $memrd_v2 ")[1:] if "\\CLK_ENABLE 1\n" in cell.split("  end\n")[0]]
    assert read and not any("COLLISION_X_MASK 1'0" in cell.split("  end\n")[0] for cell in read)
    flash = (out / "flash.bin").read_bytes()
    schedule = EngineSchedule(artifacts.load(small), replace(target.Target.MACHINE, lanes=4))
    assert flash[:4] == b"bits" and flash[target.OFFSET:] == schedule.encoded.shared.data
    assert Description.read(out).cycles_per_frame == schedule.cycles_per_frame
    report = json.loads((out / "report.json").read_text())
    assert report["resources"]["fmax_mhz"] == 30 and "longest_paths" in report["resources"]
    assert report["lanes"] == 4 and report["tile"] == schedule.program.tile
    assert "30.0 MHz by nextpnr where 28.125 are needed" in capsys.readouterr().out


def test_upduino(small, said, tmp_path, capsys):
    """The same design between other pins, its clock from a pin that is not the PLL's own."""
    out = tmp_path / "out"
    asked = ["upduino", "--artifact", str(small), "--out", str(out), "--lanes", "1"]
    assert main(asked) == 0, capsys.readouterr().err
    rtlil, pins, *_ = said[0]
    assert "cell \\SB_PLL40_CORE" in rtlil and "SB_PLL40_PAD" not in rtlil and rtlil.count("SB_SPRAM256KA") == 1
    assert set(re.findall(r"set_io (\S+) (\d+)", pins)) == {
        ("clk12_0__io", "20"), ("uart_0__rx__io", "23"), ("uart_0__tx__io", "25"), ("spi_flash_1x_0__cs__io", "16"),
        ("spi_flash_1x_0__clk__io", "15"), ("spi_flash_1x_0__copi__io", "14"), ("spi_flash_1x_0__cipo__io", "17")}
    report = json.loads((out / "report.json").read_text())
    assert report["resources"]["placed_on"] == "upduino" and "note: solder the jumper OSC" in capsys.readouterr().out


class Part(FlashSystem):
    """Of a system what has the board's pins, and the memories that are filled: each word that they hold goes to the line."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.loader, m.submodules.store = loader, store = FlashLoader(self.image, self.offset), SharedStore(
            self.image, 1, 8, True)
        m.d.sync += store.addr.eq(store.addr + loader.done)
        m.d.comb += [loader.cipo.eq(self.flash_cipo), self.tx.eq(self.rx ^ store.data.xor()),
                     *(getattr(self, f"flash_{name}").eq(getattr(loader, name)) for name in ("cs", "clk", "copi")),
                     *(getattr(store, name).eq(getattr(loader, name)) for name in load_ports(self.image))]
        return m


@pytest.mark.slow
def test_bitstream(small, tmp_path, monkeypatch, capsys):
    """Yosys, nextpnr and icepack end."""
    out = tmp_path / "out"
    monkeypatch.setattr(target, "FlashSystem", Part)
    assert main(["icebreaker", "--artifact", str(small), "--out", str(out), "--lanes", "1"]) == 0, capsys.readouterr().err
    resources = json.loads((out / "report.json").read_text())["resources"]
    assert resources["fmax_mhz"] >= target.CLOCK_MHZ and resources["utilization"]["ICESTORM_SPRAM"]["used"] == 1
    assert 50 < resources["utilization"]["ICESTORM_LC"]["used"] < resources["utilization"]["ICESTORM_LC"]["available"] == 5280
    flash = (out / "flash.bin").read_bytes()
    schedule = EngineSchedule(artifacts.load(small), replace(target.Target.MACHINE, lanes=1))
    assert b"\x7e\xaa\x99\x7e" in flash[:200] and flash[target.OFFSET:] == schedule.encoded.shared.data


def test_refusals(small, said, tmp_path, capsys):
    out, log = tmp_path / "out", said[1]

    def refused(*options):
        assert main(["icebreaker", "--artifact", str(small), "--out", str(out), *options]) == 1 and not out.exists()
        return capsys.readouterr().err

    assert "multiples of 0.375 MHz from 16.875 to 33" in refused("--clock-mhz", "25")
    assert "and none for these; leave them out" in refused("--weights", "loadable")
    assert "has none: leave it out" in refused("--weights", "streamed")
    assert "has 8 multipliers" in refused("--lanes", "16")
    assert "an engine's rate comes from its --lanes" in refused("--cycles-per-token", "50")
    assert "wider multipliers" in refused("--factor-bits", "9")
    log[0] = "achieved 20"
    assert "nextpnr reaches 20.00 MHz where 28.125 are needed: build it with a lower --clock-mhz" in refused()
    (tmp_path / "top.pcf").write_text("")
    for log[1], sentence in (("Info:  ICESTORM_LC:    5400/   5280   102%\nInfo:  ICESTORM_RAM:     31/   30   103%\n",
                              "it takes 5,400 of 5,280 logic cells, 31 of 30 block RAMs; take --lanes 6, which fits by"),
                             ("Info:  ICESTORM_RAM:    131/   30   103%\n", "131 of 30 block RAMs; take a smaller model or a"),
                             ("Info: nothing", "nextpnr-ice40 does not finish: ERROR: no place")):
        with pytest.raises(EmambaError, match=sentence):
            target.place(tmp_path, 1, EngineSchedule(artifacts.load(small), target.Target.MACHINE))


def test_too_little_memory(small, monkeypatch):
    """What takes it, and what lowers it."""
    artifact, machine = artifacts.load(small), target.Target.MACHINE
    at = {lanes: EngineSchedule(artifact, replace(machine, lanes=lanes, posts=0)).encoded.shared for lanes in (1, 8)}
    first, rows = at[8].first, at[8].depth - at[8].first
    for lanes, depth, remedy in ((8, rows + first // 2, "bits={\"*.dt\" = 7}', or take another target"),
                                 (8, rows, "take fewer blocks or a smaller d_model, or"),
                                 (1, at[1].depth - 1, "take more --lanes, or")):
        monkeypatch.setattr(shared_store, "DEPTH", depth)
        with pytest.raises(EmambaError, match=rf"{at[lanes].depth:,}: {first:,} for tables of Ā \(1 scan × {first:,} values of "
                                              rf"δ·A\) and [\d,]+ for weights; .*{re.escape(remedy)}"):
            shared_store.Image(EngineSchedule(artifact, replace(machine, lanes=lanes, posts=0)).encoded)
