/* Log-mel features of a frame of sound, as sound.py defines them, in integers alone. No memory, no library. Before it stand the
   numbers FRAME, POINTS, BANDS, FRACTION, SHIFT and the tables window_of, cosine, sine, band_of, rise_of, logarithm. */

enum { WINDOW_BITS = 15, TURN_BITS = 14, WEIGHT_BITS = 10, LOG_BITS = 7, STEPS = 256 };

/* floor(value / 2^bits), whatever >> does with negative numbers */
static int64_t below(int64_t value, int bits) { return value >= 0 ? value >> bits : ~(~value >> bits); }

static int32_t turned(int64_t value) { return (int32_t)below(value + (1 << (TURN_BITS - 1)), TURN_BITS); }

static void transform(int32_t *re, int32_t *im) {
    for (int32_t half = 1, step = POINTS / 2; half < POINTS; half *= 2, step /= 2)
        for (int32_t start = 0; start < POINTS; start += 2 * half)
            for (int32_t k = 0; k < half; k++) {
                int32_t a = start + k, b = a + half;
                int64_t c = cosine[k * step], s = sine[k * step];
                int32_t x = turned(re[b] * c + im[b] * s), y = turned(im[b] * c - re[b] * s);
                re[b] = re[a] - x;
                im[b] = im[a] - y;
                re[a] += x;
                im[a] += y;
            }
}

static int32_t logarithm_of(uint64_t value) {
    int32_t exponent = 0;
    while (value >> exponent > 1) exponent++;
    uint64_t top = exponent > LOG_BITS ? value >> (exponent - LOG_BITS) : value << (LOG_BITS - exponent);
    return STEPS * exponent + logarithm[top - (1 << LOG_BITS)];
}

/* samples [FRAME] to features [BANDS], with room for 2·POINTS numbers */
void sound_features(const int16_t *samples, int32_t *features, int32_t *room) {
    int32_t *re = room, *im = room + POINTS;
    for (int32_t n = 0; n < POINTS; n++) re[n] = im[n] = 0;
    for (int32_t n = 0; n < FRAME; n++) {
        int32_t place = 0;
        for (int32_t bit = 1, rest = n; bit < POINTS; bit *= 2, rest /= 2) place = 2 * place + (rest & 1);
        re[place] = (int32_t)below((int64_t)samples[n] * window_of[n], WINDOW_BITS - FRACTION);
    }
    transform(re, im);
    uint64_t here = FLOOR, next = FLOOR; /* of the band that falls, and of the one that rises */
    int32_t band = 0;
    for (int32_t k = 0; k <= POINTS / 2; k++) {
        uint64_t power = (uint64_t)((int64_t)re[k] * re[k] + (int64_t)im[k] * im[k]) >> SHIFT;
        for (; band < band_of[k]; band++, here = next, next = FLOOR)
            if (band > 0) features[band - 1] = logarithm_of(here);
        here += power * (uint64_t)((1 << WEIGHT_BITS) - rise_of[k]);
        next += power * (uint64_t)rise_of[k];
    }
    for (; band <= BANDS; band++, here = next, next = FLOOR)
        if (band > 0) features[band - 1] = logarithm_of(here);
}
