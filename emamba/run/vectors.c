/* Vectors of LANES numbers. Every primitive is here in plain C, and as `instructions` where the machine has them; `vectors_agree`
   compares both before they are used. PLAIN_VECTORS leaves instructions out, EMULATED_DOT
   those of products of bytes alone. Arrays
   go on for LANES elements beyond their end: what is read there is not used. */
typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
typedef int16_t shorts __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(4 * LANES)));

#define UNROLL _Pragma("GCC unroll 8")
#if defined PLAIN_VECTORS
#elif defined __AVX2__
#include <immintrin.h>
#define AVX
#if defined EMULATED_DOT || defined __AVXVNNI__ || (defined __AVX512VNNI__ && defined __AVX512VL__)
#define DOT
#endif
#elif defined __aarch64__
#include <arm_neon.h>
#define NEON
#if defined __ARM_FEATURE_DOTPROD
#define DOT
#endif
#endif

/* Of a Linear of bytes: tokens at a time, whose sums stay in registers, or 0 where it is not faster; what is added to its inputs,
   which `add_fours` and `byte_products` take unsigned; and how large the weights of a lane may become together in a sum of
   `byte_products`, or 0 where there is no limit. */
#if defined DOT
#define ROWS 8
#define LIMIT 0
#else
#define ROWS 4
#define LIMIT 128
#endif
#if defined DOT && defined NEON
#define OFFSET 0
#elif !defined OFFSET
#define OFFSET 128
#endif
#if defined DOT || defined AVX
const int32_t vector_bytes[3] = {ROWS, OFFSET, LIMIT};
#else
const int32_t vector_bytes[3] = {0, OFFSET, LIMIT};
#endif

INLINE lanes load(const void *x) {
    lanes y;
    memcpy(&y, x, sizeof y);
    return y;
}

/* -- in plain C ------------------------------------------------------------------------------------------------------------- */

INLINE lanes plain_load_shorts(const int16_t *x) {
    lanes y;
    for (int k = 0; k < LANES; k++)
        y[k] = x[k];
    return y;
}

INLINE lanes plain_clip(lanes x, int32_t low, int32_t high) {
    for (int k = 0; k < LANES; k++) {
        x[k] = x[k] > high ? high : x[k];
        x[k] = x[k] < low ? low : x[k];
    }
    return x;
}

INLINE lanes plain_shift_right(lanes x, int32_t bits) { return x >> bits; }

INLINE void plain_store_shorts(int16_t *y, lanes x, int32_t low, int32_t high) {
    x = plain_clip(x, low, high);
    for (int k = 0; k < LANES; k++)
        y[k] = (int16_t)x[k];
}

/* acc + Σ of the two products of 16 bits in every lane. */
INLINE lanes plain_add_pairs(lanes acc, lanes x, lanes y) {
    for (int k = 0; k < LANES; k++)
        acc[k] += (int16_t)x[k] * (int16_t)y[k] + (x[k] >> 16) * (y[k] >> 16);
    return acc;
}

/* acc + Σ of the four products of bytes in every lane. */
INLINE lanes plain_add_fours(lanes acc, lanes weight, lanes x) {
    const bytes w = (bytes)weight, v = (bytes)x;
    for (int k = 0; k < 4 * LANES; k++)
        acc[k / 4] += w[k] * (OFFSET ? (int32_t)(uint8_t)v[k] : v[k]);
    return acc;
}

/* The same in two steps, where all sums have 16 bits: of two products each, then of two such sums. */
INLINE shorts plain_byte_products(lanes weight, lanes x) {
    const bytes w = (bytes)weight, v = (bytes)x;
    shorts y;
    for (int k = 0; k < 2 * LANES; k++)
        y[k] = (int16_t)(w[2 * k] * (uint8_t)v[2 * k] + w[2 * k + 1] * (uint8_t)v[2 * k + 1]);
    return y;
}

INLINE lanes plain_add_shorts(lanes acc, shorts x) {
    for (int k = 0; k < LANES; k++)
        acc[k] += x[2 * k] + x[2 * k + 1];
    return acc;
}

/* LANES values of a byte each, OFFSET added. */
INLINE uint64_t plain_bytes_of(const int16_t *x) {
    uint8_t y[LANES];
    for (int k = 0; k < LANES; k++)
        y[k] = (uint8_t)(x[k] + OFFSET);
    uint64_t all;
    memcpy(&all, y, sizeof all);
    return all;
}

/* Lower halves of the lanes of x, upper ones of y. */
INLINE lanes plain_halves(lanes x, lanes y) { return (x & 0xFFFF) | (y & ~0xFFFF); }

/* Pairs of the values at x and at y. */
INLINE lanes plain_pairs_of(const int16_t *x, const int16_t *y) {
    lanes pairs;
    for (int k = 0; k < LANES; k++)
        pairs[k] = (int32_t)((uint32_t)(uint16_t)x[k] | (uint32_t)(uint16_t)y[k] << 16);
    return pairs;
}

