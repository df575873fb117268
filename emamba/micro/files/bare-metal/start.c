/* Start of a program without a C library, what the model needs of one, and a number in digits; compile with
   -fno-tree-loop-distribute-patterns. */

#include <stdint.h>
#include <string.h>

#include "port.h"

extern uint32_t data_source[], data_begin[], data_end[], bss_begin[];

int main(void);

void start(void) {
    const uint32_t *from = data_source;
    for (uint32_t *to = data_begin; to < data_end; to++)
        *to = *from++;
    for (uint32_t *to = bss_begin; to < bss_end; to++)
        *to = 0;
    leave(main());
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & 3) == 0)
        for (; size >= 4; size -= 4, t += 4, f += 4)
            *(uint32_t *)(void *)t = *(const uint32_t *)(const void *)f;
    while (size--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f)
        return memcpy(to, from, size);
    while (size--)
        t[size] = f[size];
    return to;
}

void *memset(void *to, int byte, size_t size) {
    uint8_t *t = to;
    const uint32_t four = (uint8_t)byte * 0x01010101u;
    for (; size && ((uintptr_t)t & 3); size--)
        *t++ = (uint8_t)byte;
    for (; size >= 16; size -= 16, t += 16) {
        uint32_t *words = (uint32_t *)(void *)t;
        words[0] = words[1] = words[2] = words[3] = four;
    }
    for (; size >= 4; size -= 4, t += 4)
        *(uint32_t *)(void *)t = four;
    while (size--)
        *t++ = (uint8_t)byte;
    return to;
}

char *number(char *to, uint32_t value) {
    char digits[10];
    int size = 0;
    do
        digits[size++] = (char)('0' + value % 10);
    while (value /= 10);
    while (size)
        *to++ = digits[--size];
    *to++ = ' ';
    return to;
}
