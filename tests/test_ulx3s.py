"""The target `ulx3s`: what its tools are given, and a bitstream by open tools of a small part of a system."""

import json
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from boards.driver.description import Description
from boards.ulx3s import target
from emamba import artifact as artifacts
from emamba.base.errors import EmambaError
from emamba.graph import Builder, model
from flow.build import main
from rtl.kit import tools
from rtl.system.serial import Receiver, Transmitter
from rtl.system.system import Options
from sim.small import artifact_of

pytestmark = pytest.mark.slow


@model("least")
def least(g: Builder) -> str:
    """An embedding and a head, whose circuits take little of a run: what tools make of blocks is tested apart."""
    return g.x


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folder and digest of an artifact."""
    folder = tmp_path_factory.mktemp("small") / "artifact"
    return folder, artifacts.save(artifact_of(form="least", features=1, d_model=2, norm="none", outputs=1), folder)


def build(small, out, *options):
    return main(["ulx3s", "--artifact", str(small[0]), "--out", str(out), "--cycles-per-token", "64", "--counters", "no",
                 *options])


class Line(wiring.Component):
    """The ends of the serial line alone, which say again what they hear: of the system the part that has the board's pins."""

    def __init__(self, system, divisor):
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        m.submodules.received = received = SyncFIFOBuffered(width=8, depth=2048)
        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(transmitter.line), received.w_data.eq(receiver.o.payload),
                     received.w_en.eq(receiver.o.valid), transmitter.i.payload.eq(received.r_data),
                     transmitter.i.valid.eq(received.r_rdy), received.r_en.eq(transmitter.i.ready)]
        return m


def test_design(small, tmp_path, monkeypatch, capsys):
    """The whole system goes to the tools; of an engine also that no word is used that is read while it is written."""
    given = []
    monkeypatch.setattr(tools, "yosys", lambda folder, script: given.append((folder / "top.il").read_text()))
    monkeypatch.setattr(tools, "nextpnr", lambda family, folder, options: {"fmax": {"clk": {"achieved": 30}}, "utilization": {}})
    monkeypatch.setattr(tools, "ecppack", lambda folder, options: (folder / "top.bit").write_bytes(b""))
    assert build(small, tmp_path / "out") == 0, capsys.readouterr().err
    assert main(["ulx3s", "--artifact", str(small[0]), "--organization", "engine", "--lanes", "1", "--counters", "no", "--out",
                 str(tmp_path / "engine")]) == 0, capsys.readouterr().err
    assert all(name in text for text in given for name in ("system.receiver", "system.system.lite"))
    read = [cell.split("  end\n")[0] for cell in given[1].split("cell $memrd_v2 ")[1:]]
    assert read and not any("\\CLK_ENABLE 1\n" in cell and "COLLISION_X_MASK 1'0" in cell for cell in read)


def test_bitstream(small, tmp_path, monkeypatch, capsys):
    """Yosys, nextpnr and ecppack end; utilization and clock rate are in the report; the pins are the board's."""
    out = tmp_path / "out"
    monkeypatch.setattr(target, "SerialSystem", Line)
    assert build(small, out, "--device", "ulx3s-12f") == 0, capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"top.bit", "top.lpf", "accelerator.json", "report.json"}
    resources = json.loads((out / "report.json").read_text())["resources"]
    assert resources["placed_on"] == "ulx3s-12f" and resources["fmax_mhz"] > target.CLOCK_MHZ
    longest = resources["longest_paths"]
    assert len(longest) == 5 and longest[0]["ns"] < 1000 / resources["fmax_mhz"] + 0.01
    assert all("." in path["to"] for path in longest)
    assert resources["utilization"]["DP16KD"]["used"] == 1
    assert 0 < resources["utilization"]["TRELLIS_COMB"]["used"] < resources["utilization"]["TRELLIS_COMB"]["available"]
    assert b"Part: LFE5U-12F-6CABGA381" in (out / "top.bit").read_bytes()[:1000]
    assert Description.read(out).digest == small[1]
    constraints = (out / "top.lpf").read_text()
    for pin in ('"uart_0__rx__io" SITE "M1"', '"uart_0__tx__io" SITE "L4"', '"clk25_0__io" SITE "G2"'):
        assert f"LOCATE COMP {pin};" in constraints
    assert "MHz by nextpnr where 25 are needed; no board was used" in capsys.readouterr().out


def test_refusals(small, tmp_path, capsys, monkeypatch):
    """Each in a sentence, with nothing written."""
    out = tmp_path / "out"
    for options, sentence in ((["--device", "zcu102"], "the target ulx3s is for ulx3s-85f, ulx3s-45f, ulx3s-25f"),
                              (["--clock-mhz", "50"], "the target ulx3s runs at the board's 25 MHz"),
                              (["--bus-bits", "32"], "carries words of 64 bits")):
        assert build(small, out, *options) == 1 and sentence in capsys.readouterr().err
    schedule = SimpleNamespace(tokens=5, input=SimpleNamespace(width=3), cycles_per_frame=5000, period=1000)
    slow = SimpleNamespace(schedule=schedule, options=Options(), input_bytes=1)
    with pytest.raises(EmambaError, match="slower than its serial line, which brings a sequence in 3750 cycles and waits for"):
        target.check(slow, 25.0)

    def missing(package):
        raise PackageNotFoundError

    monkeypatch.setattr(tools, "installed", missing)
    assert build(small, out) == 1
    assert "pyosys is not installed: pip install '.[synthesis]' in the checkout" in capsys.readouterr().err
    with pytest.raises(EmambaError, match="a tool does not finish: ERROR: no"):
        tools.run([sys.executable, "-c", "import sys; sys.exit('ERROR: no')"], tmp_path, "a tool")
    assert not any(tmp_path.iterdir())


def test_stages(tmp_path, monkeypatch):
    """Each is named as it begins; what nextpnr says is in the refusal."""
    heard = []
    monkeypatch.setattr(tools, "say", heard.append)
    program = "import sys, time; sys.stderr.write('Routing globals...\\nRouting..'); sys.stderr.flush(); time.sleep(0.5); "
    monkeypatch.setattr(tools, "YOWASP", program + "open('report.json', 'w').write('{{}}')")
    assert tools.nextpnr("ecp5", tmp_path, []) == {} and heard == ["placement", "routing"]
    monkeypatch.setattr(tools, "YOWASP", "import sys; sys.exit('ERROR: no place')")
    with pytest.raises(EmambaError, match="nextpnr-ecp5 does not finish: ERROR: no place"):
        tools.nextpnr("ecp5", tmp_path, [])
