"""What a device has, in the units of `rtl.plan.cost`. Sources: the makers' product tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from emamba.base.errors import SettingError


@dataclass(frozen=True)
class Device:
    """`limits` of the resources that `rtl.plan.cost.estimate` counts for the family; `clock_mhz` where nothing else is asked."""

    name: str
    family: str
    limits: dict[str, int]
    clock_mhz: float

    def shares(self, resources: Mapping[str, float]) -> dict:
        """Of each resource: the estimate, the limit, and the share of it."""
        return {name: {"estimate": (count := round(resources[name])), "limit": limit, "share": round(count / limit, 4)}
                for name, limit in self.limits.items()}


def _ultrascale(name: str, lut: int, ff: int, dsp: int, bram36: int, clock_mhz: float) -> Device:
    return Device(name, "xcup", {"lut": lut, "ff": ff, "dsp": dsp, "bram36": bram36}, clock_mhz)


def _lattice(name: str, family: str, lut: int, dsp: int, ebr: int, clock_mhz: float) -> Device:
    return Device(name, family, {"lut": lut, "ff": lut, "dsp": dsp, "ebr": ebr}, clock_mhz)


DEVICES = {device.name: device for device in (
    _ultrascale("zcu102", 274_080, 548_160, 2_520, 912, 125),
    _ultrascale("kv260", 117_120, 234_240, 1_248, 144, 100),
    _lattice("ulx3s-85f", "ecp5", 83_640, 156, 208, 25),
    _lattice("ulx3s-45f", "ecp5", 43_848, 72, 108, 25),
    _lattice("ulx3s-25f", "ecp5", 24_288, 28, 56, 25),
    _lattice("ulx3s-12f", "ecp5", 12_144, 28, 32, 25),
    _lattice("icebreaker", "ice40", 5_280, 8, 30, 28.125),
)}


def find(name: str) -> Device:
    if name not in DEVICES:
        raise SettingError(f"there is no device '{name}'; choose one of {', '.join(DEVICES)}")
    return DEVICES[name]
