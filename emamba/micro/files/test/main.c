/* The self-test on a computer. */

#include <stdio.h>

#include "selftest.h"

int main(void) {
    const int wrong = self_test();
    if (wrong)
        printf("self-test of " MODEL_NAME ": frame %d of %d is wrong\n", wrong, SELF_TEST_FRAMES);
    else
        printf("self-test of " MODEL_NAME ": %d frames equal the integer model\n", SELF_TEST_FRAMES);
    return wrong ? 1 : 0;
}
