/* The artifact's golden frames. */
#ifndef SELFTEST_H
#define SELFTEST_H
#include "model.h"

#ifndef SELF_TEST_FRAMES
#define SELF_TEST_FRAMES $frames /* of them; fewer where there is less time */
#endif

/* Runs a frame; one after the other, from 0 on. Gives a code of model.h. */
int self_test_run(uint32_t frame);
/* Whether the result of the last run is that of the integer model. */
int self_test_check(uint32_t frame);
/* All frames: 0, or the number of the first one that is wrong, from 1 on. */
int self_test(void);

#endif
