/* left[0]: the filter's shift; kept [out + 1]: the state, and whether there is one */
void smooth(const node *n) {
    const value *x = n->x[0];
    value *y = n->y;
    sum *restrict state = n->kept;
    const format o = n->o;
    for (long t = 0; t < n->tokens; t++, x += n->out, y += n->out, state[n->out] = 1)
        for (long k = 0; k < n->out; k++) {
            state[k] = state[n->out] ? state[k] + x[k] - round_sum(state[k], o) : (sum)x[k] << n->left[0];
            y[k] = round_sum(state[k], o);
        }
}
