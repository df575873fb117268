/* A Linear whose inputs and weights have 16 bits, by products of pairs: as `linear`, with weight [blocks of LANES outputs][pairs of
   inputs][LANES][2]. scratch [TOKENS][in, rounded up to 2] is for the inputs;
   multiplier is 0 where all are 1. */
typedef int32_t packed_lanes __attribute__((vector_size(4 * LANES)));

#if defined __AVX2__
#include <immintrin.h>
#endif

INLINE packed_lanes add_pairs(packed_lanes acc, const int16_t *weight, const int16_t *x) {
#if defined __AVX2__
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    const __m256i products = _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)weight), _mm256_set1_epi32(pair));
    return acc + (packed_lanes)products;
#else
    for (int k = 0; k < LANES; k++)
        acc[k] += (int32_t)weight[2 * k] * x[0] + (int32_t)weight[2 * k + 1] * x[1];
    return acc;
#endif
}

void linear_packed(const node *n) {
    const format o = n->o;
    const sum *bias = n->bias, *multiplier = n->multiplier;
    const place width = n->in + n->in % 2;
    for (place t = 0; t < n->tokens; t += TOKENS) {
        const int16_t *weight = n->weight;
        int16_t *restrict packed = n->scratch;
        const value *from = (const value *)n->x[0] + t * n->in;
        if (width == n->in)
            for (place i = 0; i < TOKENS * width; i++)
                packed[i] = (int16_t)from[i];
        else
            for (int j = 0; j < TOKENS; j++)
                for (place i = 0; i < n->in; i++)
                    packed[j * width + i] = (int16_t)from[j * n->in + i];
        for (place first = 0; first < n->out; first += LANES) {
            const int16_t *x = packed;
            packed_lanes acc[TOKENS];
            for (int j = 0; j < TOKENS; j++)
                memcpy(acc + j, bias + first, sizeof acc[j]);
            for (place i = 0; i < n->in; i += 2, x += 2, weight += 2 * LANES)
                for (int j = 0; j < TOKENS; j++)
                    acc[j] = add_pairs(acc[j], weight, x + j * width);
            const place lanes = n->out - first < LANES ? n->out - first : LANES;
            for (int j = 0; j < TOKENS; j++) {
                value *y = (value *)n->y + (t + j) * n->out + first;
                sum done[LANES];
                memcpy(done, acc + j, sizeof done);
                if (multiplier)
                    LANE_LOOP
                    for (int k = 0; k < LANES; k++)
                        done[k] *= multiplier[first + k];
                LANE_LOOP
                for (int k = 0; k < LANES; k++)
                    done[k] = requantize_sum(done[k], o);
                if (lanes == LANES)
                    memcpy(y, done, sizeof done);
                else
                    for (place k = 0; k < lanes; k++)
                        y[k] = (value)done[k];
            }
        }
    }
}
