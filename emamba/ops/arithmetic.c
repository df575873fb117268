/* What the C of all operators shares: types, rounding, saturation, and a node.

   The host's loop (emamba/run/compiled.c) and the sources of a microcontroller (emamba/micro) both start from this file and take
   the operators' functions as they are. The types `in0` … `in3` and `value` of inputs and output, `sum`, `state`, and those of
   tables are theirs to choose. The right shift of a negative number must be an arithmetic one. */

#include <stdint.h>
#include <string.h>

typedef PLACE place;

#ifndef INLINE /* which a build that wants less code can set to `static inline` */
#if defined __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
#endif

/* round_shift: `left` and `right` are a shift of either sign, `even` is 1 for half_even; saturate: low, high. */
typedef struct {
    int64_t left, half, even, right, low, high;
} format;

#define DEFINE_ROUNDING(type, unsigned_type, name)                                                                          \
    INLINE type left_##name(type x, int64_t bits) { return (type)((unsigned_type)x << bits); }                              \
    INLINE type round_##name(type x, format f) {                                                                            \
        x = left_##name(x, f.left);                                                                                         \
        return (type)((x + (type)f.half + ((x >> f.right) & (type)f.even)) >> f.right);                                     \
    }

#define DEFINE_SATURATION(type, name)                                                                                       \
    INLINE type saturate_##name(type x, format f) {                                                                         \
        x = x > (type)f.high ? (type)f.high : x;                                                                            \
        return x < (type)f.low ? (type)f.low : x;                                                                           \
    }

#define DEFINE_REQUANTIZATION(type, name)                                                                                   \
    INLINE type requantize_##name(type x, format f) { return saturate_##name(round_##name(x, f), f); }

/* Bits of an unsigned number without its leading zeros. */
INLINE int length_of(uint64_t x) {
#if defined __GNUC__
    return x ? 64 - __builtin_clzll(x) : 0;
#else
    int length = 0;
    for (; x; x >>= 1)
        length++;
    return length;
#endif
}

/* Output y [tokens][out] in format o; inputs x [...][...]. Each function tells what it reads of the rest. It may be called for
   any part of a sequence: `given` are its input tokens here, `at` is the place of the first output token in its sequence, `rows`
   are all input tokens of a sequence. */
typedef struct node {
    const void *x[4];
    void *y;
    place tokens, in, out, taps, rows, given, at, least, bits, index_bits, head, group, block, left[2];
    const void *weight, *bias, *multiplier, *table, *start, *rates, *direct;
    void *scratch, *kept;
    place kept_bytes; /* `start` is the state `kept` before the first token, or 0 for zeros */
    format o, term, h, h_wide, argument;
    int64_t held, epsilon;
} node;
