/* The integer model of an artifact as a plain C loop, one sequence after another; each thread has its own nodes. docs/numerics.md has the
   definitions.

   emamba/run/compiled.py compiles this file, and passes shapes, formats, weights and tables. By the bounds of the artifact it
   chooses the types: VALUE of what passes between nodes, SUM of what is inside a node, STATE of the scan's recurrence. A node
   works in one type, since the compiler counts the lanes of a loop by its narrowest one. */

#include <stdint.h>
#include <string.h>

typedef VALUE value;
typedef SUM sum;
typedef STATE state;
typedef int64_t wide;

/* Loops over a fixed number of lanes: unrolled before they are vectorized, they would become scalars. */
#define LANE_LOOP _Pragma("GCC unroll 1")

/* round_shift: `left` and `right` are a shift of either sign, `even` is 1 for half_even; saturate: low, high. */
typedef struct {
    int64_t left, half, even, right, low, high;
} format;

#define DEFINE_REQUANTIZE(type)                                                                                             \
    static inline type round_##type(type x, format f) {                                                                     \
        x <<= f.left;                                                                                                       \
        return (x + (type)f.half + ((x >> f.right) & (type)f.even)) >> f.right;                                             \
    }                                                                                                                       \
    static inline type saturate_##type(type x, format f) {                                                                  \
        x = x > (type)f.high ? (type)f.high : x;                                                                            \
        return x < (type)f.low ? (type)f.low : x;                                                                           \
    }                                                                                                                       \
    static inline type requantize_##type(type x, format f) { return saturate_##type(round_##type(x, f), f); }

DEFINE_REQUANTIZE(sum)
DEFINE_REQUANTIZE(state)
DEFINE_REQUANTIZE(wide)

/* Output y [tokens][out] in format o; inputs x [tokens][...]. Each function tells what it reads of the rest. */
typedef struct node {
    void (*compute)(const struct node *);
    const value *x[4];
    value *y;
    int64_t tokens, in, out, taps, rows, least, bits, index_bits, left[2];
    const sum *weight, *bias, *multiplier;
    const void *table;
    const wide *direct;
    void *scratch;
    format o, term, h, h_wide;
} node;

/* weight [blocks of LANES outputs][in][LANES]; bias and multiplier [blocks][LANES]. The sums of TOKENS tokens and LANES outputs
   stay in registers; tokens beyond the sequence fill the last block up, and the buffers have room for them. */
void linear(const node *n) {
    const format o = n->o;
    for (long t = 0; t < n->tokens; t += TOKENS) {
        const sum *weight = n->weight;
        for (long first = 0; first < n->out; first += LANES) {
            const value *x = n->x[0] + t * n->in;
            sum acc[TOKENS][LANES];
            for (int j = 0; j < TOKENS; j++)
                memcpy(acc[j], n->bias + first, sizeof acc[j]);
            for (long i = 0; i < n->in; i++, x++, weight += LANES)
                for (int j = 0; j < TOKENS; j++)
                    LANE_LOOP
                    for (int k = 0; k < LANES; k++)
                        acc[j][k] += weight[k] * x[j * n->in];
            long lanes = n->out - first < LANES ? n->out - first : LANES;
            for (int j = 0; j < TOKENS; j++) {
                value *y = n->y + (t + j) * n->out + first;
                for (long k = 0; k < lanes; k++)
                    y[k] = requantize_sum(acc[j][k] * n->multiplier[first + k], o);
            }
        }
    }
}

/* weight [taps][out], the last tap on the current token; scratch [out] */
void conv1d(const node *n) {
    const long width = n->out;
    const value *x = n->x[0];
    value *y = n->y;
    sum *restrict acc = n->scratch;
    const format o = n->o;
    for (long t = 0; t < n->tokens; t++, x += width, y += width) {
        memcpy(acc, n->bias, width * sizeof *acc);
        for (long age = 0; age < n->taps && age <= t; age++) {
            const sum *weight = n->weight + (n->taps - 1 - age) * width;
            for (long k = 0; k < width; k++)
                acc[k] += weight[k] * x[k - age * width];
        }
        for (long k = 0; k < width; k++)
            y[k] = requantize_sum(acc[k] * n->multiplier[k], o);
    }
}

/* table [rows][out] of values */
void lookup(const node *n) {
    const value *table = n->table;
    for (long t = 0; t < n->tokens; t++) {
        int64_t id = n->x[0][t];
        memcpy(n->y + t * n->out, table + (id < n->rows ? id : n->rows - 1) * n->out, n->out * sizeof *table);
    }
}

