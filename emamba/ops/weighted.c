/* FAST_DOT is a target's own instructions for it, or nothing. */
INLINE sum dot(sum acc, const weight_t *weight, const in0 *x) {
    FAST_DOT
    LANE_LOOP
    for (int d = 0; d < DEPTH; d++)
        acc += (sum)weight[d] * x[d];
    return acc;
}

/* weight [blocks of LANES outputs][blocks of DEPTH inputs][LANES][DEPTH], filled up with zeros; bias and multiplier
   [blocks][LANES]. The sums of TOKENS tokens and LANES outputs stay in registers; inputs and tokens beyond the last fill the last
   block up, and the buffers have room for them. */
OPERATOR void linear(const node *n) {
    const format o = n->o;
    const bias_t *bias = n->bias;
    const multiplier_t *multiplier = n->multiplier;
    for (place t = 0; t < n->tokens; t += TOKENS) {
        const weight_t *weight = n->weight;
        for (place first = 0; first < n->out; first += LANES) {
            const in0 *x = (const in0 *)n->x[0] + t * n->in;
            sum acc[TOKENS][LANES];
            for (int j = 0; j < TOKENS; j++)
                LANE_LOOP
                for (int k = 0; k < LANES; k++)
                    acc[j][k] = bias[first + k];
            for (place i = 0; i < n->in; i += DEPTH, x += DEPTH, weight += LANES * DEPTH)
                for (int j = 0; j < TOKENS; j++)
                    LANE_LOOP
                    for (int k = 0; k < LANES; k++)
                        acc[j][k] = dot(acc[j][k], weight + k * DEPTH, x + j * n->in);
            const place lanes = n->out - first < LANES ? n->out - first : LANES;
            for (int j = 0; j < TOKENS; j++) {
                value *y = (value *)n->y + (t + j) * n->out + first;
                if (n->out % LANES == 0 || lanes == LANES) {
                    LANE_LOOP
                    for (int k = 0; k < LANES; k++)
                        y[k] = (value)requantize_sum(SCALED ? acc[j][k] * (sum)multiplier[first + k] : acc[j][k], o);
                } else
                    for (place k = 0; k < lanes; k++)
                        y[k] = (value)requantize_sum(SCALED ? acc[j][k] * (sum)multiplier[first + k] : acc[j][k], o);
            }
        }
    }
}

/* weight [taps][out], the last tap on the current token; scratch [out]; kept [taps - 1][out]: the tokens before the first one;
   `block` channels at a time */
OPERATOR void conv1d(const node *n) {
    const place width = n->out, before = n->taps - 1;
    const in0 *x = n->x[0];
    const bias_t *bias = n->bias;
    const multiplier_t *multiplier = n->multiplier;
    value *y = n->y;
    in0 *kept = n->kept;
    sum *restrict acc = n->scratch;
    const format o = n->o;
    for (place t = 0; t < n->tokens; t++, y += width)
        for (place first = 0; first < width; first += n->block) {
            const place end = first + n->block;
            for (place k = first; k < end; k++)
                acc[k] = bias[k];
            LANE_LOOP
            for (place age = 0; age < n->taps; age++) {
                const weight_t *weight = (const weight_t *)n->weight + (before - age) * width;
                const in0 *token = age <= t ? x + (t - age) * width : kept + (before + t - age) * width;
                for (place k = first; k < end; k++)
                    acc[k] += (sum)weight[k] * token[k];
            }
            for (place k = first; k < end; k++)
                y[k] = (value)requantize_sum(SCALED ? acc[k] * (sum)multiplier[k] : acc[k], o);
        }
    const place old = n->tokens < before ? before - n->tokens : 0;
    memmove(kept, kept + (before - old) * width, (size_t)(old * width) * sizeof *kept);
    memcpy(kept + old * width, x + (n->tokens - before + old) * width, (size_t)((before - old) * width) * sizeof *kept);
}
