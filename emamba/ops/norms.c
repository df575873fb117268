/* Each token has `group` parts that are normed apart. table [2^index_bits] of sums: reciprocals of a range of `bits` bits */
void range_norm(const node *n) {
    const sum *table = n->table;
    const long width = n->out / n->group;
    const value *x = n->x[0];
    value *restrict y = n->y;
    const format o = n->o;
    for (long t = 0; t < n->tokens * n->group; t++, x += width, y += width) {
        sum total = 0, low = x[0], high = x[0];
        for (long k = 0; k < width; k++) {
            total += x[k];
            low = x[k] < low ? x[k] : low;
            high = x[k] > high ? x[k] : high;
        }
        int64_t span = (int64_t)high - low;
        int zeros = span ? (int)n->bits - (64 - __builtin_clzll(span)) : 0;
        int64_t index = ((span << zeros) >> (n->bits - 1 - n->index_bits)) & ((1 << n->index_bits) - 1);
        sum factor = table[index] << zeros;
        for (long k = 0; k < width; k++)
            y[k] = requantize_sum(((sum)width * x[k] - total) * factor, o);
    }
}

/* The same of squares: table [2][2^index_bits] of the square root of a reciprocal; `least` is epsilon. */
static inline void root_norm(const node *n, int centered) {
    const sum *table = n->table;
    const long width = n->out / n->group;
    const value *x = n->x[0];
    value *restrict y = n->y;
    const format o = n->o;
    for (long t = 0; t < n->tokens * n->group; t++, x += width, y += width) {
        wide total = 0, spread = n->least;
        for (long k = 0; k < width; k++) {
            total += x[k];
            spread += (wide)x[k] * x[k];
        }
        if (centered)
            spread = width * spread - total * total;
        int zeros = spread ? (int)n->bits - (64 - __builtin_clzll(spread)) : 0;
        int64_t index = ((spread << zeros) >> (n->bits - 1 - n->index_bits)) & ((1 << n->index_bits) - 1);
        sum entry = table[((zeros & 1) << n->index_bits) | index];
        for (long k = 0; k < width; k++) {
            sum deviation = centered ? (sum)width * x[k] - (sum)total : x[k];
            y[k] = requantize_sum((deviation << (zeros >> 1)) * entry, o);
        }
    }
}

void layer_norm(const node *n) { root_norm(n, 1); }
void rms_norm(const node *n) { root_norm(n, 0); }
