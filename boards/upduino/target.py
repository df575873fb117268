"""The target `upduino`: what `icebreaker` is, on an UPduino 3, which has the same iCE40 UP5K.

Pins come from amaranth-boards (`amaranth_boards.upduino_v3`), with two differences. The clock is the board's 12 MHz, which the
solder jumper OSC brings to pin 20, in place of the flash memory's HOLD: the FPGA's own oscillator is off by up to 10 %, too much
for a serial line. The USB chip is on the pins of the flash memory, so the serial line is on two pins of the left header.
"""

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth_boards.resources import SPIFlashResources, UARTResource
from amaranth_boards.upduino_v3 import UpduinoV3Platform

from boards.icebreaker import target

CLOCK, RX, TX = "20", "23", "25"
"""Pins of the package; boards number the header's by them."""
CONNECT = (f"solder the jumper OSC, and connect an adapter for a serial line of 3.3 V: its TX to pin {RX} of the header, its RX "
           f"to pin {TX}")


class Platform(UpduinoV3Platform):
    default_clk = "clk12"
    resources = (
        Resource("clk12", 0, Pins(CLOCK, dir="i"), Clock(target.CRYSTAL_MHZ * 1e6), Attrs(IO_STANDARD="SB_LVCMOS")),
        UARTResource(0, rx=RX, tx=TX, attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1)),
        *SPIFlashResources(0, cs_n="16", clk="15", copi="14", cipo="17", attrs=Attrs(IO_STANDARD="SB_LVCMOS")),
    )


class Target(target.Target):
    """Attributes and functions: `rtl.build.TARGETS`."""

    PLATFORM, OWN_PIN = Platform, False
    BOARD, NOTES = "upduino", (CONNECT,)
