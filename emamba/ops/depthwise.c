/* weight [taps][out]; scratch [out]; `block` channels at a time */
OPERATOR void depthwise(const node *n) {
    const place width = n->out;
    const in0 *x = n->x[0];
    const bias_t *bias = n->bias;
    const multiplier_t *multiplier = n->multiplier;
    value *y = n->y;
    sum *restrict acc = n->scratch;
    const format o = n->o;
    for (place t = 0; t < n->tokens; t++, x += n->taps * width, y += width)
        for (place first = 0; first < width; first += n->block) {
            const place end = first + n->block;
            for (place k = first; k < end; k++)
                acc[k] = bias[k];
            for (place tap = 0; tap < n->taps; tap++) {
                const weight_t *weight = (const weight_t *)n->weight + tap * width;
                for (place k = first; k < end; k++)
                    acc[k] += (sum)weight[k] * x[tap * width + k];
            }
            for (place k = first; k < end; k++)
                y[k] = (value)requantize_sum(SCALED ? acc[k] * (sum)multiplier[k] : acc[k], o);
        }
}
