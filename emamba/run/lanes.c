/* Operators in vectors (emamba/run/vectors.c), beside the plain ones and equal to them; emamba/run/lanes.py says where. Values
   have 16 bits but in `linear_lanes`, sums 32. */

INLINE lanes load_values(const value *x) {
    if (sizeof(value) == 2)
        return load_shorts((const int16_t *)x);
    return load(x);
}

INLINE lanes pairs_of_values(const value *x, const value *y) {
    if (sizeof(value) == 2)
        return pairs_of((const int16_t *)x, (const int16_t *)y);
    return halves(load(x), load(y) << 16);
}

INLINE lanes saturate(lanes x, format f) { return clip(x, (int32_t)f.low, (int32_t)f.high); }

/* `bits` to the right, saturated. Where fewer than LANES are wanted, the others may be written to the values after them. */
INLINE void store_shifted(value *y, lanes x, int32_t bits, format f) {
    x = shift_right(x, bits);
    if (sizeof(value) == 2)
        store_shorts((int16_t *)y, x, (int32_t)f.low, (int32_t)f.high);
    else {
        x = saturate(x, f);
        memcpy(y, &x, sizeof x);
    }
}

/* -- Linear ----------------------------------------------------------------------------------------------------------------- */

/* `count` tokens of `linear_lanes` from x on. */
INLINE void linear_tokens(const node *n, const int16_t *x, value *y, const int count) {
    const format o = n->o;
    const int16_t *weight = n->weight;
    const int32_t *bias = n->bias;
    for (place first = (n->out - 1) / LANES * LANES; first >= 0; first -= LANES) {
        lanes acc[TOKENS];
        UNROLL
        for (int j = 0; j < count; j++)
            acc[j] = load(bias + first);
        for (place i = 0; i < n->in; i += 2, weight += 2 * LANES) {
            const lanes w = load(weight);
            UNROLL
            for (int j = 0; j < count; j++) {
                int32_t pair;
                memcpy(&pair, x + j * n->in + i, sizeof pair);
                acc[j] = add_pairs(acc[j], w, (lanes){0} + pair);
            }
        }
        UNROLL
        for (int j = 0; j < count; j++)
            store_shifted(y + j * n->out + first, acc[j], (int32_t)o.right, o);
    }
}

/* As `linear`, with weight [blocks of LANES outputs][pairs of inputs][LANES][2], the last block first, so that the next one
   overwrites what it stores beyond a token; the weights of an input beyond the last are 0; bias [out] with half of the last bit.
   scratch [TOKENS][in], where values are wider, is for inputs of 16 bits. */
void linear_lanes(const node *n) {
    for (place t = 0; t < n->tokens; t += TOKENS) {
        const value *from = (const value *)n->x[0] + t * n->in;
        const int16_t *x = (const int16_t *)from;
        if (sizeof(value) != 2) {
            int16_t *packed = n->scratch;
            for (place i = 0; i < TOKENS * n->in; i++)
                packed[i] = (int16_t)from[i];
            x = packed;
        }
        if (n->tokens - t == 1)
            linear_tokens(n, x, (value *)n->y + t * n->out, 1);
        else
            linear_tokens(n, x, (value *)n->y + t * n->out, TOKENS);
    }
}

/* Inputs of a byte, as `add_fours` takes them. */
INLINE void pack(uint8_t *x, const value *from, place count) {
    for (place k = 0; k < count; k += 4 * LANES)
        store_bytes(x + k, (const int16_t *)from + k);
}

INLINE lanes four_of(const uint8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return (lanes){0} + four;
}

