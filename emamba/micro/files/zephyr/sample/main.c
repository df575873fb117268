/* The self-test on Zephyr. */
#include <zephyr/kernel.h>

#include "selftest.h"

int main(void) {
    const int wrong = self_test();
    printk("self-test of " MODEL_NAME ": %s\n", wrong ? "a frame is wrong" : "all frames equal the integer model");
    return 0;
}
