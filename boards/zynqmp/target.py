"""A target of `rtl.build`: the AXI system for Linux on one of the presets."""

from pathlib import Path

from boards import vivado
from rtl.system.system import System

from . import bundle
from .presets import Preset


class Target:
    """Writes the folder `system`. Attributes and functions: `rtl.build.TARGETS`."""

    LEAST_CLOCK_MHZ = 0.0
    UNRUN = vivado.UNRUN

    def __init__(self, preset: Preset):
        self.preset, self.CLOCK_MHZ, self.DEVICE = preset, preset.clock_mhz, preset.device

    def write(self, folder: Path, system: System, clock_mhz: float) -> tuple[dict, list[str]]:
        bundle.write(folder / "system", system, self.preset, clock_mhz)
        return {}, [self.UNRUN]

    def run(self, folder: Path) -> list[str]:
        return vivado.run(folder, [f"system/{name}" for name in bundle.SCRIPTS])
