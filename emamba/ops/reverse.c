void reverse(const node *n) {
    for (long t = 0; t < n->tokens; t++)
        memcpy(n->y + t * n->out, n->x[0] + (n->tokens - 1 - t) * n->out, n->out * sizeof(value));
}