/* table [2^index_bits] of sums: reciprocals of a range of `bits` bits */
void range_norm(const node *n) {
    const sum *table = n->table;
    const long width = n->out;
    const value *x = n->x[0];
    value *restrict y = n->y;
    const format o = n->o;
    for (long t = 0; t < n->tokens; t++, x += width, y += width) {
        sum total = 0, low = x[0], high = x[0];
        for (long k = 0; k < width; k++) {
            total += x[k];
            low = x[k] < low ? x[k] : low;
            high = x[k] > high ? x[k] : high;
        }
        int64_t span = (int64_t)high - low;
        int zeros = span ? (int)n->bits - (64 - __builtin_clzll(span)) : 0;
        int64_t index = ((span << zeros) >> (n->bits - 1 - n->index_bits)) & ((1 << n->index_bits) - 1);
        sum factor = table[index] << zeros;
        for (long k = 0; k < width; k++)
            y[k] = requantize_sum(((sum)width * x[k] - total) * factor, o);
    }
}

/* The same of squares: table [2][2^index_bits] of the square root of a reciprocal; `least` is epsilon. */
static inline void root_norm(const node *n, int centered) {
    const sum *table = n->table;
    const long width = n->out;
    const value *x = n->x[0];
    value *restrict y = n->y;
    const format o = n->o;
    for (long t = 0; t < n->tokens; t++, x += width, y += width) {
        wide total = 0, spread = n->least;
        for (long k = 0; k < width; k++) {
            total += x[k];
            spread += (wide)x[k] * x[k];
        }
        if (centered)
            spread = width * spread - total * total;
        int zeros = spread ? (int)n->bits - (64 - __builtin_clzll(spread)) : 0;
        int64_t index = ((spread << zeros) >> (n->bits - 1 - n->index_bits)) & ((1 << n->index_bits) - 1);
        sum entry = table[((zeros & 1) << n->index_bits) | index];
        for (long k = 0; k < width; k++) {
            sum deviation = centered ? (sum)width * x[k] - (sum)total : x[k];
            y[k] = requantize_sum((deviation << (zeros >> 1)) * entry, o);
        }
    }
}

void layer_norm(const node *n) { root_norm(n, 1); }
void rms_norm(const node *n) { root_norm(n, 0); }

/* table of values, one for each input code from `least` on */
void activation(const node *n) {
    const value *table = n->table;
    for (long k = 0; k < n->tokens * n->out; k++)
        n->y[k] = table[n->x[0][k] - n->least];
}

/* table [codes of δ from `least` on][out][STATES] of states: Ā; direct [out]: D at y's scale; scratch [out][STATES]: h.
   δ·u (or δ for delta_b) is `factor`; `gain` is u at the state's scale. */
static inline void scan(const node *n, int delta_b) {
    const state *table = n->table;
    const value *u = n->x[0], *dt = n->x[1], *B = n->x[2], *C = n->x[3];
    value *restrict y = n->y;
    const format o = n->o, to_term = n->term, to_h = n->h, to_h_wide = n->h_wide;
    memset(n->scratch, 0, n->out * STATES * sizeof(state));
    for (long t = 0; t < n->tokens; t++, u += n->out, dt += n->out, y += n->out, B += STATES, C += STATES) {
        state b[STATES], c[STATES], *restrict h = n->scratch;
        for (int s = 0; s < STATES; s++) {
            b[s] = B[s];
            c[s] = C[s];
        }
        for (long k = 0; k < n->out; k++, h += STATES) {
            const state *restrict decay = table + ((dt[k] - n->least) * n->out + k) * STATES;
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

void multiply(const node *n) {
    const format o = n->o;
    for (long k = 0; k < n->tokens * n->out; k++)
        n->y[k] = requantize_sum((sum)n->x[0][k] * n->x[1][k], o);
}

void add(const node *n) {
    const format o = n->o;
    for (long k = 0; k < n->tokens * n->out; k++)
        n->y[k] = requantize_sum(((sum)n->x[0][k] << n->left[0]) + ((sum)n->x[1][k] << n->left[1]), o);
}

/* rows: tokens of the input */
void pool_last(const node *n) {
    memcpy(n->y, n->x[0] + (n->rows - 1) * n->out, n->out * sizeof(value));
}

/* rows: tokens of the input; multiplier [1]; scratch [out] */
void pool_mean(const node *n) {
    const format o = n->o;
    sum *restrict acc = n->scratch;
    memset(acc, 0, n->out * sizeof *acc);
    for (long t = 0; t < n->rows; t++)
        for (long k = 0; k < n->out; k++)
            acc[k] += n->x[0][t * n->out + k];
    for (long k = 0; k < n->out; k++)
        n->y[k] = requantize_sum(acc[k] * n->multiplier[0], o);
}

/* nodes [count] in the order of the graph, the input first, the head last; in, out [sequences][tokens][out] of these two */
void run(const node *nodes, int64_t count, const value *in, value *out, int64_t sequences) {
    const node *head = nodes + count - 1;
    const size_t read = nodes->tokens * nodes->out, written = head->tokens * head->out;
    for (; sequences; sequences--, in += read, out += written) {
        memcpy(nodes->y, in, read * sizeof *in);
        for (const node *n = nodes + 1; n <= head; n++)
            n->compute(n);
        memcpy(out, head->y, written * sizeof *out);
    }
}
