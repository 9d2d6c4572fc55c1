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

/* table[index[r]] += g[r], for columns n0 <= n < n1 of a table (size, width). */
static inline __attribute__((unused)) void scatter_rows(const int64_t *index, const REAL *g, long g_row, long rows,
                                                        REAL *table, long size, long width, long n0, long n1, int add) {
    if (!add)
        for (long i = 0; i < size; i++)
            for (long n = n0; n < n1; n++) table[i * width + n] = 0;
    for (long r = 0; r < rows; r++, g += g_row) {
        const long i = index[r] < 0 ? index[r] + size : index[r];
        if (i < 0 || i >= size) continue;
        for (long n = n0; n < n1; n++) table[i * width + n] += g[n];
    }
}
