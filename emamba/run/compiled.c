/* The integer model of an artifact as a plain C loop, one sequence after another; each thread has its own nodes.

   emamba/run/compiled.py compiles this file with the C of the operators (emamba/ops/*.c), and passes shapes, formats, weights and
   tables. By the bounds of the artifact it chooses the types: VALUE of what passes between nodes, SUM of what is inside a node,
   STATE of the scan's recurrence. A node works in one type, since the compiler counts the lanes of a loop by its narrowest. */

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
    int64_t tokens, in, out, taps, rows, least, bits, index_bits, head, group, left[2];
    const sum *weight, *bias, *multiplier;
    const void *table, *start, *rates; /* start: the state `kept` before the first token, or 0 for zeros */
    const wide *direct;
    void *scratch, *kept;
    int64_t kept_bytes;
    format o, term, h, h_wide, argument;
    int64_t held;
} node;

static void begin(const node *n) {
    if (n->start)
        memcpy(n->kept, n->start, n->kept_bytes);
    else if (n->kept_bytes)
        memset(n->kept, 0, n->kept_bytes);
}

/* nodes [count] in the order of the graph, the input first, the head last; in, out [sequences][tokens][out] of these two. Every
   `window` sequences follow each other in time. */
void run(const node *nodes, int64_t count, const value *in, value *out, int64_t sequences, int64_t window) {
    const node *head = nodes + count - 1;
    const size_t read = nodes->tokens * nodes->out, written = head->tokens * head->out;
    for (int64_t k = 0; k < sequences; k++, in += read, out += written) {
        for (const node *n = nodes + 1; k % window == 0 && n <= head; n++)
            begin(n);
        memcpy(nodes->y, in, read * sizeof *in);
        for (const node *n = nodes + 1; n <= head; n++)
            n->compute(n);
        memcpy(out, head->y, written * sizeof *out);
    }
}
