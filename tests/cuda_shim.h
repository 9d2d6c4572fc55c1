/* Just enough of CUDA to run a plan's kernels on a CPU, block after block. A block's threads are coroutines that run one
 * after the other up to the next barrier; every second time in the opposite order, so that a missing barrier shows. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static

static float __uint_as_float(uint32_t bits) { float a; memcpy(&a, &bits, 4); return a; }
static uint32_t __float_as_uint(float a) { uint32_t bits; memcpy(&bits, &a, 4); return bits; }

/* float16, which the device converts by an instruction: to nearest, ties to even. */
static float float16_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    return bits >> 15 ? -size : size;
}
static uint16_t float16_bits(float a) {
    const uint16_t sign = (uint16_t)(__float_as_uint(a) >> 16 & 0x8000);
    if (a != a) return 0x7fff;
    if (a == 0) return sign;
    int exponent;
    const float size = fabsf(a);
    frexpf(size, &exponent);
    const int unit = exponent > -13 ? exponent - 11 : -24; /* the last place of a number of this size is 2 to this */
    if (size >= 65520) return sign | 0x7c00;
    const int whole = (int)rintf(ldexpf(size, -unit));     /* nearest, ties to even; may reach the next exponent */
    return sign | (uint16_t)(unit == -24 ? whole : ((unit + 24) << 10) + whole);
}

struct dim { int x; };
static dim threadIdx, blockIdx, blockDim, gridDim;

static const int MOST_THREADS = 1024, STACK = 32768;
static ucontext_t scheduler, threads[MOST_THREADS];
static char *stacks = (char *)malloc((size_t)MOST_THREADS * STACK);
static bool done[MOST_THREADS];
static double exchanged[MOST_THREADS];
static void (*body)(void);

static void __syncthreads() { swapcontext(&threads[threadIdx.x], &scheduler); }

static double __shfl_xor_sync(unsigned mask, double value, int lane) {
    const int me = threadIdx.x;
    exchanged[me] = value;
    __syncthreads();
    const double found = exchanged[me ^ lane];
    __syncthreads();
    return found;
}

static void thread_main() {
    body();
    done[threadIdx.x] = true;
    swapcontext(&threads[threadIdx.x], &scheduler);
}

/* All threads of all blocks. Without barriers they need no stacks of their own. */
static void run_grid(int blocks, int count, bool barriers, void (*kernel)(void)) {
    body = kernel;
    gridDim.x = blocks;
    blockDim.x = count;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        if (!barriers) {
            for (threadIdx.x = 0; threadIdx.x < count; threadIdx.x++) kernel();
            continue;
        }
        for (int t = 0; t < count; t++) {
            getcontext(&threads[t]);
            threads[t].uc_stack.ss_sp = stacks + (size_t)t * STACK;
            threads[t].uc_stack.ss_size = STACK;
            threads[t].uc_link = &scheduler;
            makecontext(&threads[t], thread_main, 0);
            done[t] = false;
        }
        for (int round = 0, left = count; left; round++)
            for (int n = 0; n < count; n++) {
                threadIdx.x = round % 2 ? count - 1 - n : n;
                if (done[threadIdx.x]) continue;
                swapcontext(&scheduler, &threads[threadIdx.x]);
                left -= done[threadIdx.x];
            }
    }
}
