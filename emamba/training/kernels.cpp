// The loops of the float model's training: emamba.training.kernels.simple_scan, simple_conv and simple_noise, and their derivatives.
// Those over tokens take a vector of channels at a time.
//
// All arrays are contiguous: [batch, l, e] and [batch, l, n], weights [n, e] and [e]. What is named d… is the derivative by it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

template <typename T> struct Vector;
template <> struct Vector<float> { typedef float type __attribute__((vector_size(64))); };
template <> struct Vector<double> { typedef double type __attribute__((vector_size(64))); };

static inline Vector<double>::type exponential(Vector<double>::type x) {
    for (int i = 0; i < 8; i++) x[i] = std::exp(x[i]);
    return x;
}

// exp(x) = 2^k · exp(r), |r| ≤ ln 2 / 2: Taylor's polynomial of degree 7 is exact to float.
static inline Vector<float>::type exponential(Vector<float>::type x) {
    typedef int Integers __attribute__((vector_size(64)));
    const float round = 12582912.0f;  // 1.5 · 2^23: adding it leaves no fraction bits
    x = x < -87.0f ? x * 0.0f - 87.0f : x;
    x = x > 88.0f ? x * 0.0f + 88.0f : x;
    auto k = (x * 1.44269504f + round) - round;
    auto r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    auto p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Integers bits = (__builtin_convertvector(k, Integers) + 127) << 23;
    Vector<float>::type scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

// Uniform in ±1/2, from a place and a seed: MurmurHash3's finalizer.
static inline int32_t hashed(uint32_t at, uint32_t seed) {
    uint32_t h = at ^ seed;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return int32_t(h ^ (h >> 16));
}

template <typename T> struct Kernels {
    typedef typename Vector<T>::type V;
    static constexpr long LANES = sizeof(V) / sizeof(T);

    static V load(const T *from, long count) {
        V v = {};
        if (count == LANES) std::memcpy(&v, from, sizeof v);
        else std::memcpy(&v, from, count * sizeof(T));
        return v;
    }
    static void store(T *to, V v, long count) {
        if (count == LANES) std::memcpy(to, &v, sizeof v);
        else std::memcpy(to, &v, count * sizeof(T));
    }
    static T sum(V v) {
        T total = 0;
        for (long i = 0; i < LANES; i++) total += v[i];
        return total;
    }

    static constexpr long PART = 1024;
    static void uniform(long start, uint32_t seed, T *u) {
        for (long i = 0; i < PART; i++) u[i] = T(hashed(uint32_t(start + i), seed)) * T(0x1p-32);
    }

    // y = x + noise · step · max |x|; returns where |x| is largest.
    static long noise(long n, uint32_t seed, T step, const T *x, T *y) {
        V high = {};
        for (long at = 0; at < n; at += LANES) {
            V v = load(x + at, std::min(LANES, n - at));
            v = v < 0 ? -v : v;
            high = high < v ? v : high;
        }
        T largest = 0, u[PART];
        for (long i = 0; i < LANES; i++) largest = std::max(largest, high[i]);
        for (long start = 0; start < n; start += PART) {
            uniform(start, seed, u);
            for (long i = 0; i < std::min(PART, n - start); i++) y[start + i] = x[start + i] + u[i] * (step * largest);
        }
        for (long i = 0; i < n; i++)
            if (std::abs(x[i]) == largest) return i;
        return 0;
    }

    // Σ noise · dy
    static double noise_back(long n, uint32_t seed, const T *dy) {
        double total = 0;
        T u[PART];
        for (long start = 0; start < n; start += PART) {
            uniform(start, seed, u);
            V part = {};
            for (long i = 0; i < std::min(PART, n - start); i += LANES)
                part += load(u + i, LANES) * load(dy + start + i, std::min(LANES, n - start - i));
            total += sum(part);
        }
        return total;
    }

    // y = Σ w[k] · x[t − taps + 1 + k] + bias
    static void conv(long batch, long l, long e, long taps, const T *x, const T *w, const T *bias, T *y) {
        std::vector<V> weight(taps);
        for (long b = 0; b < batch; b++, x += l * e, y += l * e)
            for (long at = 0; at < e; at += LANES) {
                const long count = std::min(LANES, e - at);
                const V start = load(bias + at, count);
                for (long k = 0; k < taps; k++) weight[k] = load(w + k * e + at, count);
                for (long t = 0; t < l; t++) {
                    V out = start;
                    for (long k = std::max(0L, taps - 1 - t); k < taps; k++)
                        out += weight[k] * load(x + (t - taps + 1 + k) * e + at, count);
                    store(y + t * e + at, out, count);
                }
            }
    }

    // dx is written; dw and dbias are added to.
    static void conv_back(long batch, long l, long e, long taps, const T *x, const T *w, const T *, const T *dy, T *dx, T *dw,
                          T *dbias) {
        std::vector<V> weight(taps), dweight(taps);
        for (long b = 0; b < batch; b++, x += l * e, dy += l * e, dx += l * e)
            for (long at = 0; at < e; at += LANES) {
                const long count = std::min(LANES, e - at);
                V total = {};
                for (long k = 0; k < taps; k++) weight[k] = load(w + k * e + at, count), dweight[k] = V{};
                for (long t = 0; t < l; t++) {
                    const V in = load(x + t * e + at, count);
                    V back = {};
                    for (long k = std::max(0L, taps - l + t); k < taps; k++) {
                        const V grad = load(dy + (t + taps - 1 - k) * e + at, count);
                        back += weight[k] * grad;
                        dweight[k] += in * grad;
                    }
                    total += load(dy + t * e + at, count);
                    store(dx + t * e + at, back, count);
                }
                for (long k = 0; k < taps; k++) store(dw + k * e + at, load(dw + k * e + at, count) + dweight[k], count);
                store(dbias + at, load(dbias + at, count) + total, count);
            }
    }

    // y = C·h + D·u with h = exp(dt·A)·h + dt·u·B
    static void scan(long batch, long l, long e, long n, const T *u, const T *dt, const T *B, const T *C, const T *A,
                     const T *D, T *y) {
        std::vector<V> a(n), h(n);
        for (long b = 0; b < batch; b++, u += l * e, dt += l * e, y += l * e, B += l * n, C += l * n)
            for (long at = 0; at < e; at += LANES) {
                const long count = std::min(LANES, e - at);
                const V d = load(D + at, count);
                for (long s = 0; s < n; s++) a[s] = load(A + s * e + at, count), h[s] = V{};
                for (long t = 0; t < l; t++) {
                    const V x = load(u + t * e + at, count), step = load(dt + t * e + at, count), drive = step * x;
                    V out = d * x;
                    for (long s = 0; s < n; s++) {
                        h[s] = exponential(step * a[s]) * h[s] + drive * B[t * n + s];
                        out += h[s] * C[t * n + s];
                    }
                    store(y + t * e + at, out, count);
                }
            }
    }

    // du, ddt, dB, dC are written; dA and dD are added to. The states of one sequence and one vector of channels are computed
    // again, so that they stay in the caches.
    static void scan_back(long batch, long l, long e, long n, const T *u, const T *dt, const T *B, const T *C, const T *A,
                          const T *D, const T *dy, T *du, T *ddt, T *dB, T *dC, T *dA, T *dD) {
        std::vector<V> a(n), decay(l * n), h((l + 1) * n), dh(n), da(n), db(l * n), dc(l * n);
        for (long b = 0; b < batch; b++) {
            std::fill(db.begin(), db.end(), V{});
            std::fill(dc.begin(), dc.end(), V{});
            for (long at = 0; at < e; at += LANES) {
                const long count = std::min(LANES, e - at);
                const V d = load(D + at, count);
                V dd = {};
                for (long s = 0; s < n; s++) a[s] = load(A + s * e + at, count), h[s] = dh[s] = da[s] = V{};
                for (long t = 0; t < l; t++) {
                    const V x = load(u + t * e + at, count), step = load(dt + t * e + at, count), drive = step * x;
                    for (long s = 0, k = t * n; s < n; s++, k++) {
                        decay[k] = exponential(step * a[s]);
                        h[k + n] = decay[k] * h[k] + drive * B[k];
                    }
                }
                for (long t = l - 1; t >= 0; t--) {
                    const V x = load(u + t * e + at, count), step = load(dt + t * e + at, count), drive = step * x;
                    const V dout = load(dy + t * e + at, count);
                    V ddrive = {}, dstep = {};
                    for (long s = 0, k = t * n; s < n; s++, k++) {
                        dc[k] += dout * h[k + n];
                        const V grad = dh[s] + dout * C[k];
                        ddrive += grad * B[k];
                        db[k] += grad * drive;
                        dh[s] = grad * decay[k];
                        const V exponent = dh[s] * h[k];
                        dstep += exponent * a[s];
                        da[s] += exponent * step;
                    }
                    dd += dout * x;
                    store(du + t * e + at, d * dout + ddrive * step, count);
                    store(ddt + t * e + at, dstep + ddrive * x, count);
                }
                for (long s = 0; s < n; s++) store(dA + s * e + at, load(dA + s * e + at, count) + da[s], count);
                store(dD + at, load(dD + at, count) + dd, count);
            }
            for (long k = 0; k < l * n; k++) dB[k] = sum(db[k]), dC[k] = sum(dc[k]);
            u += l * e, dt += l * e, dy += l * e, du += l * e, ddt += l * e;
            B += l * n, C += l * n, dB += l * n, dC += l * n;
        }
    }
};

#define EXPORT(T, NAME)                                                                                                       \
    extern "C" void conv_##NAME(long b, long l, long e, long k, const T *x, const T *w, const T *bias, T *y) {                \
        Kernels<T>::conv(b, l, e, k, x, w, bias, y);                                                                          \
    }                                                                                                                         \
    extern "C" void conv_back_##NAME(long b, long l, long e, long k, const T *x, const T *w, const T *bias, const T *dy,      \
                                     T *dx, T *dw, T *dbias) {                                                                \
        Kernels<T>::conv_back(b, l, e, k, x, w, bias, dy, dx, dw, dbias);                                                     \
    }                                                                                                                         \
    extern "C" long noise_##NAME(long n, uint32_t seed, double step, const T *x, T *y) {                                      \
        return Kernels<T>::noise(n, seed, T(step), x, y);                                                                     \
    }                                                                                                                         \
    extern "C" double noise_back_##NAME(long n, uint32_t seed, const T *dy) {                                                 \
        return Kernels<T>::noise_back(n, seed, dy);                                                                           \
    }                                                                                                                         \
    extern "C" void scan_##NAME(long b, long l, long e, long n, const T *u, const T *dt, const T *B, const T *C, const T *A,  \
                                const T *D, T *y) {                                                                           \
        Kernels<T>::scan(b, l, e, n, u, dt, B, C, A, D, y);                                                                   \
    }                                                                                                                         \
    extern "C" void scan_back_##NAME(long b, long l, long e, long n, const T *u, const T *dt, const T *B, const T *C,         \
                                     const T *A, const T *D, const T *dy, T *du, T *ddt, T *dB, T *dC, T *dA, T *dD) {        \
        Kernels<T>::scan_back(b, l, e, n, u, dt, B, C, A, D, dy, du, ddt, dB, dC, dA, dD);                                    \
    }
EXPORT(float, float)
EXPORT(double, double)