/* Bytes of 8 states and LANES channels: to[state][channel] from row[channel][state]. */
INLINE void plain_transpose(lanes *to, const uint8_t *const *row) {
    for (int s = 0; s < 8; s++)
        for (int k = 0; k < LANES; k++)
            to[s][k] = row[k][s];
}

/* -- by instructions -------------------------------------------------------------------------------------------------------- */

#if defined AVX
INLINE lanes load_shorts(const int16_t *x) { return (lanes)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)x)); }

INLINE lanes clip(lanes x, int32_t low, int32_t high) {
    return (lanes)_mm256_max_epi32(_mm256_min_epi32((__m256i)x, _mm256_set1_epi32(high)), _mm256_set1_epi32(low));
}

INLINE lanes shift_right(lanes x, int32_t bits) { return (lanes)_mm256_sra_epi32((__m256i)x, _mm_cvtsi32_si128(bits)); }

INLINE void store_shorts(int16_t *y, lanes x, int32_t low, int32_t high) {
    const __m256i wide = (__m256i)x;
    const __m128i v = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    const __m128i l = _mm_set1_epi16((int16_t)low), u = _mm_set1_epi16((int16_t)high);
    _mm_storeu_si128((__m128i *)y, _mm_max_epi16(_mm_min_epi16(v, u), l));
}

INLINE shorts byte_products(lanes weight, lanes x) { return (shorts)_mm256_maddubs_epi16((__m256i)x, (__m256i)weight); }

INLINE lanes add_shorts(lanes acc, shorts x) { return acc + (lanes)_mm256_madd_epi16((__m256i)x, _mm256_set1_epi16(1)); }

INLINE uint64_t bytes_of(const int16_t *x) {
    const __m128i y = _mm_loadu_si128((const __m128i *)x);
    return (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(_mm_packs_epi16(y, y), _mm_set1_epi8((char)OFFSET)));
}

INLINE lanes halves(lanes x, lanes y) { return (lanes)_mm256_blend_epi16((__m256i)x, (__m256i)y, 0xAA); }

