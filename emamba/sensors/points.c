/* Features of a radar frame, as points.py defines them, in integers alone. No memory, no library. */

#include <stdint.h>

enum { MOST = 64, NEAR = 20, AXES = 4, EDGES = 8, FEATURES = 36 };

static const int32_t box[AXES] = {320, 160, 160, 160};
static const int32_t edges[EDGES] = {-138, -98, -59, -20, 20, 59, 98, 138};

/* metres, or metres a second, in 64ths; no number gives 0 */
int16_t radar_fixed(float value) {
    double scaled = (double)value * 64.0 + 0.5;
    if (!(scaled == scaled)) return 0;
    if (scaled <= -32768.0) return -32768;
    if (scaled >= 32767.0) return 32767;
    int32_t whole = (int32_t)scaled;
    return (int16_t)(whole - (whole > scaled));
}

/* floor(value / 2^16 + 1/2), whatever >> does with negative numbers */
static int32_t rounded(int32_t value) {
    value += 32768;
    return value >= 0 ? value / 65536 : -((65535 - value) / 65536);
}

/* floor(16·√value) */
static int32_t root(int32_t value) {
    int32_t found = 0;
    for (int32_t bit = 256; bit; bit /= 2)
        if ((found + bit) * (found + bit) <= value * 256) found += bit;
    return found;
}

static int32_t within(const int16_t *point, int axis) {
    int32_t value = point[axis], limit = box[axis];
    return value > limit ? limit : value < -limit ? -limit : value;
}

static int belongs(const int16_t *point, int group) {
    return group == 0 || (group == 1 ? point[3] >= NEAR : point[3] <= -NEAR);
}

/* `count` points of x, y, z, v -> FEATURES values */
void radar_features(const int16_t (*points)[AXES], long count, int32_t *features) {
    if (count > MOST) count = MOST;
    for (int group = 0; group < 3; group++) {
        int32_t number = 0;
        for (long k = 0; k < count; k++) number += belongs(points[k], group);
        int32_t reciprocal = number ? 65536 / number : 0;
        *features++ = root(number);
        for (int axis = 0; axis < AXES; axis++) {
            int32_t sum = 0, away = 0;
            for (long k = 0; k < count; k++)
                if (belongs(points[k], group)) sum += within(points[k], axis);
            int32_t mean = rounded(sum * reciprocal);
            for (long k = 0; k < count; k++)
                if (belongs(points[k], group)) {
                    int32_t difference = within(points[k], axis) - mean;
                    away += difference < 0 ? -difference : difference;
                }
            *features++ = mean;
            *features++ = root(rounded(away * reciprocal));
        }
    }
    for (int bin = 0; bin <= EDGES; bin++) features[bin] = 0;
    for (long k = 0; k < count; k++) {
        int bin = 0;
        while (bin < EDGES && within(points[k], 3) >= edges[bin]) bin++;
        features[bin]++;
    }
    for (int bin = 0; bin <= EDGES; bin++) features[bin] = root(features[bin]);
}
