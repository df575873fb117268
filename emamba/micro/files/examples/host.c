/* A sequence of zeros: cc -Isrc examples/host.c -L. -lemamba_model */
#include <stdio.h>
#include "model.h"

static model m;
static model_input sequence[MODEL_TOKENS * MODEL_INPUT_WIDTH];
static model_output result[MODEL_OUTPUT_TOKENS * MODEL_OUTPUT_WIDTH];

int main(void) {
    int code = model_init(&m);
    if (code == MODEL_OK)
        code = model_run(&m, sequence, sizeof sequence / sizeof *sequence, result, sizeof result / sizeof *result);
    for (int k = 0; code == MODEL_OK && k < MODEL_OUTPUT_WIDTH; k++)
        printf("%d\n", (int)result[k]);
    return code;
}
