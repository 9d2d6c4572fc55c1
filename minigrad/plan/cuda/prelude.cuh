/* What every kernel of a plan calls. REAL is float or double. */
#ifndef NAN
#define NAN __int_as_float(0x7fc00000)
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifdef __CUDACC_RTC__ /* compiled at run time, without the headers of the host */
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif
#undef INT64_C
#undef INT64_MAX
#define INT64_C(n) ((int64_t)n##LL)
#define INT64_MAX ((int64_t)0x7fffffffffffffffLL)
typedef long long rows_t;
#define INLINE __device__ __forceinline__

/* --- what is computed element by element: here a vector is one number */

typedef REAL vec;
typedef bool mask;
#define LOAD(from) (*(from))
#define STORE(to, value) (*(to) = (value))
#define VM(of_float, of_double) of_double /* a name of C++ is of both */

INLINE REAL v_set(REAL a) { return a; }
INLINE REAL v_select(bool condition, REAL a, REAL b) { return condition ? a : b; }
INLINE REAL v_max(REAL a, REAL b) { return a > b || a != a ? a : b; }
INLINE REAL v_min(REAL a, REAL b) { return a < b || a != a ? a : b; }
INLINE REAL v_tanh(REAL a) { return tanh(a); }
INLINE REAL v_sigmoid(REAL a) { return (REAL)1 / ((REAL)1 + exp(-a)); }
INLINE REAL v_softplus(REAL a) { return v_max(a, (REAL)0) + log1p(exp(-fabs(a))); }
INLINE REAL v_sign(REAL a) { return a != a ? a : (REAL)((a > 0) - (a < 0)); }
INLINE REAL v_exp(REAL a) { return exp(a); }
INLINE REAL v_expm1(REAL a) { return expm1(a); }
INLINE REAL v_log(REAL a) { return log(a); }
INLINE REAL v_log1p(REAL a) { return log1p(a); }
INLINE REAL v_sqrt(REAL a) { return sqrt(a); }
INLINE REAL v_sin(REAL a) { return sin(a); }
INLINE REAL v_cos(REAL a) { return cos(a); }
INLINE REAL v_abs(REAL a) { return fabs(a); }

/* --- reductions of a row, by all threads of a block; each of them gets the result. Rows may be of narrow numbers. */

struct Sum {
    static __device__ __forceinline__ REAL none() { return 0; }
    static __device__ __forceinline__ REAL both(REAL a, REAL b) { return a + b; }
};
struct Max {
    static __device__ __forceinline__ REAL none() { return -(REAL)INFINITY; }
    static __device__ __forceinline__ REAL both(REAL a, REAL b) { return v_max(a, b); }
};
struct Min {
    static __device__ __forceinline__ REAL none() { return (REAL)INFINITY; }
    static __device__ __forceinline__ REAL both(REAL a, REAL b) { return v_min(a, b); }
};

/* One value of each thread, over the block, whose threads are whole warps. */
template <class Over> __device__ REAL across_block(REAL a) {
    __shared__ REAL warps[32];
    for (int offset = 16; offset; offset /= 2) a = Over::both(a, __shfl_xor_sync(0xffffffffu, a, offset));
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = a;
    __syncthreads();
    a = warps[0];
    for (int warp = 1; warp < blockDim.x / 32; warp++) a = Over::both(a, warps[warp]);
    __syncthreads(); /* before the next reduction writes there */
    return a;
}

template <class Over, class T> __device__ REAL over_row(const T *x, int count) {
    REAL a = Over::none();
    for (int j = threadIdx.x; j < count; j += blockDim.x) a = Over::both(a, x[j]);
    return across_block<Over>(a);
}

template <class T> __device__ REAL block_sum(const T *x, int count) { return over_row<Sum>(x, count); }
template <class T> __device__ REAL block_mean(const T *x, int count) { return over_row<Sum>(x, count) / count; }
template <class T> __device__ REAL block_max(const T *x, int count) { return over_row<Max>(x, count); }
template <class T> __device__ REAL block_min(const T *x, int count) { return over_row<Min>(x, count); }

/* The largest element, or 0 if that is not finite, and the sum of exp(x - shift). */
template <class T> __device__ REAL block_shift(const T *x, int count) {
    const REAL most = block_max(x, count);
    return most - most == 0 ? most : (REAL)0;
}

template <class T> __device__ REAL block_exp_sum(const T *x, int count, REAL shift) {
    REAL sum = 0;
    for (int j = threadIdx.x; j < count; j += blockDim.x) sum += exp(x[j] - shift);
    return across_block<Sum>(sum);
}

template <class T> __device__ REAL block_logsumexp(const T *x, int count) {
    const REAL shift = block_shift(x, count), sum = block_exp_sum(x, count, shift);
    return log(sum) + shift;
}

template <class T> __device__ void block_softmax(const T *x, REAL *y, int count) {
    const REAL most = block_max(x, count), sum = block_exp_sum(x, count, most);
    for (int j = threadIdx.x; j < count; j += blockDim.x) y[j] = exp(x[j] - most) / sum;
}

template <class T> __device__ void block_log_softmax(const T *x, REAL *y, int count) {
    const REAL most = block_max(x, count), sum = block_exp_sum(x, count, most);
    for (int j = threadIdx.x; j < count; j += blockDim.x) y[j] = x[j] - most - log(sum);
}

/* --- the same by one thread, for operations on parts of a row: see native/operations.py */

template <class A, class B> INLINE REAL row_dot(const A *a, const B *b, int count) {
    REAL sum = 0;
    for (int j = 0; j < count; j++) sum += a[j] * b[j];
    return sum;
}

template <class T> INLINE REAL row_sum(const T *x, int count) {
    REAL sum = 0;
    for (int j = 0; j < count; j++) sum += x[j];
    return sum;
}

template <class T> INLINE REAL row_max(const T *x, int count) {
    REAL most = x[0];
    for (int j = 1; j < count; j++) most = v_max(most, x[j]);
    return most;
}

template <class T> INLINE REAL row_min(const T *x, int count) {
    REAL least = x[0];
    for (int j = 1; j < count; j++) least = v_min(least, x[j]);
    return least;
}

template <class T> INLINE REAL row_logsumexp(const T *x, int count) {
    const REAL most = row_max(x, count), shift = most - most == 0 ? most : (REAL)0;
    REAL sum = 0;
    for (int j = 0; j < count; j++) sum += exp(x[j] - shift);
    return log(sum) + shift;
}

template <class T> INLINE void row_softmax(const T *x, REAL *y, int count) {
    const REAL most = row_max(x, count);
    REAL sum = 0;
    for (int j = 0; j < count; j++) sum += exp(x[j] - most);
    for (int j = 0; j < count; j++) y[j] = exp(x[j] - most) / sum;
}

template <class T> INLINE void row_log_softmax(const T *x, REAL *y, int count) {
    const REAL most = row_max(x, count);
    REAL sum = 0;
    for (int j = 0; j < count; j++) sum += exp(x[j] - most);
    for (int j = 0; j < count; j++) y[j] = x[j] - most - log(sum);
}

/* An index that may count from the end. One that is out of range is noted, and 0 taken instead. */
INLINE long row_index(int64_t index, long size, int64_t *out_of_range) {
    if (index < 0) index += size;
    if (index >= 0 && index < size) return (long)index;
    *out_of_range = 1;
    return 0;
}
