/* Operators in vectors of LANES numbers, beside the plain ones and equal to them (emamba/run/lanes.py says where). Each has the
   instructions of AVX2 where the machine has them, else what the compiler makes of vectors. Values have 16 bits but in `linear`,
   sums 32. Arrays go on for LANES elements beyond their end: what is read there is not used. */
typedef int32_t lanes __attribute__((vector_size(4 * LANES)));

#define UNROLL _Pragma("GCC unroll 8")
#if defined __AVX2__
#include <immintrin.h>
#endif

INLINE lanes load(const int32_t *x) {
    lanes y;
    memcpy(&y, x, sizeof y);
    return y;
}

INLINE lanes load_values(const value *x) {
#if defined __AVX2__
    if (sizeof(value) == 2)
        return (lanes)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)x));
#endif
    lanes y;
    for (int k = 0; k < LANES; k++)
        y[k] = (int32_t)x[k];
    return y;
}

INLINE lanes clip(lanes x, format f) {
#if defined __AVX2__
    const __m256i low = _mm256_set1_epi32((int32_t)f.low), high = _mm256_set1_epi32((int32_t)f.high);
    return (lanes)_mm256_max_epi32(_mm256_min_epi32((__m256i)x, high), low);
#else
    for (int k = 0; k < LANES; k++)
        x[k] = saturate_sum(x[k], f);
    return x;
#endif
}

INLINE lanes right(lanes x, int64_t bits) {
#if defined __AVX2__
    return (lanes)_mm256_sra_epi32((__m256i)x, _mm_cvtsi32_si128((int32_t)bits));
#else
    return x >> (int32_t)bits;
#endif
}

INLINE lanes requantize_lanes(lanes x, format f) {
    if (f.left)
        x <<= (int32_t)f.left;
    if (f.even)
        x += right(x, f.right) & (int32_t)f.even;
    return clip(right(x + (int32_t)f.half, f.right), f);
}

INLINE void store_values(value *y, lanes x, place count) {
#if defined __AVX2__
    if (sizeof(value) == 2 && count >= LANES) {
        const __m256i wide = (__m256i)x;
        _mm_storeu_si128((__m128i *)y, _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
        return;
    }
#endif
    for (int k = 0; k < LANES && k < count; k++)
        y[k] = (value)x[k];
}

/* Products of a pair of 16 bits with LANES pairs of weights. */
INLINE lanes add_pairs(lanes acc, const int16_t *weight, const int16_t *x) {
#if defined __AVX2__
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return acc + (lanes)_mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)weight), _mm256_set1_epi32(pair));
#else
    for (int k = 0; k < LANES; k++)
        acc[k] += (int32_t)weight[2 * k] * x[0] + (int32_t)weight[2 * k + 1] * x[1];
    return acc;
#endif
}

/* `count` tokens of `linear_lanes` from x on. */
INLINE void linear_tokens(const node *n, const int16_t *x, value *y, const int count) {
    const format o = n->o;
    const int16_t *weight = n->weight;
    const int32_t *bias = n->bias;
    for (place first = 0; first < n->out; first += LANES) {
        lanes acc[TOKENS];
        UNROLL
        for (int j = 0; j < count; j++)
            acc[j] = load(bias + first);
        for (place i = 0; i < n->in; i += 2, weight += 2 * LANES)
            UNROLL
            for (int j = 0; j < count; j++)
                acc[j] = add_pairs(acc[j], weight, x + j * n->in + i);
        UNROLL
        for (int j = 0; j < count; j++)
            store_values(y + j * n->out + first, requantize_lanes(acc[j], o), n->out - first);
    }
}

/* As `linear`, with weight [blocks of LANES outputs][pairs of inputs][LANES][2]; the weights of an input beyond the last are 0.
   scratch [TOKENS][in], where values are wider, is for inputs of 16 bits. */
void linear_lanes(const node *n) {
    for (place t = 0; t < n->tokens; t += TOKENS) {
        const value *from = (const value *)n->x[0] + t * n->in;
        const int16_t *x = (const int16_t *)from;
        if (sizeof(value) != 2) {
            int16_t *packed = n->scratch;
            for (place i = 0; i < TOKENS * n->in; i++)
                packed[i] = (int16_t)from[i];
            x = packed;
        }
        if (n->tokens - t == 1)
            linear_tokens(n, x, (value *)n->y + t * n->out, 1);
        else
            linear_tokens(n, x, (value *)n->y + t * n->out, TOKENS);
    }
}

