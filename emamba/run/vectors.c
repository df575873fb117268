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
#if defined EMULATED_TWINS || (defined __AVX512VBMI__ && defined __AVX512VNNI__ && defined __AVX512BW__)
#define TWINS
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
#if defined TWINS /* lanes of one thing, then those of another */
typedef int32_t twins __attribute__((vector_size(8 * LANES)));
const int32_t vector_tables = 1; /* there is `look_up` */
#else
const int32_t vector_tables = 0;
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

/* 4·LANES values of a byte each, OFFSET added. */
INLINE void plain_store_bytes(uint8_t *y, const int16_t *x) {
    for (int k = 0; k < 4 * LANES; k++)
        y[k] = (uint8_t)(x[k] + OFFSET);
}

/* Of `width` values. */
typedef struct {
    int32_t total, low, high;
} extent;

INLINE extent plain_extent_of(const int16_t *x, place width) {
    extent y = {0, x[0], x[0]};
    for (place k = 0; k < width; k++) {
        y.total += x[k];
        y.low = x[k] < y.low ? x[k] : y.low;
        y.high = x[k] > y.high ? x[k] : y.high;
    }
    return y;
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

#if defined TWINS
INLINE twins plain_twins_of(lanes x, lanes y) {
    twins z;
    memcpy(&z, &x, sizeof x);
    memcpy((lanes *)&z + 1, &y, sizeof y);
    return z;
}

INLINE lanes plain_first_of(twins x) {
    lanes y;
    memcpy(&y, &x, sizeof y);
    return y;
}

INLINE lanes plain_second_of(twins x) {
    lanes y;
    memcpy(&y, (lanes *)&x + 1, sizeof y);
    return y;
}

INLINE twins plain_add_twin_pairs(twins acc, twins x, twins y) {
    for (int k = 0; k < 2 * LANES; k++)
        acc[k] += (int16_t)x[k] * (int16_t)y[k] + (x[k] >> 16) * (y[k] >> 16);
    return acc;
}

INLINE twins plain_clip_twins(twins x, int32_t low, int32_t high) {
    for (int k = 0; k < 2 * LANES; k++) {
        x[k] = x[k] > high ? high : x[k];
        x[k] = x[k] < low ? low : x[k];
    }
    return x;
}

/* Bytes of 8 states and LANES channels, [channel][state], each channel's at its place; and of two states, [state][channel]. */
INLINE twins plain_rows_of(const uint8_t *table, const int32_t *at) {
    twins y;
    for (int k = 0; k < LANES; k++)
        memcpy((uint8_t *)&y + 8 * k, table + at[k], 8);
    return y;
}

INLINE twins plain_column_twins(twins rows, int j) {
    twins y;
    for (int k = 0; k < 2 * LANES; k++)
        y[k] = ((const uint8_t *)&rows)[k % LANES * 8 + 2 * j + k / LANES];
    return y;
}

/* Of x and y of 24 bits: pairs of their upper 16 bits, then pairs of their lower 8. */
INLINE twins plain_parts(twins x) {
    twins y;
    for (int k = 0; k < LANES; k++) {
        y[k] = (int32_t)((uint32_t)x[k] >> 8 & 0xFFFF) | (int32_t)((uint32_t)x[LANES + k] << 8 & 0xFFFF0000);
        y[LANES + k] = (x[k] & 0xFF) | (x[LANES + k] & 0xFF) << 16;
    }
    return y;
}

/* 8·LANES values from a table of 256 bytes, by the lower byte of each x. */
INLINE void plain_look_up(int16_t *y, const int16_t *x, const int8_t *table) {
    for (int k = 0; k < 8 * LANES; k++)
        y[k] = table[(uint8_t)x[k]];
}
#endif

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

INLINE void store_bytes(uint8_t *y, const int16_t *x) {
    const __m256i all = _mm256_packs_epi16(_mm256_loadu_si256((const __m256i *)x), _mm256_loadu_si256((const __m256i *)x + 1));
    _mm256_storeu_si256((__m256i *)y, _mm256_xor_si256(_mm256_permute4x64_epi64(all, 0xD8), _mm256_set1_epi8((char)OFFSET)));
}

INLINE int32_t least_of(__m256i x, __m256i flip) {
    x = _mm256_xor_si256(x, flip);
    const __m128i least = _mm_minpos_epu16(_mm_min_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
    return (int16_t)(_mm_cvtsi128_si32(least) ^ _mm256_extract_epi16(flip, 0));
}

INLINE extent extent_of(const int16_t *x, place width) {
    const __m256i one = _mm256_set1_epi16(1), first = _mm256_set1_epi16(*x);
    const __m256i number = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m256i low = first, high = first, sums = _mm256_setzero_si256();
    place k = 0;
    for (; k + 16 <= width; k += 16) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(x + k));
        low = _mm256_min_epi16(low, v), high = _mm256_max_epi16(high, v);
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(v, one));
    }
    if (k < width) {
        const __m256i mask = _mm256_cmpgt_epi16(_mm256_set1_epi16((int16_t)(width - k)), number);
        const __m256i v = _mm256_loadu_si256((const __m256i *)(x + k)), some = _mm256_blendv_epi8(first, v, mask);
        low = _mm256_min_epi16(low, some), high = _mm256_max_epi16(high, some);
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_and_si256(v, mask), one));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 1));
    return (extent){_mm_cvtsi128_si32(four), least_of(low, _mm256_set1_epi16(INT16_MIN)), least_of(high, _mm256_set1_epi16(INT16_MAX))};
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

