/* weight [taps][out]; scratch [out] */
void depthwise(const node *n) {
    const long width = n->out;
    const value *x = n->x[0];
    value *y = n->y;
    sum *restrict acc = n->scratch;
    const format o = n->o;
    for (long t = 0; t < n->tokens; t++, y += width) {
        const sum *weight = n->weight;
        memcpy(acc, n->bias, width * sizeof *acc);
        for (long tap = 0; tap < n->taps; tap++, weight += width, x += width)
            for (long k = 0; k < width; k++)
                acc[k] += weight[k] * x[k];
        for (long k = 0; k < width; k++)
            y[k] = requantize_sum(acc[k] * n->multiplier[k], o);
    }
}
