/* What generated code does with the columns of one row, beside what run.h has. */
#include <stdint.h>

static inline __attribute__((unused)) REAL row_dot(const REAL *a, const REAL *b, const int count) {
    vec sum = v_set(0);
    for (long j = 0; j < count / LANES; j++) sum += v_load(a + j * LANES) * v_load(b + j * LANES);
    if (count % LANES) {
        const int done = count / LANES * LANES;
        sum += v_load_partial(a + done, count % LANES) * v_load_partial(b + done, count % LANES);
    }
    return v_sum(sum);
}

/* An index that may count from the end. One that is out of range is noted, and 0 taken instead. */
static inline __attribute__((unused)) long row_index(int64_t index, const long size, int64_t *out_of_range) {
    if (index < 0) index += size;
    if (index >= 0 && index < size) return index;
    __atomic_store_n(out_of_range, 1, __ATOMIC_RELAXED);
    return 0;
}

/* table[i, index[r, j], n] = or += g[r, i, j, n] for a table (before, size, after), so many rows of `count` indices, and
   n0 <= n < n1. */
static inline __attribute__((unused)) void scatter_rows(const int64_t *index, long count, const REAL *g, long rows,
                                                        REAL *table, long before, long size, long after, long n0,
                                                        long n1, int add) {
    if (!add)
        for (long i = 0; i < before * size; i++)
            for (long n = n0; n < n1; n++) table[i * after + n] = 0;
    for (long r = 0; r < rows; r++, index += count)
        for (long i = 0; i < before; i++)
            for (long j = 0; j < count; j++, g += after) {
                const long at = index[j] < 0 ? index[j] + size : index[j];
                if (at < 0 || at >= size) continue; /* the forward has said so */
                REAL *to = table + (i * size + at) * after;
                for (long n = n0; n < n1; n++) to[n] += g[n];
            }
}
