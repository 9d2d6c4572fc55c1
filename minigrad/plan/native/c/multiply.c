/* A product of two matrices that lie as they were given, spread over threads. */

#define FEW_ROWS 128

struct factors {
    const REAL *a, *b; /* element (m, k) of a at a[m * a_row + k * a_column], and so with (k, n) of b */
    long a_row, a_column, b_row, b_column;
    long M, K, N;
    REAL *packed, *out; /* room for b by panels, or NULL; the product, (M, N) without gaps */
};

static void pack_right(void *context, int worker, int workers) {
    struct factors *of = context;
    pack(of->b, of->b_row, of->b_column, of->K, of->N, of->packed, worker, workers);
}

static void some_rows(void *context, int worker, int workers) {
    struct factors *of = context;
    const REAL *from[FEW_ROWS];
    REAL *to[FEW_ROWS];
    const long end = of->M * (worker + 1) / workers;
    for (long m = of->M * worker / workers; m < end;) {
        long rows = 0;
        for (; m < end && rows < FEW_ROWS; m++, rows++) {
            from[rows] = of->a + m * of->a_row;
            to[rows] = of->out + m * of->N;
        }
        product(from, to, rows, of->K, of->N, of->packed);
    }
}

static void some_sums(void *context, int worker, int workers) {
    struct factors *of = context;
    const long from = of->M * worker / workers, to = of->M * (worker + 1L) / workers;
    outer_product(of->a, of->a_column, of->b, of->b_row, of->K, of->out, of->N, from, to, 0);
}

/* With room for b's panels, a's rows must have no gaps; without, a's columns and b's rows. */
void multiply(struct factors *of, void (*run)(void (*task)(void *, int, int), void *, int), int workers) {
    if (of->packed) {
        run(pack_right, of, workers);
        run(some_rows, of, workers);
    } else run(some_sums, of, workers);
}