#if defined TWINS && !defined EMULATED_TWINS
INLINE twins twins_of(lanes x, lanes y) { return (twins)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)x), (__m256i)y, 1); }

INLINE lanes first_of(twins x) { return (lanes)_mm512_castsi512_si256((__m512i)x); }

INLINE lanes second_of(twins x) { return (lanes)_mm512_extracti64x4_epi64((__m512i)x, 1); }

INLINE twins add_twin_pairs(twins acc, twins x, twins y) { return (twins)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)x, (__m512i)y); }

INLINE twins clip_twins(twins x, int32_t low, int32_t high) {
    return (twins)_mm512_max_epi32(_mm512_min_epi32((__m512i)x, _mm512_set1_epi32(high)), _mm512_set1_epi32(low));
}

INLINE __m256i four_rows(const uint8_t *table, const int32_t *at) {
    return _mm256_setr_m128i(_mm_unpacklo_epi64(_mm_loadu_si64(table + at[0]), _mm_loadu_si64(table + at[1])),
                             _mm_unpacklo_epi64(_mm_loadu_si64(table + at[2]), _mm_loadu_si64(table + at[3])));
}

INLINE twins rows_of(const uint8_t *table, const int32_t *at) {
    return twins_of((lanes)four_rows(table, at), (lanes)four_rows(table, at + 4));
}

INLINE twins column_twins(twins rows, int j) {
    const __m512i first = _mm512_setr_epi32(0, 8, 16, 24, 32, 40, 48, 56, 1, 9, 17, 25, 33, 41, 49, 57);
    const __m512i from = _mm512_add_epi32(first, _mm512_set1_epi32(2 * j));
    return (twins)_mm512_maskz_permutexvar_epi8(0x1111111111111111, from, (__m512i)rows);
}

INLINE twins parts(twins x) {
    __m512i from;
    uint8_t *of = (uint8_t *)&from;
    UNROLL
    for (int k = 0; k < 4 * LANES; k++) {
        of[k] = (uint8_t)(k % 4 % 2 + 1 + k / 4 * 4 + (k % 4 / 2) * 4 * LANES);
        of[4 * LANES + k] = (uint8_t)(k / 4 * 4 + (k % 4 / 2) * 4 * LANES);
    }
    return (twins)_mm512_maskz_permutexvar_epi8(0x55555555FFFFFFFF, from, (__m512i)x);
}

INLINE void look_up(int16_t *y, const int16_t *x, const int8_t *table) {
    const __m512i *t = (const __m512i *)table;
    const __m256i low = _mm512_cvtepi16_epi8(_mm512_loadu_si512(x)), high = _mm512_cvtepi16_epi8(_mm512_loadu_si512(x + 32));
    const __m512i at = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    const __m512i found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), _mm512_permutex2var_epi8(t[0], at, t[1]),
                                                 _mm512_permutex2var_epi8(t[2], at, t[3]));
    _mm512_storeu_si512(y, _mm512_cvtepi8_epi16(_mm512_castsi512_si256(found)));
    _mm512_storeu_si512(y + 32, _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(found, 1)));
}
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

