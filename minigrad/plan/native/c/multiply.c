/* A product of two matrices that lie as they were given, spread over threads.

   Whichever way it is computed, each element is a sum of sums of BLOCK_ROWS products, in order: how matrices lie, and how
   many threads there are, does not change a bit. */

#define PART_ROWS 128
#define MANY_ROWS 256 /* for each worker */

struct factors {
    const REAL *a, *b; /* element (m, k) of a at a[m * a_row + k * a_column], and so with (k, n) of b */
    long a_row, a_column, b_row, b_column;
    long M, K, N;
    REAL *out; /* (M, N) without gaps */
};

/* Rows m0..m1-1 of a by `columns` columns of b from n on, which are at most those of a panel, of which K0..K1-1 are
   packed; added to what is there if K0 is not 0. */
static void rows_by_panel(const struct factors *of, long m0, long m1, long k0, long k1, long n, long columns,
                          const REAL *packed) {
    BLOCK_MEMORY REAL sums[PART_ROWS * TILE_VECS * LANES] __attribute__((aligned(64)));
    const REAL *from[PART_ROWS];
    REAL *to[PART_ROWS];
    for (long m = m0; m < m1; m += PART_ROWS) {
        const long rows = m1 - m < PART_ROWS ? m1 - m : PART_ROWS;
        for (long r = 0; r < rows; r++) {
            from[r] = of->a + (m + r) * of->a_row + k0;
            to[r] = k0 ? sums + r * columns : of->out + (m + r) * of->N + n;
        }
        product(from, to, rows, k1 - k0, columns, packed);
        for (long r = 0; k0 && r < rows; r++) {
            REAL *out = of->out + (m + r) * of->N + n;
            for (long c = 0; c < columns; c++) out[c] += to[r][c];
        }
    }
}

static inline long within(long x, long most) { return x < 0 ? 0 : x < most ? x : most; }

/* A worker's share, by panels of b, which it packs for itself, a block of K at a time. Of many rows it has some by all
   panels. Of few it has all by some panels, for packing takes long then; or of a panel some parts, if they do not come
   out even. */
static void some_panels(void *context, int worker, int workers) {
    const struct factors *of = context;
    BLOCK_MEMORY REAL packed[BLOCK_ROWS * TILE_VECS * LANES] __attribute__((aligned(64)));
    const long panels = panels_of(of->N);
    const int by_rows = of->M >= MANY_ROWS * workers;
    for (long panel = 0; panel < panels; panel++) {
        const long from = by_rows ? worker : within(panels * worker - panel * workers, workers);
        const long to = by_rows ? worker + 1 : within(panels * (worker + 1) - panel * workers, workers);
        const long m0 = of->M * from / workers, m1 = of->M * to / workers;
        const long n = panel_start(of->N, panel) * LANES, end = panel_start(of->N, panel + 1) * LANES;
        const long columns = (end < of->N ? end : of->N) - n;
        if (m0 == m1) continue;
        for (long k0 = 0; k0 < of->K; k0 += BLOCK_ROWS) {
            const long k1 = k0 + BLOCK_ROWS < of->K ? k0 + BLOCK_ROWS : of->K;
            pack(of->b + k0 * of->b_row + n * of->b_column, of->b_row, of->b_column, k1 - k0, columns, packed, 0, 1);
            rows_by_panel(of, m0, m1, k0, k1, n, columns, packed);
        }
    }
}

static void some_sums(void *context, int worker, int workers) {
    const struct factors *of = context;
    const long from = of->M * worker / workers, to = of->M * (worker + 1L) / workers;
    outer_product(of->a, of->a_column, of->b, of->b_row, of->K, of->out, of->N, from, to, 0);
}

/* The rows of a must have no gaps; or, if `by_sums`, a's columns and b's rows. */
void multiply(struct factors *of, int by_sums, void (*run)(void (*task)(void *, int, int), void *, int), int workers) {
    run(by_sums ? some_sums : some_panels, of, workers);
}
