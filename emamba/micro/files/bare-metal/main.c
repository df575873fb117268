/* The self-test with a debugger's semihosting, as qemu has it. It prints one line: wrong frames of how many, bytes of the stack at
   its deepest, and `count`'s units of the longest frame. */

#include "port.h"
#include "selftest.h"

#define PAINT 0xA5A5A5A5u

static char line[96];

/* From the end of the data to a little below this function's frame. */
static void paint(void) {
    uint32_t *end = (uint32_t *)(void *)((uint8_t *)__builtin_frame_address(0) - 256);
    for (uint32_t *word = bss_end; word < end; word++)
        *word = PAINT;
}

int main(void) {
    paint();
    begin_count();
    uint32_t wrong = 0, most = 0, from = 0;
    for (uint32_t frame = 0; frame < SELF_TEST_FRAMES; frame++) {
        (void)count(&from);
        const int code = self_test_run(frame);
        const uint32_t took = count(&from);
        most = took > most ? took : most;
        wrong += !(code == MODEL_OK && self_test_check(frame));
    }
    const uint32_t *deepest = bss_end;
    while (deepest < stack_top && *deepest == PAINT)
        deepest++;
    char *to = number(number(line, wrong), SELF_TEST_FRAMES);
    to = number(number(to, (uint32_t)((const uint8_t *)stack_top - (const uint8_t *)deepest)), most);
    to[-1] = '\n';
    *to = 0;
    say(line);
    return wrong ? 1 : 0;
}
