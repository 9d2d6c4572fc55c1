/* What the generated functions are given, and operations on rows. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Products of rows, compiled once for all programs: see kernels.c. */
struct kernels {
    void (*product)(const REAL *const *a, REAL *const *out, long rows, long K, long N, const REAL *packed);
    void (*outer_product)(const REAL *g, long g_row, const REAL *x, long x_row, long rows, REAL *out, long K, long n0,
                          long n1, int add);
    void (*column_sums)(const REAL *x, long row, long rows, REAL *out, long n0, long n1, int add);
    void (*pack)(const REAL *w, long row, long column, long K, long N, REAL *packed, int worker, int workers);
};

struct job {
    const struct kernels *kernels;
    REAL **arrays;          /* by number; where an array has steps, that of the step `origin` comes first */
    const long *strides;    /* elements from one step to the next; 0 if all steps have the same */
    const long *origins;
    const long *periods;    /* after so many steps an array's memory is used again */
    REAL **packed;          /* packed matrices, and where they come from */
    REAL **matrices;
    const long *matrix_rows, *matrix_columns;
    REAL *scratch;          /* scratch_row elements for each row of the batch */
    const REAL **from, **many_from; /* room for pointers to rows: one for each sequence; and for each at every step */
    REAL **to, **many_to;           /* of a chunk */
    long scratch_row, batch, chunk;
    long first, last;       /* the steps of the chunk */
    long add;               /* whether sums go on, or begin anew */
    long phase;             /* 0: forward, 1: backward */
    long pack;              /* whether to pack matrices, or they are packed already */
};

static inline __attribute__((always_inline, unused)) REAL row_sum(const REAL *x, const int count) {
    vec sum[4] = {v_set(0), v_set(0), v_set(0), v_set(0)}; /* one alone would wait for each addition */
    const REAL *end = x + count / LANES * LANES;
    for (; x + 4 * LANES <= end; x += 4 * LANES)
        for (int i = 0; i < 4; i++) sum[i] += v_load(x + i * LANES);
    for (; x < end; x += LANES) sum[0] += v_load(x);
    if (count % LANES) sum[1] += v_load_partial(x, count % LANES);
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static inline __attribute__((unused)) REAL row_max(const REAL *x, const int count) {
    REAL most = x[0];
    for (int j = 1; j < count; j++) most = x[j] > most || x[j] != x[j] ? x[j] : most;
    return most;
}

static inline __attribute__((unused)) REAL row_min(const REAL *x, const int count) {
    REAL least = x[0];
    for (int j = 1; j < count; j++) least = x[j] < least || x[j] != x[j] ? x[j] : least;
    return least;
}

/* log(sum(exp(x - shift))). */
static inline __attribute__((unused)) REAL row_log_sum(const REAL *x, const int count, const REAL shift) {
    vec sum = v_set(0);
    for (int j = 0; j < count / LANES; j++) sum += v_exp(v_load(x + j * LANES) - shift);
    REAL total = v_sum(sum);
    if (count % LANES) {
        vec rest = v_exp(v_load_partial(x + count / LANES * LANES, count % LANES) - shift);
        for (int i = 0; i < count % LANES; i++) total += rest[i];
    }
    return v_log(v_set(total))[0];
}

static inline __attribute__((unused)) REAL row_logsumexp(const REAL *x, const int count) {
    const REAL most = row_max(x, count), shift = most - most == 0 ? most : 0;
    return row_log_sum(x, count, shift) + shift;
}

static inline __attribute__((unused)) void row_log_softmax(const REAL *x, REAL *out, const int count) {
    const REAL most = row_max(x, count), rest = row_log_sum(x, count, most);
    for (int j = 0; j < count; j++) out[j] = x[j] - most - rest;
}

static inline __attribute__((unused)) void row_softmax(const REAL *x, REAL *out, const int count) {
    REAL most = row_max(x, count), total = 0;
    int j = 0;
    for (; j + LANES <= count; j += LANES) v_store(out + j, v_exp(v_load(x + j) - most));
    if (j < count) v_store_partial(out + j, v_exp(v_load_partial(x + j, count % LANES) - most), count % LANES);
    for (j = 0; j < count; j++) total += out[j];
    for (j = 0; j < count; j++) out[j] /= total;
}
