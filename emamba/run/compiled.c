/* The integer model of an artifact as a plain C loop, one sequence after another; each thread has its own nodes.

   emamba/run/compiled.py compiles this file between emamba/ops/arithmetic.c and the C of the operators, and passes shapes, formats,
   weights and tables. By the bounds of the artifact it chooses the types: VALUE of what passes between nodes, SUM of what is
   inside a node, STATE of the scan's recurrence. A node works in one type, since the compiler counts the lanes of a loop by its
   narrowest. */

typedef VALUE value, in0, in1, in2, in3;
typedef SUM sum, weight_t, bias_t, multiplier_t, entry;
typedef STATE state, kept_t, decay_t, rate_t;
typedef int64_t wide, direct_t, place_t;

/* Loops over a fixed number of lanes: unrolled before they are vectorized, they would become scalars. */
#define LANE_LOOP _Pragma("GCC unroll 1")
#define OPERATOR
#define FAST_DOT
#define SCALED 1
#define PACKED 0
#define BLOCKED 0
#define TOGETHER 0 /* or Ā is looked up in the loop of the products, which then are no vectors */

DEFINE_ROUNDING(sum, UNSIGNED_SUM, sum)
DEFINE_SATURATION(sum, sum)
DEFINE_REQUANTIZATION(sum, sum)
DEFINE_ROUNDING(state, UNSIGNED_STATE, state)
DEFINE_SATURATION(state, state)
DEFINE_REQUANTIZATION(state, state)
DEFINE_ROUNDING(wide, uint64_t, wide)
DEFINE_SATURATION(wide, wide)
DEFINE_REQUANTIZATION(wide, wide)

typedef struct {
    void (*compute)(const node *);
    node of;
} step;

static void begin(const node *n) {
    if (n->start)
        memcpy(n->kept, n->start, (size_t)n->kept_bytes);
    else if (n->kept_bytes)
        memset(n->kept, 0, (size_t)n->kept_bytes);
}

/* steps [count] in the order of the graph, the input first, the head last; in, out [sequences][tokens][out] of these two. Every
   `window` sequences follow each other in time. */
void run(const step *steps, int64_t count, const value *in, value *out, int64_t sequences, int64_t window) {
    const step *head = steps + count - 1;
    const size_t read = (size_t)(steps->of.tokens * steps->of.out), written = (size_t)(head->of.tokens * head->of.out);
    for (int64_t k = 0; k < sequences; k++, in += read, out += written) {
        if (k % window == 0)
            for (const step *s = steps + 1; s <= head; s++)
                begin(&s->of);
        memcpy(steps->of.y, in, read * sizeof *in);
        for (const step *s = steps + 1; s <= head; s++)
            s->compute(&s->of);
        memcpy(out, head->of.y, written * sizeof *out);
    }
}