INLINE void store_bytes(uint8_t *y, const int16_t *x) {
    UNROLL
    for (int k = 0; k < 4 * LANES; k += 8)
        vst1_u8(y + k, vreinterpret_u8_s8(vmovn_s16(vaddq_s16(vld1q_s16(x + k), vdupq_n_s16(OFFSET)))));
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
#define extent_of plain_extent_of
#else
#define load_shorts plain_load_shorts
#define clip plain_clip
#define shift_right plain_shift_right
#define store_shorts plain_store_shorts
#define add_pairs plain_add_pairs
#define add_fours plain_add_fours
#define byte_products plain_byte_products
#define add_shorts plain_add_shorts
#define store_bytes plain_store_bytes
#define halves plain_halves
#define pairs_of plain_pairs_of
#define transpose plain_transpose
#define extent_of plain_extent_of
#endif

#if defined EMULATED_TWINS
#define twins_of plain_twins_of
#define first_of plain_first_of
#define second_of plain_second_of
#define add_twin_pairs plain_add_twin_pairs
#define clip_twins plain_clip_twins
#define rows_of plain_rows_of
#define column_twins plain_column_twins
#define parts plain_parts
#define look_up plain_look_up
#endif

/* Whether every primitive gives what its plain C does, of fixed numbers: 0, or the number of the first that does not. */
#define TRIED 42
#define TRY(way, to)                                                                                                       \
    to[0] = way##load_shorts((const int16_t *)in);                                                                         \
    to[1] = way##clip(a, -(1 << 20), (1 << 24) + 5);                                                                       \
    to[2] = way##shift_right(a, turn & 31);                                                                                \
    way##store_shorts((int16_t *)(to + 3), a >> turn, -100 * turn, 32767);                                                 \
    to[4] = way##add_pairs(a >> 8, (lanes)((shorts)b >> 1), c);                                                            \
    to[5] = way##add_fours(a >> 8, b, c);                                                                                  \
    to[6] = (lanes)way##byte_products((lanes)((bytes)b >> 2), c);                                                          \
    to[7] = way##add_shorts(a >> 8, (shorts)b);                                                                            \
    way##store_bytes((uint8_t *)(to + 8), small);                                                                          \
    to[9] = way##halves(a, b);                                                                                             \
    to[10] = way##pairs_of((const int16_t *)in, (const int16_t *)(in + 1));                                                \
    way##transpose(to + 11, rows);                                                                                         \
    all = way##extent_of((const int16_t *)in, 1 + turn % 50);                                                              \
    memcpy(to + 19, &all, sizeof all);                                                                                     \
    TRY_TWINS(way, to + 20)
#if defined TWINS
#define TRY_TWINS(way, to)                                                                                                 \
    twin = way##twins_of(a, b);                                                                                            \
    memcpy(to, &twin, sizeof twin);                                                                                        \
    twin = way##add_twin_pairs(twin >> 8, (twins){0} + c[0], twin);                                                        \
    memcpy(to + 2, &twin, sizeof twin);                                                                                    \
    twin = way##clip_twins(twin, -(1 << 20), (1 << 24) + 5);                                                               \
    memcpy(to + 4, &twin, sizeof twin);                                                                                    \
    twin = way##rows_of(byte, at);                                                                                         \
    memcpy(to + 6, &twin, sizeof twin);                                                                                    \
    for (int k = 0; k < 4; k++)                                                                                            \
        (twin = way##column_twins(way##rows_of(byte, at), k)), memcpy(to + 8 + 2 * k, &twin, sizeof twin);                 \
    twin = way##parts(way##twins_of(b, a) >> 8);                                                                           \
    memcpy(to + 16, &twin, sizeof twin);                                                                                   \
    way##look_up((int16_t *)((to) + 18), many, table);
#else
#define TRY_TWINS(way, to)
#endif
int32_t vectors_agree(void) {
    uint32_t seed = 1;
    for (int turn = 0; turn < 64; turn++) {
        lanes in[4], got[TRIED] = {0}, wanted[TRIED] = {0};
        extent all;
        int16_t small[4 * LANES];
        uint8_t *byte = (uint8_t *)in;
        for (size_t k = 0; k < sizeof in; k++) { /* both ends of every type first */
            seed = seed * 1664525 + 1013904223;
            byte[k] = (uint8_t)(turn ? seed >> 24 : 127 + (seed >> 31));
        }
        const uint8_t *rows[LANES];
        for (int k = 0; k < LANES; k++)
            rows[k] = byte + 9 * k;
        for (int k = 0; k < 4 * LANES; k++)
            small[k] = (int8_t)byte[k];
#if defined TWINS
        twins twin;
        int32_t at[LANES];
        int8_t table[32 * LANES] __attribute__((aligned(64)));
        int16_t many[8 * LANES];
        for (int k = 0; k < LANES; k++)
            at[k] = 9 * k;
        for (int k = 0; k < 8 * LANES; k++)
            many[k] = (int16_t)(8 * turn + k - 128);
        for (int k = 0; k < 32 * LANES; k++)
            table[k] = (int8_t)(byte[k % 128] + k);
#endif
        const lanes a = in[1], b = in[2], c = in[3];
        TRY(, got)
        TRY(plain_, wanted)
        for (int k = 0; k < TRIED; k++)
            if (memcmp(got + k, wanted + k, sizeof *got))
                return k + 1;
    }
    return 0;
}
