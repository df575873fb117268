/* left[0]: the filter's shift; kept [out + 1]: the state, and whether there is one */
OPERATOR void smooth(const node *n) {
    const in0 *x = n->x[0];
    value *y = n->y;
    sum *restrict kept = n->kept;
    const format o = n->o;
    for (place t = 0; t < n->tokens; t++, x += n->out, y += n->out, kept[n->out] = 1)
        for (place k = 0; k < n->out; k++) {
            kept[k] = kept[n->out] ? kept[k] + x[k] - round_sum(kept[k], o) : left_sum(x[k], n->left[0]);
            y[k] = (value)round_sum(kept[k], o);
        }
}
