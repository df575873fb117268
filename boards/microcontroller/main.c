/* The model on a serial line: with bare-metal/start.c and a processor's and a UART's file, or with a board's own start and UART. */
#include "device.h"
#include "uart.h"

void device_put(uint8_t byte) { uart_put(byte); }

int main(void) {
    uart_begin();
    device_begin();
    for (;;)
        device_take(uart_get());
}
