/* weight [blocks of LANES outputs][in][LANES]; bias and multiplier [blocks][LANES]. The sums of TOKENS tokens and LANES outputs
   stay in registers; tokens beyond the sequence fill the last block up, and the buffers have room for them. */
void linear(const node *n) {
    const format o = n->o;
    for (long t = 0; t < n->tokens; t += TOKENS) {
        const sum *weight = n->weight;
        for (long first = 0; first < n->out; first += LANES) {
            const value *x = n->x[0] + t * n->in;
            sum acc[TOKENS][LANES];
            for (int j = 0; j < TOKENS; j++)
                memcpy(acc[j], n->bias + first, sizeof acc[j]);
            for (long i = 0; i < n->in; i++, x++, weight += LANES)
                for (int j = 0; j < TOKENS; j++)
                    LANE_LOOP
                    for (int k = 0; k < LANES; k++)
                        acc[j][k] += weight[k] * x[j * n->in];
            long lanes = n->out - first < LANES ? n->out - first : LANES;
            for (int j = 0; j < TOKENS; j++) {
                value *y = n->y + (t + j) * n->out + first;
                for (long k = 0; k < lanes; k++)
                    y[k] = requantize_sum(acc[j][k] * n->multiplier[first + k], o);
            }
        }
    }
}

/* weight [taps][out], the last tap on the current token; scratch [out]; kept [taps - 1][out]: the tokens before the first one */
void conv1d(const node *n) {
    const long width = n->out;
    const value *x = n->x[0];
    value *y = n->y, *kept = n->kept;
    sum *restrict acc = n->scratch;
    const format o = n->o;
    const long before = n->taps - 1;
    for (long t = 0; t < n->tokens; t++, y += width) {
        memcpy(acc, n->bias, width * sizeof *acc);
        for (long age = 0; age < n->taps; age++) {
            const sum *weight = n->weight + (before - age) * width;
            const value *token = age <= t ? x + (t - age) * width : kept + (before + t - age) * width;
            for (long k = 0; k < width; k++)
                acc[k] += weight[k] * token[k];
        }
        for (long k = 0; k < width; k++)
            y[k] = requantize_sum(acc[k] * n->multiplier[k], o);
    }
    const long old = n->tokens < before ? before - n->tokens : 0;
    memmove(kept, kept + (before - old) * width, old * width * sizeof *kept);
    memcpy(kept + old * width, x + (n->tokens - before + old) * width, (before - old) * width * sizeof *kept);
}
