"""The AMD ZCU102 evaluation board (Zynq UltraScale+ XCZU9EG): its programmable logic's clocks, LEDs, buttons, switches, UART.

Documents, in which every pin below was looked up:

    [pins]   AMD board files, github.com/Xilinx/XilinxBoardStore, boards/Xilinx/zcu102/3.4/part0_pins.xml: pins and I/O standards
    [board]  the same folder's board.xml: part, directions, polarities, frequency of the Si570, I/O standard of the UART
    [slac]   github.com/slaclab/axi-soc-ultra-plus-core, hardware/XilinxZcu102/xdc/XilinxZcu102.xdc, which quotes the lines of the
             board's master XDC: net names and banks of the clocks
    [taxi]   github.com/fpganinja/taxi, src/eth/example/ZCU102/fpga/syn/fpga.xdc: the period of the 125 MHz clock
"""

from typing import ClassVar

from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource
from amaranth.vendor import XilinxPlatform
from amaranth_boards.resources import ButtonResources, LEDResources, SwitchResources, UARTResource

LVCMOS33 = Attrs(IOSTANDARD="LVCMOS33")


class ZCU102Platform(XilinxPlatform):
    # [board] component part0: xczu9eg-ffvb1156-2-e
    device = "xczu9eg"
    package = "ffvb1156"
    speed = "2-e"

    default_clk = "clk125"
    default_rst = "rst"

    resources: ClassVar = [
        # [pins] CPU_RESET; [board] component reset: active high
        Resource("rst", 0, Pins("AM13", dir="i"), LVCMOS33),

        # [pins] sysclk_p, sysclk_n; [slac] nets CLK_125_P, CLK_125_N, bank 47; [taxi] clk_125mhz, period 8.000
        Resource("clk125", 0, DiffPairs("G21", "F21", dir="i"), Clock(125e6), Attrs(IOSTANDARD="LVDS_25")),
        # [pins] sysclk7425_p, sysclk7425_n; [slac] nets CLK_74_25_P, CLK_74_25_N, bank 44
        Resource("clk74", 0, DiffPairs("AK15", "AK14", dir="i"), Clock(74.25e6), Attrs(IOSTANDARD="LVDS_25")),
        # [pins] user_si570_sysclk_p, user_si570_sysclk_n; [board] component user_si570_sysclk: 300 MHz unless reprogrammed
        Resource("clk300", 0, DiffPairs("AL8", "AL7", dir="i"), Clock(300e6), Attrs(IOSTANDARD="DIFF_SSTL12")),

        # [pins] GPIO_LED_0_LS to GPIO_LED_7_LS; [board] component led_8bits: active high
        *LEDResources(pins="AG14 AF13 AE13 AJ14 AJ15 AH13 AH14 AL12", attrs=LVCMOS33),
        # [pins] GPIO_SW_C, W, S, E, N, in the order of [board] interface push_buttons_5bits: active high
        *ButtonResources(pins="AG13 AF15 AE15 AE14 AG15", attrs=LVCMOS33),
        # [pins] GPIO_DIP_SW0 to GPIO_DIP_SW7; [board] interface dip_switches_8bits
        *SwitchResources(pins="AN14 AP14 AM14 AN13 AN12 AP12 AL13 AK13", attrs=LVCMOS33),

        # [pins] uart2_PL_TX, uart2_PL_RX; [board] interface uart2_pl: TxD is driven by the logic, component uart2_pl: LVCMOS33
        UARTResource(0, tx="F13", rx="E13", attrs=LVCMOS33),
    ]
    connectors: ClassVar = []