INLINE lanes pairs_of(const int16_t *x, const int16_t *y) {
    const __m128i a = _mm_loadu_si128((const __m128i *)x), b = _mm_loadu_si128((const __m128i *)y);
    return (lanes)_mm256_setr_m128i(_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
}

INLINE void transpose(lanes *to, const uint8_t *const *row) {
    __m128i pair[4], four[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        pair[k] = _mm_unpacklo_epi8(_mm_loadu_si64(row[2 * k]), _mm_loadu_si64(row[2 * k + 1]));
    four[0] = _mm_unpacklo_epi16(pair[0], pair[1]);
    four[1] = _mm_unpackhi_epi16(pair[0], pair[1]);
    four[2] = _mm_unpacklo_epi16(pair[2], pair[3]);
    four[3] = _mm_unpackhi_epi16(pair[2], pair[3]);
    UNROLL
    for (int k = 0; k < 4; k++) {
        const __m128i a = four[k / 2], b = four[k / 2 + 2], two = k & 1 ? _mm_unpackhi_epi32(a, b) : _mm_unpacklo_epi32(a, b);
        to[2 * k] = (lanes)_mm256_cvtepu8_epi32(two);
        to[2 * k + 1] = (lanes)_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(two, two));
    }
}

#if defined DOT && !defined EMULATED_DOT
#if defined __AVX512VNNI__ && defined __AVX512VL__
#define DPWSSD _mm256_dpwssd_epi32
#define DPBUSD _mm256_dpbusd_epi32
#else
#define DPWSSD _mm256_dpwssd_avx_epi32
#define DPBUSD _mm256_dpbusd_avx_epi32
#endif
INLINE lanes add_pairs(lanes acc, lanes x, lanes y) { return (lanes)DPWSSD((__m256i)acc, (__m256i)x, (__m256i)y); }
INLINE lanes add_fours(lanes acc, lanes weight, lanes x) {
    return (lanes)DPBUSD((__m256i)acc, (__m256i)x, (__m256i)weight);
}
#else
INLINE lanes add_pairs(lanes acc, lanes x, lanes y) { return acc + (lanes)_mm256_madd_epi16((__m256i)x, (__m256i)y); }
#define add_fours plain_add_fours
#endif

#elif defined NEON
typedef struct {
    int32x4_t low, high;
} halves_of;

INLINE halves_of split(lanes x) {
    halves_of y;
    memcpy(&y, &x, sizeof y);
    return y;
}

INLINE lanes joined(int32x4_t low, int32x4_t high) {
    const halves_of x = {low, high};
    return load(&x);
}

INLINE lanes load_shorts(const int16_t *x) {
    const int16x8_t y = vld1q_s16(x);
    return joined(vmovl_s16(vget_low_s16(y)), vmovl_high_s16(y));
}

INLINE lanes clip(lanes x, int32_t low, int32_t high) {
    const halves_of h = split(x);
    const int32x4_t l = vdupq_n_s32(low), u = vdupq_n_s32(high);
    return joined(vmaxq_s32(vminq_s32(h.low, u), l), vmaxq_s32(vminq_s32(h.high, u), l));
}

INLINE void store_shorts(int16_t *y, lanes x, int32_t low, int32_t high) {
    const halves_of h = split(x);
    const int16x8_t v = vcombine_s16(vqmovn_s32(h.low), vqmovn_s32(h.high));
    vst1q_s16(y, vmaxq_s16(vminq_s16(v, vdupq_n_s16((int16_t)high)), vdupq_n_s16((int16_t)low)));
}

INLINE int32x4_t pair_products(int32x4_t a, int32x4_t b) {
    const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}

INLINE lanes add_pairs(lanes acc, lanes x, lanes y) {
    const halves_of a = split(x), b = split(y);
    return acc + joined(pair_products(a.low, b.low), pair_products(a.high, b.high));
}

#if defined DOT
INLINE lanes add_fours(lanes acc, lanes weight, lanes x) {
    const halves_of a = split(acc), w = split(weight), v = split(x);
    return joined(vdotq_s32(a.low, vreinterpretq_s8_s32(w.low), vreinterpretq_s8_s32(v.low)),
                  vdotq_s32(a.high, vreinterpretq_s8_s32(w.high), vreinterpretq_s8_s32(v.high)));
}
#else
#define add_fours plain_add_fours
#endif

INLINE uint64_t bytes_of(const int16_t *x) {
    return vget_lane_u64(vreinterpret_u64_s8(vmovn_s16(vaddq_s16(vld1q_s16(x), vdupq_n_s16(OFFSET)))), 0);
}

INLINE lanes pairs_of(const int16_t *x, const int16_t *y) {
    const int16x8_t a = vld1q_s16(x), b = vld1q_s16(y);
    return joined(vreinterpretq_s32_s16(vzip1q_s16(a, b)), vreinterpretq_s32_s16(vzip2q_s16(a, b)));
}

#define shift_right plain_shift_right
#define halves plain_halves
#define transpose plain_transpose
#define byte_products plain_byte_products
#define add_shorts plain_add_shorts
#else
#define load_shorts plain_load_shorts
#define clip plain_clip
#define shift_right plain_shift_right
#define store_shorts plain_store_shorts
#define add_pairs plain_add_pairs
#define add_fours plain_add_fours
#define byte_products plain_byte_products
#define add_shorts plain_add_shorts
#define bytes_of plain_bytes_of
#define halves plain_halves
#define pairs_of plain_pairs_of
#define transpose plain_transpose
#endif

/* Whether every primitive gives what its plain C does, of fixed numbers: 0, or the number of the first that does not. */
#define TRIED 19
#define TRY(way, to)                                                                                                        \
    to[0] = way##load_shorts((const int16_t *)in);                                                                          \
    to[1] = way##clip(a, -(1 << 20), (1 << 24) + 5);                                                                        \
    to[2] = way##shift_right(a, turn & 31);                                                                                 \
    way##store_shorts((int16_t *)(to + 3), a >> turn, -100 * turn, 32767);                                                  \
    to[4] = way##add_pairs(a >> 8, (lanes)((shorts)b >> 1), c);                                                             \
    to[5] = way##add_fours(a >> 8, b, c);                                                                                   \
    to[6] = (lanes)way##byte_products((lanes)((bytes)b >> 2), c);                                                           \
    to[7] = way##add_shorts(a >> 8, (shorts)b);                                                                             \
    memcpy(to + 8, &(uint64_t){way##bytes_of(small)}, 8);                                                                   \
    to[9] = way##halves(a, b);                                                                                              \
    to[10] = way##pairs_of((const int16_t *)in, (const int16_t *)(in + 1));                                                 \
    way##transpose(to + 11, rows);
int32_t vectors_agree(void) {
    uint32_t seed = 1;
    for (int turn = 0; turn < 64; turn++) {
        lanes in[4], got[TRIED] = {0}, wanted[TRIED] = {0};
        uint8_t *byte = (uint8_t *)in;
        for (size_t k = 0; k < sizeof in; k++) { /* both ends of every type first */
            seed = seed * 1664525 + 1013904223;
            byte[k] = (uint8_t)(turn ? seed >> 24 : 127 + (seed >> 31));
        }
        int16_t small[LANES];
        const uint8_t *rows[LANES];
        for (int k = 0; k < LANES; k++) {
            small[k] = (int8_t)byte[k];
            rows[k] = byte + 9 * k;
        }
        const lanes a = in[1], b = in[2], c = in[3];
        TRY(, got)
        TRY(plain_, wanted)
        for (int k = 0; k < TRIED; k++)
            if (memcmp(got + k, wanted + k, sizeof *got))
                return k + 1;
    }
    return 0;
}
