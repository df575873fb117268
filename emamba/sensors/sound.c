/* Log-mel features of a frame of sound, as sound.py defines them, in integers alone. No memory, no library. Before it stand its
   numbers, SOUND_FRAME and so on, and its tables. */

enum { SOUND_WINDOW_BITS = 15, SOUND_TURN_BITS = 14, SOUND_WEIGHT_BITS = 10, SOUND_LOG_BITS = 7, SOUND_STEPS = 256 };

/* floor(value / 2^bits), whatever >> does with negative numbers */
static int64_t sound_below(int64_t value, int bits) { return value >= 0 ? value >> bits : ~(~value >> bits); }

static int32_t sound_turned(int64_t value) { return (int32_t)sound_below(value + (1 << (SOUND_TURN_BITS - 1)), SOUND_TURN_BITS); }

static void sound_transform(int32_t *re, int32_t *im) {
    for (int32_t half = 1, step = SOUND_POINTS / 2; half < SOUND_POINTS; half *= 2, step /= 2)
        for (int32_t start = 0; start < SOUND_POINTS; start += 2 * half)
            for (int32_t k = 0; k < half; k++) {
                int32_t a = start + k, b = a + half;
                int64_t c = sound_cosine[k * step], s = sound_sine[k * step];
                int32_t x = sound_turned(re[b] * c + im[b] * s), y = sound_turned(im[b] * c - re[b] * s);
                re[b] = re[a] - x;
                im[b] = im[a] - y;
                re[a] += x;
                im[a] += y;
            }
}

static int32_t sound_logarithm_of(uint64_t value) {
    int32_t exponent = 0;
    while (value >> exponent > 1) exponent++;
    uint64_t top = exponent > SOUND_LOG_BITS ? value >> (exponent - SOUND_LOG_BITS) : value << (SOUND_LOG_BITS - exponent);
    return SOUND_STEPS * exponent + sound_logarithm[top - (1 << SOUND_LOG_BITS)];
}

/* samples [SOUND_FRAME] to features [SOUND_BANDS], with room for 2·SOUND_POINTS numbers */
void sound_features(const int16_t *samples, int32_t *features, int32_t *room) {
    int32_t *re = room, *im = room + SOUND_POINTS;
    for (int32_t n = 0; n < SOUND_POINTS; n++) re[n] = im[n] = 0;
    for (int32_t n = 0; n < SOUND_FRAME; n++) {
        int32_t place = 0;
        for (int32_t bit = 1, rest = n; bit < SOUND_POINTS; bit *= 2, rest /= 2) place = 2 * place + (rest & 1);
        re[place] = (int32_t)sound_below((int64_t)samples[n] * sound_window[n], SOUND_WINDOW_BITS - SOUND_FRACTION);
    }
    sound_transform(re, im);
    uint64_t here = SOUND_FLOOR, next = SOUND_FLOOR; /* of the band that falls, and of the one that rises */
    int32_t band = 0;
    for (int32_t k = 0; k <= SOUND_POINTS / 2; k++) {
        uint64_t power = (uint64_t)((int64_t)re[k] * re[k] + (int64_t)im[k] * im[k]) >> SOUND_SHIFT;
        for (; band < sound_band[k]; band++, here = next, next = SOUND_FLOOR)
            if (band > 0) features[band - 1] = sound_logarithm_of(here);
        here += power * (uint64_t)((1 << SOUND_WEIGHT_BITS) - sound_rise[k]);
        next += power * (uint64_t)sound_rise[k];
    }
    for (; band <= SOUND_BANDS; band++, here = next, next = SOUND_FLOOR)
        if (band > 0) features[band - 1] = sound_logarithm_of(here);
}
