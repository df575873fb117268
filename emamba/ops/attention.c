/* table [codes of p from `least` to 0] of sums: e; weight [2^index_bits]: reciprocals of a Z of `bits` bits; multiplier [1];
   term: p's format; heads of `head` channels; scratch [tokens + head] of sums */
static inline void attend(const node *n, int causal) {
    const sum *exponentials = n->table;
    const long width = n->out, size = n->head;
    const format to_p = n->term, o = n->o;
    sum *restrict weight = n->scratch, *restrict acc = weight + n->tokens;
    for (long t = 0; t < n->tokens; t++)
        for (long at = 0; at < width; at += size) {
            const long keys = causal ? t + 1 : n->tokens;
            const value *q = n->x[0] + t * width + at, *k = n->x[1] + at, *v = n->x[2] + at;
            sum top = 0, total = 0;
            for (long j = 0; j < keys; j++, k += width) {
                sum score = 0;
                for (long c = 0; c < size; c++)
                    score += (sum)q[c] * k[c];
                weight[j] = score;
                top = !j || score > top ? score : top;
            }
            memset(acc, 0, size * sizeof *acc);
            for (long j = 0; j < keys; j++, v += width) {
                const sum e = exponentials[requantize_sum((weight[j] - top) * n->multiplier[0], to_p) - n->least];
                total += e;
                for (long c = 0; c < size; c++)
                    acc[c] += e * v[c];
            }
            const int zeros = total ? (int)n->bits - (64 - __builtin_clzll(total)) : 0;
            const int64_t index = (((int64_t)total << zeros) >> (n->bits - 1 - n->index_bits)) & ((1 << n->index_bits) - 1);
            const sum factor = n->weight[index] << zeros;
            for (long c = 0; c < size; c++)
                n->y[t * width + at + c] = requantize_sum(acc[c] * factor, o);
        }
}

void attention(const node *n) { attend(n, 0); }
void attention_causal(const node *n) { attend(n, 1); }
