/* Features of a radar frame, as points.py defines them, in integers alone. No memory, no library. */

#include <stdint.h>

enum { MOST = 64, NEAR = 20, AXES = 4, FEATURES = 84 };

static const int16_t edges[AXES][15] = {
    {20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240, 260, 280, 300},
    {-56, -48, -40, -32, -24, -16, -8, 0, 8, 16, 24, 32, 40, 48, 56},
    {-96, -80, -64, -48, -32, -16, 0, 16, 32, 48, 64, 80, 96, 112, 128},
    {-138, -98, -59, -20, 20, 59, 98, 138}};
static const int edges_of[AXES] = {15, 15, 15, 8};

/* metres, or metres a second, in 64ths; no number gives 0 */
int16_t radar_fixed(float value) {
    double scaled = (double)value * 64.0 + 0.5;
    if (!(scaled == scaled)) return 0;
    if (scaled <= -32768.0) return -32768;
    if (scaled >= 32767.0) return 32767;
    int32_t whole = (int32_t)scaled;
    return (int16_t)(whole - (whole > scaled));
}

/* floor(value / 2^16), whatever >> does with negative numbers */
static int32_t shifted(int64_t value) {
    return (int32_t)(value >= 0 ? value / 65536 : -((-value + 65535) / 65536));
}

static int32_t root(int32_t value) {
    int32_t found = 0;
    while ((found + 1) * (found + 1) <= value) found++;
    return found;
}

static int belongs(int group, int16_t v) {
    return group == 0 || (group == 1 ? v >= NEAR : v <= -NEAR);
}

/* `count` points of x, y, z, v -> FEATURES values */
void radar_features(const int16_t (*points)[AXES], long count, int32_t *features) {
    if (count > MOST) count = MOST;
    for (int group = 0; group < 3; group++) {
        int32_t number = 0;
        for (long k = 0; k < count; k++) number += belongs(group, points[k][3]);
        int64_t reciprocal = number ? 65536 / number : 0;
        *features++ = number;
        for (int axis = 0; axis < AXES; axis++) {
            int64_t sum = 0, away = 0;
            for (long k = 0; k < count; k++)
                if (belongs(group, points[k][3])) sum += points[k][axis];
            int32_t mean = shifted(sum * reciprocal);
            for (long k = 0; k < count; k++)
                if (belongs(group, points[k][3])) away += points[k][axis] < mean ? mean - points[k][axis] : points[k][axis] - mean;
            *features++ = mean;
            *features++ = shifted(away * reciprocal);
        }
    }
    for (int axis = 0; axis < AXES; axis++) {
        for (int bin = 0; bin <= edges_of[axis]; bin++) features[bin] = 0;
        for (long k = 0; k < count; k++) {
            int bin = 0;
            while (bin < edges_of[axis] && points[k][axis] >= edges[axis][bin]) bin++;
            features[bin]++;
        }
        for (int bin = 0; bin <= edges_of[axis]; bin++) features[bin] = root(features[bin] << 8);
        features += edges_of[axis] + 1;
    }
}
