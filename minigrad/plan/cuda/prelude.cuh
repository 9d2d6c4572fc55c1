/* What every kernel of a plan calls. REAL is float or double. */
#ifndef NAN
#define NAN __int_as_float(0x7fc00000)
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
typedef long long rows_t;

__device__ __forceinline__ REAL larger(REAL a, REAL b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ REAL smaller(REAL a, REAL b) { return a < b || a != a ? a : b; }
__device__ __forceinline__ REAL sigmoid(REAL a) { return (REAL)1 / ((REAL)1 + exp(-a)); }
__device__ __forceinline__ REAL softplus(REAL a) { return larger(a, (REAL)0) + log1p(exp(-fabs(a))); }
__device__ __forceinline__ REAL sign(REAL a) { return a != a ? a : (REAL)((a > 0) - (a < 0)); }

/* --- reductions of a row, by all threads of a block; each of them gets the result */

struct Sum {
    static __device__ __forceinline__ REAL none() { return 0; }
    static __device__ __forceinline__ REAL both(REAL a, REAL b) { return a + b; }
};
struct Max {
    static __device__ __forceinline__ REAL none() { return -(REAL)INFINITY; }
    static __device__ __forceinline__ REAL both(REAL a, REAL b) { return larger(a, b); }
};
struct Min {
    static __device__ __forceinline__ REAL none() { return (REAL)INFINITY; }
    static __device__ __forceinline__ REAL both(REAL a, REAL b) { return smaller(a, b); }
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

template <class Over> __device__ REAL over_row(const REAL *x, int count) {
    REAL a = Over::none();
    for (int j = threadIdx.x; j < count; j += blockDim.x) a = Over::both(a, x[j]);
    return across_block<Over>(a);
}

__device__ REAL row_sum(const REAL *x, int count) { return over_row<Sum>(x, count); }
__device__ REAL row_mean(const REAL *x, int count) { return over_row<Sum>(x, count) * ((REAL)1 / count); }
__device__ REAL row_max(const REAL *x, int count) { return over_row<Max>(x, count); }
__device__ REAL row_min(const REAL *x, int count) { return over_row<Min>(x, count); }

/* The largest element, or 0 if that is not finite, and the sum of exp(x - shift). */
__device__ REAL row_shift(const REAL *x, int count) {
    const REAL most = row_max(x, count);
    return most - most == 0 ? most : (REAL)0;
}

__device__ REAL row_exp_sum(const REAL *x, int count, REAL shift) {
    REAL sum = 0;
    for (int j = threadIdx.x; j < count; j += blockDim.x) sum += exp(x[j] - shift);
    return across_block<Sum>(sum);
}

__device__ REAL row_logsumexp(const REAL *x, int count) {
    const REAL shift = row_shift(x, count), sum = row_exp_sum(x, count, shift);
    return log(sum) + shift;
}

__device__ void row_softmax(const REAL *x, REAL *y, int count) {
    const REAL most = row_max(x, count), sum = row_exp_sum(x, count, most);
    for (int j = threadIdx.x; j < count; j += blockDim.x) y[j] = exp(x[j] - most) / sum;
}

__device__ void row_log_softmax(const REAL *x, REAL *y, int count) {
    const REAL most = row_max(x, count), sum = row_exp_sum(x, count, most);
    for (int j = threadIdx.x; j < count; j += blockDim.x) y[j] = x[j] - most - log(sum);
}
