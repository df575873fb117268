/* x [rows][out] */
OPERATOR void reverse(const node *n) {
    value *y = n->y;
    for (place t = n->at; t < n->at + n->tokens; t++, y += n->out)
        memcpy(y, (const in0 *)n->x[0] + (n->rows - 1 - t) * n->out, (size_t)n->out * sizeof *y);
}
