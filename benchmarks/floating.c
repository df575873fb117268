/* Counts what a token takes in an engine that is linked with this. Its memory comes from `malloc` and `calloc` here. It prints the
   instructions of eight tokens, in `count`'s units, and the bytes that were allocated. */

#include <stddef.h>
#include <stdint.h>

#include "port.h"

enum { WEIGHTS = 1 << 17, HEAP = 1 << 17, TOKENS = 8 };

/* What the engine defines. The weights are random, within an eighth of 0; it may change them. */
void engine_begin(float *weights);
void engine_token(uint32_t token);

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void free(void *memory);

static float weights[WEIGHTS];
static uint64_t heap[HEAP / 8]; /* zeros */
static size_t used;
static char line[24];

void *malloc(size_t size) {
    void *memory = (uint8_t *)heap + used;
    used += (size + 7) / 8 * 8;
    if (used > HEAP)
        leave(98);
    return memory;
}

void *calloc(size_t count, size_t size) { return malloc(count * size); }
void free(void *memory) { (void)memory; }

static __attribute__((noinline)) void tokens(void) {
    uint32_t random = 1, from = 0;
    for (uint32_t k = 0; k < WEIGHTS; k++) {
        random = random * 1664525u + 1013904223u;
        weights[k] = (float)((int32_t)(random >> 16) - 32768) / 262144.0f;
    }
    engine_begin(weights);
    begin_count();
    (void)count(&from);
    for (uint32_t token = 0; token < TOKENS; token++)
        engine_token(token);
    char *end = number(number(line, count(&from)), (uint32_t)used);
    end[-1] = '\n';
    *end = 0;
}

int main(void) {
    *(volatile uint32_t *)0xE000ED88u |= 0xF00000u; /* the FPU, before a function uses it */
    tokens();
    say(line);
    return 0;
}
