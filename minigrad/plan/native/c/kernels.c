/* Matrix products of rows, and sums over rows: what every program calls. */

#define TILE_ROWS 6
#define TILE_VECS 4
#define ALL_ROWS _Pragma("GCC unroll 6") /* left to itself, GCC compiles longer, and 5 % slower code */
#define ALL_VECS _Pragma("GCC unroll 4")

/* How the columns of a packed matrix are cut into panels of at most TILE_VECS vectors, as evenly as can be. */
static inline long panels_of(long columns) {
    long vectors = (columns + LANES - 1) / LANES;
    return (vectors + TILE_VECS - 1) / TILE_VECS;
}
static inline long panel_start(long columns, long panel) { /* in vectors */
    long vectors = (columns + LANES - 1) / LANES;
    return vectors * panel / panels_of(columns);
}

/* A matrix (K, N), element (k, n) at w[k * row + n * column], packed panel by panel: for each k a panel's columns.
   A worker packs its share of the panels. */
static void pack(const REAL *w, long row, long column, long K, long N, REAL *packed, int worker, int workers) {
    long panels = panels_of(N);
    for (long p = panels * worker / workers; p < panels * (worker + 1) / workers; p++) {
        long from = panel_start(N, p) * LANES, to = panel_start(N, p + 1) * LANES, width = to - from;
        REAL *out = packed + from * K;
        if (column == 1)
            for (long k = 0; k < K; k++) {
                const long inside = to < N ? width : N - from;
                memcpy(out + k * width, w + k * row + from, inside * sizeof(REAL));
                for (long n = inside; n < width; n++) out[k * width + n] = 0;
            }
        else
            for (long k0 = 0; k0 < K; k0 += 16) { /* what is read once is read whole: lines of the cache along k */
                const long k1 = k0 + 16 < K ? k0 + 16 : K, inside = to < N ? width : N - from;
                const REAL *line = w + from * column;
                long n = 0;
                for (; n + 4 <= inside; n += 4, line += 4 * column)
                    for (long k = k0; k < k1; k++) { /* four are written together */
                        const REAL *at = line + k * row;
                        const REAL four[4] = {at[0], at[column], at[2 * column], at[3 * column]};
                        memcpy(out + k * width + n, four, sizeof four);
                    }
                for (; n < width; n++, line += column)
                    for (long k = k0; k < k1; k++) out[k * width + n] = n < inside ? line[k * row] : 0;
            }
    }
}

static inline __attribute__((always_inline)) void tile(const int m, const int vectors, long K, const REAL *const *a,
                                                       const REAL *restrict w, REAL *const *out, long column, int rest) {
    vec sum[TILE_ROWS][TILE_VECS];
    ALL_ROWS for (int r = 0; r < m; r++)
        ALL_VECS for (int q = 0; q < vectors; q++) sum[r][q] = v_set(0);
    for (long k = 0; k < K; k++, w += vectors * LANES) {
        vec b[TILE_VECS];
        ALL_VECS for (int q = 0; q < vectors; q++) b[q] = v_load(w + q * LANES);
        ALL_ROWS for (int r = 0; r < m; r++) {
            vec s = v_set(a[r][k]);
            ALL_VECS for (int q = 0; q < vectors; q++) sum[r][q] += s * b[q];
        }
    }
    ALL_ROWS for (int r = 0; r < m; r++) {
        ALL_VECS for (int q = 0; q < vectors - 1; q++) v_store(out[r] + column + q * LANES, sum[r][q]);
        REAL *last = out[r] + column + (vectors - 1) * LANES;
        if (rest == LANES) v_store(last, sum[r][vectors - 1]);
        else v_store_partial(last, sum[r][vectors - 1], rest);
    }
}

/* Of each size of a tile there is code of its own, whose sums are in registers. */
#define FOR_SIZE(CALL) \
    switch (m) { \
        FOR_VECTORS(CALL, 1) FOR_VECTORS(CALL, 2) FOR_VECTORS(CALL, 3) \
        FOR_VECTORS(CALL, 4) FOR_VECTORS(CALL, 5) FOR_VECTORS(CALL, 6) \
    }
#define FOR_VECTORS(CALL, M) \
    case M: \
        switch (vectors) { \
        case 1: CALL(M, 1); break; \
        case 2: CALL(M, 2); break; \
        case 3: CALL(M, 3); break; \
        default: CALL(M, 4); \
        } \
        break;

#define TILE(M, V) tile(M, V, K, a, w, out, column, rest)
static void any_tile(long m, long vectors, long K, const REAL *const *a, const REAL *w, REAL *const *out, long column,
                     int rest) {
    FOR_SIZE(TILE)
}

/* out[r] = a[r] W for rows of K numbers each, W (K, N) packed. */
static void product(const REAL *const *a, REAL *const *out, long rows, long K, long N, const REAL *packed) {
    long panels = panels_of(N), tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (long p = 0; p < panels; p++) {
        long from = panel_start(N, p), vectors = panel_start(N, p + 1) - from;
        int rest = p == panels - 1 ? N - (from + vectors - 1) * LANES : LANES;
        for (long i = 0; i < tiles; i++) {
            long r = rows * i / tiles, m = rows * (i + 1) / tiles - r;
            any_tile(m, vectors, K, a + r, packed + from * LANES * K, out + r, from * LANES, rest);
        }
    }
}

