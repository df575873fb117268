/* A model as the driver's device on a serial line: `Accelerator(folder, SerialTransport(port))` in Python on the other side.

   `device_take` takes a byte of the line; what it answers leaves by `device_put`, which the board gives. A driver sends up to 2048
   bytes before it waits for an answer: where a UART keeps fewer while a token is computed, let its interrupt put them into a ring.
   Integers go over the line as they are in memory, so the processor is a little-endian one. */
#ifndef DEVICE_H
#define DEVICE_H
#include <stdint.h>

void device_begin(void);
void device_take(uint8_t byte);
void device_put(uint8_t byte);

#endif
