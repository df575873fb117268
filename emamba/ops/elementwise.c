void multiply(const node *n) {
    const format o = n->o;
    for (long k = 0; k < n->tokens * n->out; k++)
        n->y[k] = requantize_sum((sum)n->x[0][k] * n->x[1][k], o);
}

void add(const node *n) {
    const format o = n->o;
    for (long k = 0; k < n->tokens * n->out; k++)
        n->y[k] = requantize_sum(((sum)n->x[0][k] << n->left[0]) + ((sum)n->x[1][k] << n->left[1]), o);
}
