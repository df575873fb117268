"""Boards with a Zynq UltraScale+: what Vivado must be told of each. Pins, memory and clocks of the processor come from Vivado's
own preset of the board. The logic uses no pin but that of the KV260's fan.

Documents, in which every name below was looked up, of github.com/Xilinx/XilinxBoardStore, folder boards/Xilinx, or as named:

    [zcu102]   zcu102/3.4/board.xml: board xilinx.com:zcu102, component part0, its part_name
    [zcu104]   zcu104/1.1/board.xml: the same of xilinx.com:zcu104
    [kv260]    kv260_som/1.4/board.xml: the same of xilinx.com:kv260_som, which is the module alone
    [carrier]  kv260_carrier/1.3/board.xml: xilinx.com:kv260_carrier, component som240_1_connector, on which the module sits
    [presets]  preset.xml (kv260: preset_s4.xml) beside these: PL0_REF_CTRL__FREQMHZ is 100
    [kria]     github.com/analogdevicesinc/hdl, projects/common/kv260: CWL, set after the preset;
               github.com/Xilinx/kria-vitis-platforms, kv260: pin and timer of the fan;
               github.com/Xilinx/kria-apps-firmware: shell.json
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rtl.plan import devices


@dataclass(frozen=True)
class Preset:
    """`board` is the board part without its version; `connections` are Vivado's BOARD_CONNECTIONS, empty where there are none;
    `settings` of the processor hold over the board's preset; `fan` is the pin that enables the fan; with `kria`, `xmutil` loads
    the design. `device` names one of `rtl.plan.devices`, None where its limits are not known."""

    name: str
    title: str
    part: str
    board: str
    connections: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    fan: str = ""
    kria: bool = False
    device: str | None = None

    @property
    def clock_mhz(self) -> float:
        """Where nothing else is asked."""
        return devices.find(self.device).clock_mhz if self.device else 100.0


PRESETS = {preset.name: preset for preset in (
    Preset("zcu102", "ZCU102", "xczu9eg-ffvb1156-2-e", "xilinx.com:zcu102:part0", device="zcu102"),
    Preset("zcu104", "ZCU104", "xczu7ev-ffvc1156-2-e", "xilinx.com:zcu104:part0"),
    Preset("kv260", "KV260", "xck26-sfvc784-2LV-c", "xilinx.com:kv260_som:part0",
           "som240_1_connector xilinx.com:kv260_carrier:som240_1_connector:1.3",
           {"PSU__DDRC__CWL": "16", "PSU__TTC0__PERIPHERAL__ENABLE": "1", "PSU__TTC0__WAVEOUT__ENABLE": "1",
            "PSU__TTC0__WAVEOUT__IO": "EMIO"}, fan="A12", kria=True, device="kv260"),
)}
