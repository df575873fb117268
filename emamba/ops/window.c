/* table [tokens][taps] of int64_t: the input's token under each tap; beyond the last one it is zeros */
void window(const node *n) {
    const int64_t *table = n->table;
    value *y = n->y;
    for (long k = 0; k < n->tokens * n->taps; k++, y += n->in) {
        if (table[k] < n->rows)
            memcpy(y, n->x[0] + table[k] * n->in, n->in * sizeof(value));
        else
            memset(y, 0, n->in * sizeof(value));
    }
}
