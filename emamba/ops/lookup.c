/* table [rows][out] of values */
OPERATOR void lookup(const node *n) {
    const value *table = n->table;
    const in0 *x = n->x[0];
    value *y = n->y;
    for (place t = 0; t < n->tokens; t++, y += n->out) {
        const place row = x[t] < n->rows ? (place)x[t] : n->rows - 1;
        memcpy(y, table + row * n->out, (size_t)n->out * sizeof *y);
    }
}
