#if MODEL_DSP
/* Four products by two SMLAD, which multiply the even and the odd ones. */
INLINE uint32_t even_bytes(uint32_t x) {
    uint32_t y;
    __asm__("sxtb16 %0, %1" : "=r"(y) : "r"(x));
    return y;
}

INLINE uint32_t odd_bytes(uint32_t x) {
    uint32_t y;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
}

INLINE int32_t two_products(int32_t acc, uint32_t x, uint32_t y) {
    __asm__("smlad %0, %1, %2, %0" : "+r"(acc) : "r"(x), "r"(y));
    return acc;
}

INLINE int32_t dot_i8(int32_t acc, const int8_t *weight, const int8_t *x) {
    uint32_t w, v;
    memcpy(&w, weight, sizeof w);
    memcpy(&v, x, sizeof v);
    acc = two_products(acc, even_bytes(w), even_bytes(v));
    acc = two_products(acc, odd_bytes(w), odd_bytes(v));
    return acc;
}

INLINE int32_t dot_i16(int32_t acc, const int8_t *weight, const int16_t *x) {
    uint32_t w, low, high, even, odd;
    memcpy(&w, weight, sizeof w);
    memcpy(&low, x, sizeof low);
    memcpy(&high, x + 2, sizeof high);
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(even) : "r"(low), "r"(high));
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(odd) : "r"(high), "r"(low));
    acc = two_products(acc, even_bytes(w), even);
    acc = two_products(acc, odd_bytes(w), odd);
    return acc;
}

/* To b bits in one instruction; the compiler knows the limits, so that one line is left. */
#define SATURATE(b)                                                                                                         \
    if (f.low == -(INT64_C(1) << (b - 1)) && f.high == (INT64_C(1) << (b - 1)) - 1) {                                       \
        __asm__("ssat %0, %2, %1" : "=r"(x) : "r"(x), "I"(b));                                                              \
        return x;                                                                                                           \
    }                                                                                                                       \
    if (f.low == 0 && f.high == (INT64_C(1) << (b - 1)) - 1) {                                                              \
        __asm__("usat %0, %2, %1" : "=r"(x) : "r"(x), "I"(b - 1));                                                          \
        return x;                                                                                                           \
    }
INLINE int32_t saturate_i32(int32_t x, format f) {
    SATURATE(8) SATURATE(9) SATURATE(10) SATURATE(11) SATURATE(12) SATURATE(13) SATURATE(14) SATURATE(15) SATURATE(16)
    SATURATE(17) SATURATE(18) SATURATE(24)
    if (f.high == INT32_MAX && f.low == INT32_MIN)
        return x;
    if (f.high == INT32_MAX) { /* never reached */
        x -= (int32_t)f.low;
        __asm__("usat %0, #31, %1" : "=r"(x) : "r"(x));
        return x + (int32_t)f.low;
    }
    x = x > (int32_t)f.high ? (int32_t)f.high : x;
    return x < (int32_t)f.low ? (int32_t)f.low : x;
}
#else
DEFINE_SATURATION(int32_t, i32)
#endif
