/* x [rows][in]; table [...][taps]: the input's token under each tap of every output; beyond the last one it is zeros */
OPERATOR void window(const node *n) {
    const place_t *table = (const place_t *)n->table + n->at * n->taps;
    value *y = n->y;
    for (place k = 0; k < n->tokens * n->taps; k++, y += n->in) {
        if (table[k] < n->rows)
            memcpy(y, (const in0 *)n->x[0] + table[k] * n->in, (size_t)n->in * sizeof *y);
        else
            memset(y, 0, (size_t)n->in * sizeof *y);
    }
}
