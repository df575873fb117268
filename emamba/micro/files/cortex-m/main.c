/* The self-test on a Cortex-M with a debugger's semihosting, as qemu-system-arm has it. It prints one line: wrong frames of how
   many, bytes of the stack at its deepest, and SysTick's counts of the longest frame. With -icount shift=0 an instruction takes a nanosecond. */

#include "model.h"
#include "selftest.h"

extern uint32_t stack_top[], bss_end[];

#define PAINT 0xA5A5A5A5u
#define SYSTICK ((volatile uint32_t *)0xE000E010u)

static int32_t semihosting(int32_t operation, const void *argument) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void leave(int status) {
    const uint32_t block[2] = {0x20026, (uint32_t)status};
    for (;;)
        semihosting(0x20, block);
}

static char line[96];

static char *number(char *to, uint32_t value) {
    char digits[10];
    int count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        *to++ = digits[--count];
    *to++ = ' ';
    return to;
}

/* Bytes that are painted from the end of the data to a little below this function's frame. */
static uint32_t *paint(void) {
    uint32_t *end = (uint32_t *)(void *)((uint8_t *)__builtin_frame_address(0) - 256);
    for (uint32_t *word = bss_end; word < end; word++)
        *word = PAINT;
    return end;
}

int main(void) {
    paint();
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    uint32_t wrong = 0, ticks = 0;
    for (uint32_t frame = 0; frame < SELF_TEST_FRAMES; frame++) {
        const uint32_t before = SYSTICK[2];
        const int right = self_test_run(frame);
        const uint32_t took = (before - SYSTICK[2]) & 0xFFFFFF;
        ticks = took > ticks ? took : ticks;
        wrong += !(right == MODEL_OK && self_test_check(frame));
    }
    const uint32_t *deepest = bss_end;
    while (deepest < stack_top && *deepest == PAINT)
        deepest++;
    char *to = number(number(line, wrong), SELF_TEST_FRAMES);
    to = number(number(to, (uint32_t)((const uint8_t *)stack_top - (const uint8_t *)deepest)), ticks);
    to[-1] = '\n';
    *to = 0;
    semihosting(4, line);
    return wrong ? 1 : 0;
}
