/* What a board gives: its UART, one byte at a time. */
#ifndef UART_H
#define UART_H
#include <stdint.h>

void uart_begin(void);
uint8_t uart_get(void); /* waits for it */
void uart_put(uint8_t byte);

#endif
