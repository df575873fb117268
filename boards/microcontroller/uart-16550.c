/* A 16550, at its base in qemu's RISC-V machine virt; without interrupts. */
#include "uart.h"

#define UART ((volatile uint8_t *)0x10000000u)
enum { DATA, FIFO = 2, LINE = 5, RECEIVED = 1, EMPTY = 32 };

void uart_begin(void) { UART[FIFO] = 1; }

uint8_t uart_get(void) {
    while (!(UART[LINE] & RECEIVED))
        ;
    return UART[DATA];
}

void uart_put(uint8_t byte) {
    while (!(UART[LINE] & EMPTY))
        ;
    UART[DATA] = byte;
}
