/* The CMSDK UART of Arm's MPS2 boards, at its base in qemu's mps2-an386; without interrupts. */
#include "uart.h"

#define UART ((volatile uint32_t *)0x40004000u)
enum { DATA, STATE, CONTROL, BAUD = 4, FULL = 1, RECEIVED = 2 };

void uart_begin(void) {
    UART[BAUD] = 16;
    UART[CONTROL] = 3;
}

uint8_t uart_get(void) {
    while (!(UART[STATE] & RECEIVED))
        ;
    return (uint8_t)UART[DATA];
}

void uart_put(uint8_t byte) {
    while (UART[STATE] & FULL)
        ;
    UART[DATA] = byte;
}
