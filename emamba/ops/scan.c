/* table [codes of δ from `least` on][out][STATES] of states: Ā; or where there are `rates` [out][STATES], A, it is Ā of every
   `argument`, δ·A in its format, and `held` the Ā of δ = 0; direct [out]: D at y's scale; kept,
   start [out][STATES]: h, and h before the first token.
   δ·u (or δ for delta_b) is `factor`; `gain` is u at the state's scale. */
static inline void scan(const node *n, int delta_b) {
    const state *table = n->table, *rates = n->rates;
    const value *u = n->x[0], *dt = n->x[1], *B = n->x[2], *C = n->x[3];
    value *restrict y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    for (long t = 0; t < n->tokens; t++, u += n->out, dt += n->out, y += n->out, B += STATES, C += STATES) {
        state b[STATES], c[STATES], *restrict h = n->kept;
        for (int s = 0; s < STATES; s++) {
            b[s] = B[s];
            c[s] = C[s];
        }
        for (long k = 0; k < n->out; k++, h += STATES) {
            state computed[STATES];
            const state *restrict decay = computed;
            if (rates)
                for (int s = 0; s < STATES; s++)
                    computed[s] = dt[k] ? table[requantize_state(dt[k] * rates[k * STATES + s], n->argument) - n->least] : n->held;
            else
                decay = table + ((dt[k] - n->least) * n->out + k) * STATES;
            const state factor = delta_b ? dt[k] : (state)dt[k] * u[k], gain = (state)u[k] << n->left[0];
            wide acc = n->direct[k] * u[k];
            LANE_LOOP
            for (int s = 0; s < STATES; s++) {
                state term = round_state(factor * b[s], to_term);
                if (delta_b)
                    term = saturate_state(term, to_term) * gain;
                state h_wide = saturate_state(decay[s] * h[s] + term, to_h_wide);
                acc += (wide)h_wide * c[s];
                h[s] = requantize_state(h_wide, to_h);
            }
            y[k] = requantize_wide(acc, o);
        }
    }
}

void scan_delta_u(const node *n) { scan(n, 0); }
void scan_delta_b(const node *n) { scan(n, 1); }
