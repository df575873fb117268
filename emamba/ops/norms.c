/* Each token has `group` parts that are normed apart. table [2^index_bits]: reciprocals of a range of `bits` bits */
OPERATOR void range_norm(const node *n) {
    const entry *table = n->table;
    const place width = n->out / n->group;
    const in0 *x = n->x[0];
    value *restrict y = n->y;
    const format o = n->o;
    for (place t = 0; t < n->tokens * n->group; t++, x += width, y += width) {
        sum total = 0, low = x[0], high = x[0];
        for (place k = 0; k < width; k++) {
            total += x[k];
            low = x[k] < low ? x[k] : low;
            high = x[k] > high ? x[k] : high;
        }
        const int64_t span = (int64_t)high - low;
        const int zeros = span ? (int)n->bits - length_of((uint64_t)span) : 0;
        const int64_t index = ((span << zeros) >> (n->bits - 1 - n->index_bits)) & (((int64_t)1 << n->index_bits) - 1);
        const sum factor = left_sum(table[index], zeros);
        for (place k = 0; k < width; k++)
            y[k] = (value)requantize_sum(((sum)width * x[k] - total) * factor, o);
    }
}

/* The same of squares: table [2][2^index_bits] of the square root of a reciprocal. */
INLINE void root_norm(const node *n, int centered) {
    const entry *table = n->table;
    const place width = n->out / n->group;
    const in0 *x = n->x[0];
    value *restrict y = n->y;
    const format o = n->o;
    for (place t = 0; t < n->tokens * n->group; t++, x += width, y += width) {
        wide total = 0, spread = n->epsilon;
        for (place k = 0; k < width; k++) {
            total += x[k];
            spread += (wide)x[k] * x[k];
        }
        if (centered)
            spread = width * spread - total * total;
        const int zeros = spread ? (int)n->bits - length_of((uint64_t)spread) : 0;
        const int64_t index = (int64_t)(((uint64_t)spread << zeros) >> (n->bits - 1 - n->index_bits)) & (((int64_t)1 << n->index_bits) - 1);
        const sum factor = table[((int64_t)(zeros & 1) << n->index_bits) | index];
        for (place k = 0; k < width; k++) {
            const sum deviation = centered ? (sum)width * x[k] - (sum)total : (sum)x[k];
            y[k] = (value)requantize_sum(left_sum(deviation, zeros >> 1) * factor, o);
        }
    }
}

OPERATOR void layer_norm(const node *n) { root_norm(n, 1); }
OPERATOR void rms_norm(const node *n) { root_norm(n, 0); }
