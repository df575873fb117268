/* left[0]: the filter's shift; scratch [out]: the state */
void smooth(const node *n) {
    const value *x = n->x[0];
    value *y = n->y;
    sum *restrict state = n->scratch;
    const format o = n->o;
    for (long t = 0; t < n->tokens; t++, x += n->out, y += n->out)
        for (long k = 0; k < n->out; k++) {
            state[k] = t ? state[k] + x[k] - round_sum(state[k], o) : (sum)x[k] << n->left[0];
            y[k] = round_sum(state[k], o);
        }
}