/* Pairs of the values of two tokens, of LANES channels. */
INLINE lanes pairs_of(const value *x, const value *y) {
#if defined __AVX2__
    if (sizeof(value) == 2) {
        const __m128i a = _mm_loadu_si128((const __m128i *)x), b = _mm_loadu_si128((const __m128i *)y);
        return (lanes)_mm256_setr_m128i(_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
    }
#endif
    lanes pairs;
    for (int k = 0; k < LANES; k++)
        pairs[k] = (int32_t)((uint32_t)(uint16_t)x[k] | (uint32_t)(uint16_t)y[k] << 16);
    return pairs;
}

/* Σ of the two products of 16 bits in every lane. */
INLINE lanes products(lanes x, lanes y) {
#if defined __AVX2__
    return (lanes)_mm256_madd_epi16((__m256i)x, (__m256i)y);
#else
    for (int k = 0; k < LANES; k++)
        x[k] = (int16_t)x[k] * (int16_t)y[k] + (x[k] >> 16) * (y[k] >> 16);
    return x;
#endif
}

/* As `conv1d`, with weight [pairs of taps][block][2], the current token first, where `block` is `out` rounded up to LANES. */
void conv1d_lanes(const node *n) {
    const place width = n->out, before = n->taps - 1;
    const value *x = n->x[0];
    const int32_t *bias = n->bias, *weight = n->weight;
    value *y = n->y, *kept = n->kept;
    const format o = n->o;
    for (place t = 0; t < n->tokens; t++, y += width)
        for (place first = 0; first < width; first += LANES) {
            lanes acc = load(bias + first);
            for (place age = 0; age <= before; age += 2) {
                const place last = age < before ? age + 1 : age; /* without a weight where there is one tap more */
                const value *token = age <= t ? x + (t - age) * width : kept + (before + t - age) * width;
                const value *earlier = last <= t ? x + (t - last) * width : kept + (before + t - last) * width;
                acc += products(pairs_of(token + first, earlier + first), load(weight + age / 2 * n->block + first));
            }
            store_values(y + first, requantize_lanes(acc, o), LANES);
        }
    const place old = n->tokens < before ? before - n->tokens : 0;
    memmove(kept, kept + (before - old) * width, (size_t)(old * width) * sizeof *kept);
    memcpy(kept + old * width, x + (n->tokens - before + old) * width, (size_t)((before - old) * width) * sizeof *kept);
}

/* Ā of 8 states and LANES channels: to[state][channel] from row[channel][state]. */
INLINE void transpose(uint8_t *to, const uint8_t *const *row) {
#if defined __AVX2__
    __m128i pair[4], four[4];
    UNROLL
    for (int k = 0; k < 4; k++)
        pair[k] = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)row[2 * k]), _mm_loadl_epi64((const __m128i *)row[2 * k + 1]));
    four[0] = _mm_unpacklo_epi16(pair[0], pair[1]);
    four[1] = _mm_unpackhi_epi16(pair[0], pair[1]);
    four[2] = _mm_unpacklo_epi16(pair[2], pair[3]);
    four[3] = _mm_unpackhi_epi16(pair[2], pair[3]);
    UNROLL
    for (int k = 0; k < 2; k++) {
        _mm_storeu_si128((__m128i *)(to + 32 * k), _mm_unpacklo_epi32(four[k], four[k + 2]));
        _mm_storeu_si128((__m128i *)(to + 32 * k + 16), _mm_unpackhi_epi32(four[k], four[k + 2]));
    }
#else
    for (int s = 0; s < 8; s++)
        for (int k = 0; k < LANES; k++)
            to[s * LANES + k] = row[k][s];
#endif
}

INLINE lanes load_bytes(const uint8_t *x) {
#if defined __AVX2__
    return (lanes)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)x));
#else
    lanes y;
    for (int k = 0; k < LANES; k++)
        y[k] = x[k];
    return y;
#endif
}

/* As `scan_delta_u`, channels side by side: table [codes][block][STATES] of bytes, with `block` as above; h, kept and start,
   [blocks][STATES][LANES]; direct and bias [block]: upper bits and lower LOW bits of D at y's scale. y's sum is `high`·2^LOW + `low`.
   δ·u has 16 bits where `narrow` says so; `checked` is 0 where no state can saturate. */
#define LOW 8
INLINE void scan_in_lanes(const node *n, const int narrow, const int checked) {
    const uint8_t *table = n->table;
    const int32_t *direct = n->direct, *direct_low = n->bias;
    const value *u = n->x[0], *dt = n->x[1], *B = n->x[2], *C = n->x[3];
    value *y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    for (place t = 0; t < n->tokens; t++, u += n->out, dt += n->out, y += n->out, B += STATES, C += STATES) {
        int32_t *state = n->kept;
        lanes b[STATES], c[STATES];
        for (int s = 0; s < STATES; s++) { /* the upper half of a lane is 0, so that it adds nothing to `products` */
            b[s] = (lanes){0} + (narrow ? (int32_t)(uint16_t)B[s] : (int32_t)B[s]);
            c[s] = (lanes){0} + (int32_t)(uint16_t)C[s];
        }
        for (place first = 0; first < n->out; first += LANES) {
            const lanes drive = load_values(u + first), factor = (load_values(dt + first) * drive) << (int32_t)to_term.left;
            lanes high = load(direct + first) * drive, low = load(direct_low + first) * drive;
            const uint8_t *row[LANES];
            UNROLL
            for (int k = 0; k < LANES; k++)
                row[k] = table + ((dt[first + k] - n->least) * n->block + first + k) * STATES;
            for (int s = 0; s < STATES; s += 8) {
                uint8_t decay[8 * LANES];
                transpose(decay, row);
                UNROLL
                for (int k = 0; k < LANES; k++)
                    row[k] += 8;
                UNROLL
                for (int j = 0; j < 8; j++, state += LANES) {
                    const lanes driven = narrow ? products(factor, b[s + j]) : factor * b[s + j];
                    lanes wide = load_bytes(decay + j * LANES) * load(state) + right(driven + (int32_t)to_term.half, to_term.right);
                    wide = checked ? clip(wide, to_h_wide) : wide;
                    lanes h = right(wide + (int32_t)to_h.half, to_h.right);
                    h = checked ? clip(h, to_h) : h;
                    high += products(wide >> LOW, c[s + j]);
                    low += products(wide & ((1 << LOW) - 1), c[s + j]);
                    memcpy(state, &h, sizeof h);
                }
            }
            store_values(y + first, clip(right(high + ((low + (int32_t)o.half) >> LOW), o.right - LOW), o), LANES);
        }
    }
}

void scan_lanes(const node *n) { scan_in_lanes(n, 0, 1); }
void scan_lanes_narrow(const node *n) { scan_in_lanes(n, 1, 1); }
void scan_lanes_certified(const node *n) { scan_in_lanes(n, 0, 0); }
void scan_lanes_narrow_certified(const node *n) { scan_in_lanes(n, 1, 0); }
