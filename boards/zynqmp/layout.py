"""Where the parts of the system are for the processor: the one source of block design, device-tree overlay and example.

Documents:

    [PG021]   AMD AXI DMA Product Guide, 7.1: registers in direct register mode, LENGTH of at most 26 bits
    [UG1085]  Zynq UltraScale+ Device Technical Reference Manual, 2.4: table 35-6, interrupts 89 to 96 are the logic's first eight
    [A53]     Xcell Daily Blog, Adam Taylor's MicroZed Chronicles 174: the Cortex-A53 have 40-bit addresses
    [wiki]    AMD, Solution ZynqMP PL Programming: overlay with fpga_full, afi0 and zynqmp_reset 116
    [afi]     AMD Kria, Adding a Raspberry Pi Camera to SmartCam's Platform: config-afi 4 and 5 are S_AXI_HP0_FPD, and 0 means
              128 bits; 14 is as in [wiki]. The binding xlnx,zynqmp-afi-fpga.txt of linux-xlnx goes on with 6 and 7, AFIFM3
    [clock]   Linux, include/dt-bindings/clock/xlnx-zynqmp-clk.h: PL0_REF is 71
    [uio]     Linux, Documentation/driver-api/uio-howto.rst: of_id; a device has its node's name, without the address
    [buffer]  github.com/ikwzm/udmabuf, README: the node of a u-dma-buf

The window of M_AXI_HPM0_FPD, in which the addresses must lie, is not quoted from a document: Vivado refuses other addresses.
"""

from dataclasses import dataclass

from rtl.system.registers import SPAN
from rtl.system.system import System

from ..driver import uio
from ..driver.uio import ALIGNMENT, DMA_SPAN, PARTS

LEAST_BUFFER = 1 << 20
PAGE = 4096
PORTS = 4
"""S_AXI_HP0_FPD to S_AXI_HP3_FPD; the DMA has the first."""


@dataclass(frozen=True)
class Layout:
    """Addresses and sizes in bytes, interrupts as numbers of the GIC's shared ones, names of Linux's devices."""

    buffer_bytes: int
    image_bytes: int = 0
    masters: tuple[tuple[int, ...], ...] = ((),)
    """Of every S_AXI_HP<k>_FPD that is used, the accelerator's ports m_axi_<n> to the weights."""
    dma: int = 0xA000_0000
    dma_bytes: int = DMA_SPAN
    registers: int = 0xA001_0000
    registers_bytes: int = SPAN
    sent: int = 89  # [UG1085]
    received: int = 90
    accelerator: int = 91
    length_bits: int = 26  # [PG021]
    address_bits: int = 40  # [A53]
    registers_name: str = uio.REGISTERS
    dma_name: str = uio.DMA
    buffer_name: str = uio.BUFFER
    weights_name: str = uio.WEIGHTS

    @property
    def ports(self) -> range:
        """Numbers of the S_AXI_HP<k>_FPD that are used."""
        return range(len(self.masters))

    @classmethod
    def of(cls, system: System) -> "Layout":
        """With a buffer for the packets of a system."""
        schedule, size = system.schedule, system.options.bus_bits // 8
        longest = max(schedule.tokens * schedule.input.width * system.input_bytes,
                      schedule.graph.output.tokens * schedule.output.width * system.output_bytes)
        needed = PARTS * (longest + size + ALIGNMENT)
        buffer = max(LEAST_BUFFER, 1 << (needed - 1).bit_length())
        if not system.supply:
            return cls(buffer)
        readers, pages = range(len(system.supply.readers)), -(-system.supply.image.content.nbytes // PAGE)
        others = min(len(readers), PORTS - 1)  # the DMA shares its port with those that find no other one
        shared = [readers[others:], *([reader] for reader in readers[:others])]
        return cls(buffer, pages * PAGE, tuple(map(tuple, shared)))
