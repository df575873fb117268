/* rows: tokens of the input */
void pool_last(const node *n) {
    memcpy(n->y, n->x[0] + (n->rows - 1) * n->out, n->out * sizeof(value));
}

/* rows: tokens of the input; multiplier [1]; scratch [out] */
void pool_mean(const node *n) {
    const format o = n->o;
    sum *restrict acc = n->scratch;
    memset(acc, 0, n->out * sizeof *acc);
    for (long t = 0; t < n->rows; t++)
        for (long k = 0; k < n->out; k++)
            acc[k] += n->x[0][t * n->out + k];
    for (long k = 0; k < n->out; k++)
        n->y[k] = requantize_sum(acc[k] * n->multiplier[0], o);
}
