/* table [codes of p from `least` to 0]: e; weight [2^index_bits]: reciprocals of a Z of `bits` bits; multiplier [1]; term: p's
   format; heads of `head` channels; scratch [rows + head] of sums; inputs [rows][out] */
INLINE void attend(const node *n, int causal) {
    const entry *exponentials = n->table;
    const weight_t *reciprocals = n->weight;
    const sum multiplier = *(const multiplier_t *)n->multiplier;
    const place width = n->out, size = n->head;
    const format to_p = n->term, o = n->o;
    value *y = n->y;
    sum *restrict weight = n->scratch, *restrict acc = weight + n->rows;
    for (place t = n->at; t < n->at + n->tokens; t++, y += width)
        for (place first = 0; first < width; first += size) {
            const place keys = causal ? t + 1 : n->rows;
            const in0 *q = (const in0 *)n->x[0] + t * width + first;
            const in1 *k = (const in1 *)n->x[1] + first;
            const in2 *v = (const in2 *)n->x[2] + first;
            sum top = 0, total = 0;
            for (place j = 0; j < keys; j++, k += width) {
                sum score = 0;
                for (place c = 0; c < size; c++)
                    score += (sum)q[c] * k[c];
                weight[j] = score;
                top = !j || score > top ? score : top;
            }
            for (place c = 0; c < size; c++)
                acc[c] = 0;
            for (place j = 0; j < keys; j++, v += width) {
                const sum e = exponentials[requantize_sum((weight[j] - top) * multiplier, to_p) - n->least];
                total += e;
                for (place c = 0; c < size; c++)
                    acc[c] += e * v[c];
            }
            const int zeros = total ? (int)n->bits - length_of((uint64_t)total) : 0;
            const int64_t index = (((int64_t)total << zeros) >> (n->bits - 1 - n->index_bits)) & (((int64_t)1 << n->index_bits) - 1);
            const sum factor = left_sum(reciprocals[index], zeros);
            for (place c = 0; c < size; c++)
                y[first + c] = (value)requantize_sum(acc[c] * factor, o);
        }
}

OPERATOR void attention(const node *n) { attend(n, 0); }
OPERATOR void attention_causal(const node *n) { attend(n, 1); }
