/* Numbers of 16 bits: read as float, and rounded to nearest, ties to even, when they are put down. Too large a number
 * becomes infinite. Without CUDA's headers of these types, which NVRTC may not find. */
struct bfloat16 {
    uint16_t bits;
    INLINE operator float() const { return __uint_as_float((uint32_t)bits << 16); }
    INLINE void operator=(float a) {
        const uint32_t all = __float_as_uint(a);
        bits = (uint16_t)(a != a ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16);
    }
};

#ifdef __CUDACC__
INLINE uint16_t float16_bits(float a) {
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(a));
    return bits;
}
INLINE float float16_value(uint16_t bits) {
    float a;
    asm("cvt.f32.f16 %0, %1;" : "=f"(a) : "h"(bits));
    return a;
}
#endif

struct float16 {
    uint16_t bits;
    INLINE operator float() const { return float16_value(bits); }
    INLINE void operator=(float a) { bits = float16_bits(a); }
};

extern "C" __global__ void narrow(const float *from, STORAGE *to, rows_t first, rows_t rows) {
    const rows_t i = first + (rows_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < first + rows) to[i] = from[i];
}

extern "C" __global__ void widen(const STORAGE *from, float *to, rows_t first, rows_t rows) {
    const rows_t i = first + (rows_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < first + rows) to[i] = from[i];
}
