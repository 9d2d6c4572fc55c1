// Applies each function of vector_math.h to arrays, and measures its error against the C library in a wider type.
// Compiled by tests/test_native_math.py and benchmarks/vector_math.py, with REAL and VECTOR_BYTES defined.
#include <float.h>
#include <math.h>
#include <string.h>

#include "vector_math.h"

#if REAL_BITS == 32
typedef double wide;
#define WIDE(name) name
#define SMALLEST_EXPONENT (FLT_MIN_EXP - 1)
#define DIGITS FLT_MANT_DIG
#define LARGEST_EXPONENT FLT_MAX_EXP
#else
typedef long double wide;
#define WIDE(name) name##l
#define SMALLEST_EXPONENT (DBL_MIN_EXP - 1)
#define DIGITS DBL_MANT_DIG
#define LARGEST_EXPONENT DBL_MAX_EXP
#endif

static wide wide_exp(wide x) { return WIDE(exp)(x); }
static wide wide_expm1(wide x) { return WIDE(expm1)(x); }
static wide wide_tanh(wide x) { return WIDE(tanh)(x); }
static wide wide_log(wide x) { return WIDE(log)(x); }
static wide wide_log1p(wide x) { return WIDE(log1p)(x); }
static wide wide_sin(wide x) { return WIDE(sin)(x); }
static wide wide_cos(wide x) { return WIDE(cos)(x); }
static wide wide_sqrt(wide x) { return WIDE(sqrt)(x); }
static wide wide_abs(wide x) { return WIDE(fabs)(x); }

static wide wide_sign(wide x) { return x > 0 ? 1 : x < 0 ? -1 : x + 0; }

static wide wide_sigmoid(wide x) {
    wide e = WIDE(exp)(-WIDE(fabs)(x));
    return (x < 0 ? e : 1) / (1 + e);
}

static wide wide_softplus(wide x) { return (x > 0 ? x : x == x ? 0 : x) + WIDE(log1p)(WIDE(exp)(-WIDE(fabs)(x))); }

#define FUNCTIONS(each) \
    each(exp) each(expm1) each(tanh) each(sigmoid) each(log) each(log1p) each(softplus) each(sin) each(cos) \
        each(sqrt) each(abs) each(sign)

// Whole vectors, then the rest as a part of one.
#define APPLY(name) \
    static void apply_##name(const REAL *x, REAL *y, long count) { \
        long i = 0; \
        for (; i + LANES <= count; i += LANES) v_store(y + i, v_##name(v_load(x + i))); \
        if (i < count) v_store_partial(y + i, v_##name(v_load_partial(x + i, (int)(count - i))), (int)(count - i)); \
    }
FUNCTIONS(APPLY)

static const struct {
    const char *name;
    void (*apply)(const REAL *x, REAL *y, long count);
    wide (*exact)(wide);
} functions[] = {
#define ROW(name) {#name, apply_##name, wide_##name},
    FUNCTIONS(ROW)
};

int find(const char *name) {
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name)) return (int)i;
    return -1;
}

void apply(int function, const REAL *x, REAL *y, long count) { functions[function].apply(x, y, count); }

void apply_max(const REAL *a, const REAL *b, REAL *y, long count) {
    for (long i = 0; i + LANES <= count; i += LANES) v_store(y + i, v_max(v_load(a + i), v_load(b + i)));
}

void apply_min(const REAL *a, const REAL *b, REAL *y, long count) {
    for (long i = 0; i + LANES <= count; i += LANES) v_store(y + i, v_min(v_load(a + i), v_load(b + i)));
}

void apply_any_positive(const REAL *x, int *y, long vectors) {
    for (long i = 0; i < vectors; i++) y[i] = v_any(v_load(x + i * LANES) > 0);
}

void apply_sum(const REAL *x, REAL *y, long vectors) {
    for (long i = 0; i < vectors; i++) y[i] = v_sum(v_load(x + i * LANES));
}

int lanes(void) { return LANES; }

// The error of `got` in ulp of the exact result. A wrong NaN or a wrong sign of a zero counts as infinite;
// infinity counts as the next number after the largest.
static double ulp_error(REAL got, wide exact) {
    REAL right = (REAL)exact;
    if (right != right || got != got) return right != right && got != got ? 0 : INFINITY;
    if (got == right && (got == 0 || isinf(got))) return signbit(got) == signbit(right) ? 0 : INFINITY;
    wide largest = WIDE(ldexp)(1, LARGEST_EXPONENT);
    wide y = isinf(got) ? WIDE(copysign)(largest, got) : got;
    if (WIDE(fabs)(exact) > largest) exact = WIDE(copysign)(largest, exact);
    int exponent = exact == 0 ? SMALLEST_EXPONENT : (int)WIDE(logb)(exact);
    if (exponent < SMALLEST_EXPONENT) exponent = SMALLEST_EXPONENT;
    return (double)WIDE(ldexp)(WIDE(fabs)(y - exact), DIGITS - 1 - exponent);
}

// The largest error over the array, and where.
double worst(int function, const REAL *x, long count, REAL *where) {
    double largest = -1;
    enum { BLOCK = 1024 };
    for (long done = 0; done < count; done += BLOCK) {
        REAL y[BLOCK];
        long n = count - done < BLOCK ? count - done : BLOCK;
        functions[function].apply(x + done, y, n);
        for (long i = 0; i < n; i++) {
            double error = ulp_error(y[i], functions[function].exact(x[done + i]));
            if (error > largest) largest = error, *where = x[done + i];
        }
    }
    return largest;
}

#if REAL_BITS == 32
// The largest error over the floats whose bits are first, first + stride, ...
double worst_of_all(int function, uint64_t first, uint64_t stride, float *where) {
    double largest = -1;
    enum { BLOCK = 1024 };
    for (uint64_t pattern = first; pattern <= UINT32_MAX;) {
        float x[BLOCK], at;
        int n = 0;
        for (; n < BLOCK && pattern <= UINT32_MAX; n++, pattern += stride) {
            uint32_t half = (uint32_t)pattern;
            memcpy(x + n, &half, sizeof half);
        }
        double error = worst(function, x, n, &at);
        if (error > largest) largest = error, *where = at;
    }
    return largest;
}
#endif
