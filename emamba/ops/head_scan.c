/* As `scan`, but: heads of `head` channels share a δ and an Ā, `group` channels a B and a C.
   table [codes of δ from `least` on][heads] of states: Ā, or with `rates` [heads] as in `scan` */
static inline void head_scan(const node *n, int delta_b) {
    const state *table = n->table, *rates = n->rates;
    const long heads = n->out / n->head, of_B = n->out / n->group * STATES;
    const value *u = n->x[0], *dt = n->x[1], *B = n->x[2], *C = n->x[3];
    value *restrict y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    for (long t = 0; t < n->tokens; t++, u += n->out, dt += heads, y += n->out, B += of_B, C += of_B) {
        state *restrict h = n->kept;
        for (long k = 0; k < n->out; k++, h += STATES) {
            const long head = k / n->head, first = k / n->group * STATES;
            const state decay = !rates ? table[(dt[head] - n->least) * heads + head]
                : dt[head] ? table[requantize_state(dt[head] * rates[head], n->argument) - n->least] : n->held;
            const state factor = delta_b ? dt[head] : (state)dt[head] * u[k], gain = (state)u[k] << n->left[0];
            wide acc = n->direct[k] * u[k];
            LANE_LOOP
            for (int s = 0; s < STATES; s++) {
                state term = round_state(factor * B[first + s], to_term);
                if (delta_b)
                    term = saturate_state(term, to_term) * gain;
                state h_wide = saturate_state(decay * h[s] + term, to_h_wide);
                acc += (wide)h_wide * C[first + s];
                h[s] = requantize_state(h_wide, to_h);
            }
            y[k] = requantize_wide(acc, o);
        }
    }
}

void head_scan_delta_u(const node *n) { head_scan(n, 0); }
void head_scan_delta_b(const node *n) { head_scan(n, 1); }
