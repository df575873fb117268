/* The state of a channel: STATES numbers; where PACKED, its upper bits, and after them the lower 8, two a number. */
INLINE state state_of(const kept_t *h, int s) {
    return PACKED ? left_state(h[s], 8) | ((const uint8_t *)(h + STATES))[s] : (state)h[s];
}

INLINE void keep(kept_t *h, int s, state x) {
    if (PACKED)
        ((uint8_t *)(h + STATES))[s] = (uint8_t)x;
    h[s] = (kept_t)(PACKED ? x >> 8 : x);
}

/* Ā of one δ·A. Where BLOCKED, an entry is of 2^bits arguments: Ā of the first one, and from which one on it is 1 more. */
INLINE state decay_of(const node *n, const rate_t *rates, state delta) {
    const decay_t *table = n->table;
    if (!delta)
        return (state)n->held;
    const state at = requantize_state(delta * (state)*rates, n->argument) - (state)n->least;
    if (!BLOCKED)
        return table[at];
    const state entry = table[at >> n->bits];
    return (entry & 255) + ((at & (((state)1 << n->bits) - 1)) >= entry >> 8);
}

/* table [codes of δ from `least` on][out][STATES]: Ā; or where there are `rates` [out][STATES], A, it is Ā of every `argument`, δ·A
   in its format, and `held` the Ā of δ = 0: where that is 1, the state stays; direct [out]: D at y's scale; kept, start
   [out][STATES]: h, and h before the first token.
   δ·u (or δ for delta_b) is `factor`; `gain` is u at the state's scale. */
INLINE void scan(const node *n, int delta_b) {
    const decay_t *table = n->table;
    const rate_t *rates = n->rates;
    const direct_t *direct = n->direct;
    const in0 *u = n->x[0];
    const in1 *dt = n->x[1];
    const in2 *B = n->x[2];
    const in3 *C = n->x[3];
    value *restrict y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    for (place t = 0; t < n->tokens; t++, u += n->out, dt += n->out, y += n->out, B += STATES, C += STATES) {
        state b[STATES], c[STATES];
        kept_t *restrict h = n->kept;
        for (int s = 0; s < STATES; s++) {
            b[s] = B[s];
            c[s] = C[s];
        }
        for (place k = 0; k < n->out; k++, h += STATES + (PACKED ? (STATES + 1) / 2 : 0)) {
            const in1 delta = dt[k];
            wide acc = (wide)direct[k] * u[k];
            if (rates && !delta && n->held == (place)1 << n->left[0]) {
                LANE_LOOP
                for (int s = 0; s < STATES; s++)
                    acc += (wide)left_state(state_of(h, s), n->left[0]) * c[s];
                y[k] = (value)requantize_wide(acc, o);
                continue;
            }
            decay_t computed[STATES];
            const decay_t *restrict decay = computed;
            if (!rates)
                decay = table + ((place)(delta - n->least) * n->out + k) * STATES;
            else if (!TOGETHER) {
                LANE_LOOP
                for (int s = 0; s < STATES; s++)
                    computed[s] = (decay_t)decay_of(n, rates + k * STATES + s, delta);
            }
            const state factor = delta_b ? (state)delta : (state)delta * u[k], gain = left_state(u[k], n->left[0]);
            LANE_LOOP
            for (int s = 0; s < STATES; s++) {
                state term = round_state(factor * b[s], to_term);
                if (delta_b)
                    term = saturate_state(term, to_term) * gain;
                const state of_h = TOGETHER && rates ? decay_of(n, rates + k * STATES + s, delta) : (state)decay[s];
                const state h_wide = saturate_state(of_h * state_of(h, s) + term, to_h_wide);
                acc += (wide)h_wide * c[s];
                keep(h, s, requantize_state(h_wide, to_h));
            }
            y[k] = (value)requantize_wide(acc, o);
        }
    }
}

OPERATOR void scan_delta_u(const node *n) { scan(n, 0); }
OPERATOR void scan_delta_b(const node *n) { scan(n, 1); }