#define BLOCK_ROWS 256
#define BLOCK_LEFT (768 / (long)sizeof(REAL))
#if defined __GLIBC__ || defined __APPLE__
#define BLOCK_MEMORY /* on the stack, where it is reached a little sooner */
#else
#define BLOCK_MEMORY static _Thread_local /* threads have little stack: 128 KiB with musl */
#endif

/* out[i][columns] = sum over rows of g[row][i] x[row][column]; rows of g lie g_width apart. The sums go where they
   belong in another place: code for that would be compiled once for each size. */
static inline __attribute__((always_inline)) void outer_tile(const int m, const int vectors, long rows,
                                                             const REAL *restrict g, long g_width,
                                                             const REAL *restrict x, vec (*out)[TILE_VECS]) {
    vec sum[TILE_ROWS][TILE_VECS];
    ALL_ROWS for (int i = 0; i < m; i++)
        ALL_VECS for (int q = 0; q < vectors; q++) sum[i][q] = v_set(0);
    for (long r = 0; r < rows; r++, g += g_width, x += vectors * LANES) {
        vec b[TILE_VECS];
        ALL_VECS for (int q = 0; q < vectors; q++) b[q] = v_load(x + q * LANES);
        ALL_ROWS for (int i = 0; i < m; i++) {
            vec s = v_set(g[i]);
            ALL_VECS for (int q = 0; q < vectors; q++) sum[i][q] += s * b[q];
        }
    }
    ALL_ROWS for (int i = 0; i < m; i++)
        ALL_VECS for (int q = 0; q < vectors; q++) out[i][q] = sum[i][q];
}

#define OUTER(M, V) outer_tile(M, V, count, g, g_width, x, sums)
static void any_outer_tile(long m, long vectors, long count, const REAL *g, long g_width, const REAL *x, REAL *out,
                           long out_row, int rest, int add) {
    vec sums[TILE_ROWS][TILE_VECS];
    FOR_SIZE(OUTER)
    for (long i = 0; i < m; i++)
        for (long q = 0; q < vectors; q++) {
            REAL *to = out + i * out_row + q * LANES;
            if (q < vectors - 1 || rest == LANES) v_store(to, add ? v_load(to) + sums[i][q] : sums[i][q]);
            else v_store_partial(to, add ? v_load_partial(to, rest) + sums[i][q] : sums[i][q], rest);
        }
}

/* out (n1 - n0 rows of K) = or += sum over rows r of g[r][n] x[r][k], for n0 <= n < n1. Blocks of both are copied side
   by side first, since rows that lie a power of two apart fall on the same lines of the cache. */
static void outer_product(const REAL *g, long g_row, const REAL *x, long x_row, long rows, REAL *out, long K, long n0,
                          long n1, int add) {
    BLOCK_MEMORY REAL gs[BLOCK_ROWS * BLOCK_LEFT] __attribute__((aligned(64)));
    BLOCK_MEMORY REAL xs[BLOCK_ROWS * TILE_VECS * LANES] __attribute__((aligned(64)));
    const long panels = panels_of(K);
    for (long r0 = 0; r0 < rows; r0 += BLOCK_ROWS) {
        const long count = rows - r0 < BLOCK_ROWS ? rows - r0 : BLOCK_ROWS;
        const int more = add || r0 > 0;
        for (long b0 = n0; b0 < n1; b0 += BLOCK_LEFT) {
            const long width = n1 - b0 < BLOCK_LEFT ? n1 - b0 : BLOCK_LEFT;
            for (long r = 0; r < count; r++) memcpy(gs + r * width, g + (r0 + r) * g_row + b0, width * sizeof(REAL));
            for (long p = 0; p < panels; p++) {
                const long from = panel_start(K, p), vectors = panel_start(K, p + 1) - from, k = from * LANES;
                const long columns = K - k < vectors * LANES ? K - k : vectors * LANES, padded = vectors * LANES;
                for (long r = 0; r < count; r++) {
                    memcpy(xs + r * padded, x + (r0 + r) * x_row + k, columns * sizeof(REAL));
                    for (long c = columns; c < padded; c++) xs[r * padded + c] = 0;
                }
                const long tiles = (width + TILE_ROWS - 1) / TILE_ROWS;
                for (long i = 0; i < tiles; i++) {
                    const long n = width * i / tiles, m = width * (i + 1) / tiles - n;
                    any_outer_tile(m, vectors, count, gs + n, width, xs, out + (b0 + n) * K + k, K,
                                   (int)(columns - (vectors - 1) * LANES), more);
                }
            }
        }
    }
}

/* out[n] = or += sum over rows of x[row][n], for n0 <= n < n1. */
static void column_sums(const REAL *x, long row, long rows, REAL *out, long n0, long n1, int add) {
    if (!add) for (long n = n0; n < n1; n++) out[n] = 0;
    for (long r = 0; r < rows; r++, x += row) {
        long n = n0;
        for (; n + LANES <= n1; n += LANES) v_store(out + n, v_load(out + n) + v_load(x + n));
        for (; n < n1; n++) out[n] += x[n];
    }
}

const struct kernels *kernels(void) {
    static const struct kernels all = {product, outer_product, column_sums, pack};
    return &all;
}