INLINE void byte_tokens(const node *n, const uint8_t *x, value *y, const int count) {
    const format o = n->o;
    const int8_t *weight = n->weight;
    const int32_t *bias = n->bias, *at = n->table;
    for (place first = (n->out - 1) / LANES * LANES; first >= 0; first -= LANES) {
        lanes acc[ROWS];
        UNROLL
        for (int j = 0; j < count; j++)
            acc[j] = load(bias + first);
        for (int32_t sums = *at++; sums; sums--) {
            int32_t steps = *at++;
#if defined DOT
            for (; steps; steps--, at++, weight += 4 * LANES)
                UNROLL
                for (int j = 0; j < count; j++)
                    acc[j] = add_fours(acc[j], load(weight), four_of(x + *at + j * n->in));
#else
            shorts part[ROWS];
            UNROLL
            for (int j = 0; j < count; j++)
                part[j] = byte_products(load(weight), four_of(x + *at + j * n->in));
            for (steps--, at++, weight += 4 * LANES; steps; steps--, at++, weight += 4 * LANES)
                UNROLL
                for (int j = 0; j < count; j++)
                    part[j] += byte_products(load(weight), four_of(x + *at + j * n->in));
            UNROLL
            for (int j = 0; j < count; j++)
                acc[j] = add_shorts(acc[j], part[j]);
#endif
        }
        UNROLL
        for (int j = 0; j < count; j++)
            store_shifted(y + j * n->out + first, acc[j], (int32_t)o.right, o);
    }
}

/* As `linear_lanes`, of bytes: weight [steps][LANES][4]; table: of every block how many sums, of each sum how many steps, and
   where in a token each step's four is; bias without what OFFSET brings too. scratch: the packed inputs. */
void linear_bytes(const node *n) {
    uint8_t *x = n->scratch;
    for (place t = 0; t < n->tokens; t += ROWS) {
        const value *from = (const value *)n->x[0] + t * n->in;
        value *y = (value *)n->y + t * n->out;
        if (n->tokens - t == 1) {
            pack(x, from, n->in);
            byte_tokens(n, x, y, 1);
        } else {
            pack(x, from, ROWS * n->in);
            byte_tokens(n, x, y, ROWS);
        }
    }
}

/* -- Norm and activation ---------------------------------------------------------------------------------------------------- */

/* As `range_norm`. */
void range_norm_lanes(const node *n) {
    const entry *table = n->table;
    const place width = n->out / n->group;
    const int16_t *x = n->x[0];
    value *y = n->y;
    const format o = n->o;
    for (place t = 0; t < n->tokens * n->group; t++, x += width, y += width) {
        const extent all = extent_of(x, width);
        const int32_t span = all.high - all.low, zeros = span ? (int32_t)n->bits - length_of((uint64_t)span) : 0;
        const int32_t index = (int32_t)(((int64_t)span << zeros) >> (n->bits - 1 - n->index_bits)) & ((1 << n->index_bits) - 1);
        const int32_t factor = table[index] << zeros;
        for (place first = 0; first < width; first += LANES) {
            const lanes deviation = load_shorts(x + first) * (int32_t)width - all.total;
            store_shifted(y + first, deviation * factor + (int32_t)o.half, (int32_t)o.right, o);
        }
    }
}

#if defined TWINS
/* As `activation`, with table [256] of bytes by the lower byte of an input. */
void activation_lanes(const node *n) {
    for (place k = 0; k < n->tokens * n->out; k += 8 * LANES)
        look_up((int16_t *)n->y + k, (const int16_t *)n->x[0] + k, n->table);
}
#endif

/* -- Conv1d and scan -------------------------------------------------------------------------------------------------------- */

/* Tokens of `conv1d_lanes` from t to the end, which have all taps in this part of the sequence. */
INLINE void conv_tokens(const node *n, place t, place first, const place pairs) {
    const place width = n->out, odd = n->taps % 2;
    const value *x = (const value *)n->x[0] + t * width + first;
    value *y = (value *)n->y + t * width + first;
    const int32_t *weight = (const int32_t *)n->weight + first;
    const lanes bias = load((const int32_t *)n->bias + first);
    const format o = n->o;
    for (; t < n->tokens; t++, x += width, y += width) {
        lanes acc = bias;
        UNROLL
        for (place k = 0; k < pairs; k++) {
            const place last = 2 * k + (odd && k == pairs - 1 ? 0 : 1);
            acc = add_pairs(acc, pairs_of_values(x - 2 * k * width, x - last * width), load(weight + k * n->block));
        }
        store_shifted(y, acc, (int32_t)o.right, o);
    }
}

