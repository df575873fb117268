OPERATOR void multiply(const node *n) {
    const in0 *a = n->x[0];
    const in1 *b = n->x[1];
    value *y = n->y;
    const format o = n->o;
    for (place k = 0; k < n->tokens * n->out; k++)
        y[k] = (value)requantize_sum((sum)a[k] * b[k], o);
}

OPERATOR void add(const node *n) {
    const in0 *a = n->x[0];
    const in1 *b = n->x[1];
    value *y = n->y;
    const format o = n->o;
    for (place k = 0; k < n->tokens * n->out; k++)
        y[k] = (value)requantize_sum(left_sum(a[k], n->left[0]) + left_sum(b[k], n->left[1]), o);
}
