/* table of values, one for each input code from `least` on */
void activation(const node *n) {
    const value *table = n->table;
    for (long k = 0; k < n->tokens * n->out; k++)
        n->y[k] = table[n->x[0][k] - n->least];
}
