/* As `scan`, but: heads of `head` channels share a δ and an Ā, `group` channels a B and a C.
   table [codes of δ from `least` on][heads]: Ā, or with `rates` [heads] as in `scan` */
INLINE void head_scan(const node *n, int delta_b) {
    const decay_t *table = n->table;
    const rate_t *rates = n->rates;
    const direct_t *direct = n->direct;
    const place heads = n->out / n->head, of_B = n->out / n->group * STATES;
    const in0 *u = n->x[0];
    const in1 *dt = n->x[1];
    const in2 *B = n->x[2];
    const in3 *C = n->x[3];
    value *restrict y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    for (place t = 0; t < n->tokens; t++, u += n->out, dt += heads, y += n->out, B += of_B, C += of_B) {
        kept_t *restrict h = n->kept;
        for (place k = 0; k < n->out; k++, h += STATES) {
            const place head = k / n->head, first = k / n->group * STATES;
            const state decay = !rates ? (state)table[(dt[head] - n->least) * heads + head]
                : n->held >= 0 && !dt[head] ? (state)n->held
                : (state)table[requantize_state(dt[head] * (state)rates[head], n->argument) - n->least];
            const state factor = delta_b ? (state)dt[head] : (state)dt[head] * u[k], gain = left_state(u[k], n->left[0]);
            wide acc = (wide)direct[k] * u[k];
            LANE_LOOP
            for (int s = 0; s < STATES; s++) {
                state term = round_state(factor * B[first + s], to_term);
                if (delta_b)
                    term = saturate_state(term, to_term) * gain;
                const state h_wide = saturate_state(decay * (state)h[s] + term, to_h_wide);
                acc += (wide)h_wide * C[first + s];
                h[s] = (kept_t)requantize_state(h_wide, to_h);
            }
            y[k] = (value)requantize_wide(acc, o);
        }
    }
}

OPERATOR void head_scan_delta_u(const node *n) { head_scan(n, 0); }
OPERATOR void head_scan_delta_b(const node *n) { head_scan(n, 1); }