/* As `conv1d`, with weight [pairs of taps][block][2], the current token first, where `block` is `out` rounded up to LANES, and no
   weight where there is one tap more. The last channels come first, since they are stored beyond a token. */
void conv1d_lanes(const node *n) {
    const place width = n->out, before = n->taps - 1, early = n->tokens < before ? n->tokens : before;
    const value *x = n->x[0];
    const int32_t *bias = n->bias, *weight = n->weight;
    value *y = n->y, *kept = n->kept;
    const format o = n->o;
    for (place first = (width - 1) / LANES * LANES; first >= 0; first -= LANES) {
        for (place t = 0; t < early; t++) {
            lanes acc = load(bias + first);
            for (place age = 0; age <= before; age += 2) {
                const place last = age < before ? age + 1 : age;
                const value *token = age <= t ? x + (t - age) * width : kept + (before + t - age) * width;
                const value *earlier = last <= t ? x + (t - last) * width : kept + (before + t - last) * width;
                acc = add_pairs(acc, pairs_of_values(token + first, earlier + first), load(weight + age / 2 * n->block + first));
            }
            store_shifted(y + t * width + first, acc, (int32_t)o.right, o);
        }
        if (before / 2 == 1)
            conv_tokens(n, early, first, 2);
        else
            conv_tokens(n, early, first, before / 2 + 1);
    }
    const place old = n->tokens < before ? before - n->tokens : 0;
    memmove(kept, kept + (before - old) * width, (size_t)(old * width) * sizeof *kept);
    memcpy(kept + old * width, x + (n->tokens - before + old) * width, (size_t)((before - old) * width) * sizeof *kept);
}

/* As `scan_delta_u`, channels side by side: table [out rounded up][codes of δ, `block` bytes][STATES] of bytes; h, kept and start,
   [blocks][STATES][LANES]; direct and bias: upper bits and lower LOW bits of D at y's scale. y's sum is `high`·2^LOW + `low`.
   Of all scans of a model: NARROW where δ·u has 16 bits, CHECKED where a state could saturate, SHIFTED where δ·u·B is rounded. */
