#include "selftest.h"

static const model_input frames[$frames][MODEL_TOKENS * MODEL_INPUT_WIDTH] = {
$inputs
};

/* FNV-1a of the results' low 32 bits, the lowest byte first */
static const uint32_t answers[$frames] = {$answers};

static model instance;
static model_output result[MODEL_OUTPUT_TOKENS * MODEL_OUTPUT_WIDTH];

int self_test_run(uint32_t frame) {
    if (frame == 0)
        (void)model_init(&instance);
    return model_run(&instance, frames[frame], MODEL_TOKENS * MODEL_INPUT_WIDTH, result, MODEL_OUTPUT_TOKENS * MODEL_OUTPUT_WIDTH);
}

int self_test_check(uint32_t frame) {
    uint32_t check = UINT32_C(2166136261);
    for (uint32_t k = 0; k < MODEL_OUTPUT_TOKENS * MODEL_OUTPUT_WIDTH; k++)
        for (int shift = 0; shift < 32; shift += 8)
            check = (check ^ (((uint32_t)result[k] >> shift) & 255)) * UINT32_C(16777619);
    return check == answers[frame];
}

int self_test(void) {
    for (uint32_t frame = 0; frame < SELF_TEST_FRAMES; frame++)
        if (self_test_run(frame) != MODEL_OK || !self_test_check(frame))
            return (int)frame + 1;
    return 0;
}
