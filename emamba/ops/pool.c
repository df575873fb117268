/* The last token that is given. */
OPERATOR void pool_last(const node *n) {
    memcpy(n->y, (const in0 *)n->x[0] + (n->given - 1) * n->out, (size_t)n->out * sizeof(value));
}

/* rows: tokens of a mean; multiplier [1]; kept [out + 1]: their sums, and how many there are; y is written with the last one */
OPERATOR void pool_mean(const node *n) {
    const format o = n->o;
    const in0 *x = n->x[0];
    const sum multiplier = *(const multiplier_t *)n->multiplier;
    value *y = n->y;
    sum *restrict acc = n->kept;
    for (place t = 0; t < n->given; t++, x += n->out)
        for (place k = 0; k < n->out; k++)
            acc[k] += x[k];
    acc[n->out] += (sum)n->given;
    if (acc[n->out] < n->rows)
        return;
    for (place k = 0; k < n->out; k++) {
        y[k] = (value)requantize_sum(acc[k] * multiplier, o);
        acc[k] = 0;
    }
    acc[n->out] = 0;
}
