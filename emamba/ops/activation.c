/* table of values, one for each input code from `least` on */
OPERATOR void activation(const node *n) {
    const value *table = n->table;
    const in0 *x = n->x[0];
    value *y = n->y;
    for (place k = 0; k < n->tokens * n->out; k++)
        y[k] = table[x[k] - n->least];
}