#define LOW 8
#define FUSED (NARROW && !CHECKED && !SHIFTED) /* the state's half of the last bit comes with δ·u·B, and leaves y's sum again */
void scan_lanes(const node *n) {
    const uint8_t *table = n->table;
    const int32_t block = (int32_t)n->block;
    int32_t *restrict at = n->scratch;
    const lanes ramp = (lanes){0, 1, 2, 3, 4, 5, 6, 7} * block - (int32_t)n->least * STATES;
    const int32_t *direct = n->direct, *direct_low = n->bias, bits = (int32_t)n->h.right, half = (int32_t)n->h.half;
    const value *u = n->x[0], *dt = n->x[1], *B = n->x[2], *C = n->x[3];
    value *y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    for (place t = 0; t < n->tokens; t++, u += n->out, dt += n->out, y += n->out, B += STATES, C += STATES) {
        lanes of_channel = ramp;
        for (place first = 0; first < n->out; first += LANES, of_channel += LANES * block) {
            const lanes rows = of_channel + load_values(dt + first) * STATES;
            memcpy(at + first, &rows, sizeof rows);
        }
        int32_t of_b[STATES], of_c[STATES / 2], total = 0;
        memcpy(of_c, C, sizeof of_c);
        for (int s = 0; s < STATES; s += LANES) { /* the upper half of a lane adds nothing, or `half` */
            lanes x = load_values(B + s);
            if (NARROW)
                x = (x & 0xFFFF) | FUSED << 16;
            memcpy(of_b + s, &x, sizeof x);
        }
        for (int s = 0; s < STATES; s++)
            total += C[s];
        const int32_t rest = (int32_t)o.half - (FUSED ? half * total : 0);
#if defined TWINS
        twins *state = n->kept, b[STATES / 2], c[STATES / 2];
        for (int s = 0; s < STATES; s += 2) {
            b[s / 2] = twins_of((lanes){0} + of_b[s], (lanes){0} + of_b[s + 1]);
            c[s / 2] = (twins){0} + of_c[s / 2];
        }
#else
        lanes *state = n->kept, b[STATES], c[STATES / 2];
        for (int s = 0; s < STATES; s++)
            b[s] = (lanes){0} + of_b[s];
        for (int s = 0; s < STATES / 2; s++)
            c[s] = (lanes){0} + of_c[s];
#endif
        for (place first = 0; first < n->out; first += LANES) {
            const lanes drive = load_values(u + first);
            lanes factor = (load_values(dt + first) * drive) << (int32_t)to_term.left;
            if (FUSED)
                factor = (factor & 0xFFFF) | half << 16;
            lanes high = load(direct + first) * drive, low = load(direct_low + first) * drive + rest;
#if defined TWINS
            twins sums = twins_of(high, low);
            const twins factors = twins_of(factor, factor);
            for (int s = 0; s < STATES; s += 8, state += 4) {
                const twins rows = rows_of(table + s, at + first);
                UNROLL
                for (int j = 0; j < 4; j++) {
                    twins wide = column_twins(rows, j) * state[j];
                    if (NARROW && !SHIFTED)
                        wide = add_twin_pairs(wide, factors, b[s / 2 + j]);
                    else {
                        const twins term = NARROW ? add_twin_pairs((twins){0}, factors, b[s / 2 + j]) : factors * b[s / 2 + j];
                        wide += SHIFTED ? (term + (int32_t)to_term.half) >> (int32_t)to_term.right : term;
                    }
                    if (CHECKED)
                        wide = clip_twins(wide, (int32_t)to_h_wide.low, (int32_t)to_h_wide.high);
                    state[j] = (FUSED ? wide : wide + half) >> bits;
                    if (CHECKED)
                        state[j] = clip_twins(state[j], (int32_t)to_h.low, (int32_t)to_h.high);
                    sums = add_twin_pairs(sums, parts(wide), c[s / 2 + j]);
                }
            }
            high = first_of(sums), low = second_of(sums);
#else
            const uint8_t *row[LANES];
            UNROLL
            for (int k = 0; k < LANES; k++)
                row[k] = table + at[first + k];
            for (int s = 0; s < STATES; s += 8, state += 8) {
                lanes decay[8];
                transpose(decay, row);
                UNROLL
                for (int k = 0; k < LANES; k++)
                    row[k] += 8;
                UNROLL
                for (int j = 0; j < 8; j += 2) {
                    lanes wide[2];
                    UNROLL
                    for (int k = 0; k < 2; k++) {
                        const lanes of_b = b[s + j + k];
                        lanes term = NARROW ? add_pairs((lanes){0}, factor, of_b) : factor * of_b;
                        if (SHIFTED)
                            term = shift_right(term + (int32_t)to_term.half, (int32_t)to_term.right);
                        wide[k] = decay[j + k] * state[j + k] + term;
                        if (CHECKED)
                            wide[k] = saturate(wide[k], to_h_wide);
                        state[j + k] = shift_right(FUSED ? wide[k] : wide[k] + half, bits);
                        if (CHECKED)
                            state[j + k] = saturate(state[j + k], to_h);
                    }
                    high = add_pairs(high, halves(wide[0] >> LOW, wide[1] << LOW), c[(s + j) / 2]);
                    low = add_pairs(low, halves(wide[0], wide[1] << 16) & 0x00FF00FF, c[(s + j) / 2]);
                }
            }
#endif
            store_shifted(y + first, high + (low >> LOW), (int32_t)o.right - LOW, o);
        }
    }
}
