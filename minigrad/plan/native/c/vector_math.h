// Vectors of REAL (float or double) and elementary functions on them, by the vector extensions of GCC and Clang.
//
//     #define REAL float          // or double
//     #define VECTOR_BYTES 32     // 16, 32 or 64; left out: what the target has
//     #include "vector_math.h"
//
// Every function takes and returns whole vectors, keeps NaN, infinities and the signs of zeros as NumPy does, and has
// no branch that depends on values but sin's and cos's for very large arguments. Compile without -ffast-math: the code
// relies on the order of its additions. Contraction to FMA is welcome and not needed.
//
// Largest error in ulp of the exact result, over all 2^32 floats (benchmarks/vector_math.py --exhaustive):
//
//     exp 1.05    expm1 1.55    tanh 2.54    sigmoid 2.56    log 0.84    log1p 0.84    softplus 1.71
//     sin 2.48    cos 2.39      sqrt 0.50    abs, sign, max, min exact
//
// That is GCC 12 with AVX-512 and FMA; tests hold other widths, doubles, and code without FMA to 3 ulp. There, on a Zen
// 4 at 3.7 GHz, a float takes 0.24 ns in tanh, 0.30 in sigmoid and 0.29 in exp; a double 0.64, 0.77 and 0.77.
//
// Methods: arguments are reduced with constants split in parts (Cody and Waite, Software Manual for the Elementary
// Functions, 1980; Muller, Elementary Functions, 3rd ed., chapter 11), the rest is a polynomial that
// benchmarks/vector_math_fit.py derives.
#ifndef MINIGRAD_VECTOR_MATH_H
#define MINIGRAD_VECTOR_MATH_H

#include <stdint.h>

#ifndef REAL
#error "define REAL as float or double"
#endif
#ifndef VECTOR_BYTES
#if defined __AVX512F__
#define VECTOR_BYTES 64
#elif defined __AVX__
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#endif

#define VM_BITS_float 32
#define VM_BITS_double 64
#define VM_JOIN(a, b) a##b
#define VM_BITS(real) VM_JOIN(VM_BITS_, real)
#define REAL_BITS VM_BITS(REAL)
#define LANES (VECTOR_BYTES / (int)sizeof(REAL))
#define VM_INLINE static inline __attribute__((always_inline, unused))

#if REAL_BITS == 32
#define VM_INT int32_t
#define VM_UINT uint32_t
#define VM(of_float, of_double) of_float
#else
#define VM_INT int64_t
#define VM_UINT uint64_t
#define VM(of_float, of_double) of_double
#endif

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL))));
// What a comparison of vectors gives: all bits of a lane set, or none.
typedef VM_INT mask __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL))));
// The bits of the lanes. Unsigned: shifts are logical, sums wrap.
typedef VM_UINT bits __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL))));

#define VM_SIGN ((VM_UINT)1 << (REAL_BITS - 1))
#define VM_MANTISSA VM(23, 52)        // bits of the mantissa
#define VM_BIAS VM(127, 1023)         // of the exponent
#define VM_INTEGER VM(0x1.8p23f, 0x1.8p52) // x + this: x rounded to an integer, in the low bits of the mantissa
#define VM_INTEGER_BITS VM(0x4b400000u, 0x4338000000000000u)
#define VM_LOG2_E VM(0x1.715476p0f, 0x1.71547652b82fep0)
#define VM_HALF_LN2 VM(0x1.62e43p-2f, 0x1.62e42fefa39efp-2)
#define VM_LN2_HIGH VM(0x1.62ep-1f, 0x1.62e42fefa2p-1) // times any exponent: exact
#define VM_LN2_LOW VM(0x1.0bfbe8p-15f, 0x1.9ef35793c7673p-41)

// ---- loads, stores, selection --------------------------------------------------------------------------------------

// The same number in every lane. (x - 0 is x, also for -0.)
VM_INLINE vec v_set(REAL x) { return x - (vec){0}; }

VM_INLINE vec v_load(const REAL *from) { return *(const vec *)from; }

VM_INLINE void v_store(REAL *to, vec x) { *(vec *)to = x; }

// The first `count` lanes, the others 0. Fast where `count` is a constant; memory behind them is not touched.
VM_INLINE vec v_load_partial(const REAL *from, int count) {
    vec x = {0};
    __builtin_memcpy(&x, from, (unsigned)count * sizeof(REAL));
    return x;
}

VM_INLINE void v_store_partial(REAL *to, vec x, int count) {
    __builtin_memcpy(to, &x, (unsigned)count * sizeof(REAL));
}

// a where the mask is set, b elsewhere.
VM_INLINE vec v_select(mask m, vec a, vec b) { return (vec)((m & (mask)a) | (~m & (mask)b)); }

// Whether a lane of the mask is set.
VM_INLINE int v_any(mask m) {
    VM_INT all = 0;
    for (int i = 0; i < LANES; i++) all |= m[i];
    return all != 0;
}

// The sum of the lanes.
VM_INLINE REAL v_sum(vec x) {
    REAL part[LANES];
    __builtin_memcpy(part, &x, sizeof part);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

VM_INLINE vec v_abs(vec x) { return (vec)((bits)x & ~VM_SIGN); }

// |x| with the sign of `sign`, for x >= 0.
VM_INLINE vec vm_with_sign(vec x, vec sign) { return (vec)((bits)x | ((bits)sign & VM_SIGN)); }

// NaN where a or b is NaN.
VM_INLINE vec v_max(vec a, vec b) { return v_select((a > b) | (a != a), a, b); }

VM_INLINE vec v_min(vec a, vec b) { return v_select((a < b) | (a != a), a, b); }

// x limited from one side; NaN stays.
VM_INLINE vec vm_at_least(vec x, REAL low) { return v_select(x < low, v_set(low), x); }

VM_INLINE vec vm_at_most(vec x, REAL high) { return v_select(x > high, v_set(high), x); }

// -1, 0 (also for -0) or 1; NaN for NaN.
VM_INLINE vec v_sign(vec x) { return v_select(x > 0, v_set(1), v_select(x < 0, v_set(-1), x + 0)); }

VM_INLINE vec v_sqrt(vec x) {
    vec y;
    for (int i = 0; i < LANES; i++) y[i] = VM(__builtin_sqrtf, __builtin_sqrt)(x[i]);
    return y;
}

// ---- polynomials ---------------------------------------------------------------------------------------------------

// vm_exp_rest: (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2
// vm_tanh_rest: (tanh(w) - w) / w^3 by powers of w^2, for |w| <= ln(2) / 4
// vm_half_tanh_rest: (2 tanh(r / 2) - r) / r^3 by powers of r^2, for |r| <= ln(2) / 2
// vm_log_rest: (log((1 + s) / (1 - s)) / s - 2) / s^2 by powers of s^2, for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
// vm_sin_rest: (sin(r) - r) / r^3 by powers of r^2, for |r| <= pi / 4
// vm_cos_rest: (cos(r) - 1 + r^2 / 2) / r^4 by powers of r^2, for |r| <= pi / 4
#if REAL_BITS == 32
static const REAL vm_exp_rest[] = {
    0.5f, 0.166665435f, 0.0416664556f, 0.00836653728f, 0.00139358209f};
static const REAL vm_tanh_rest[] = {
    -0.33331275f, 0.131107375f};
static const REAL vm_half_tanh_rest[] = {
    -0.0833281875f, 0.00819421094f};
static const REAL vm_log_rest[] = {
    0.666667759f, 0.399775803f, 0.298709273f};
static const REAL vm_sin_rest[] = {
    -0.166666552f, 0.00833219197f, -0.000195187866f};
static const REAL vm_cos_rest[] = {
    0.0416666456f, -0.0013887306f, 2.44317616e-05f};
#else
static const REAL vm_exp_rest[] = {
    0.50000000000000056, 0.16666666666666682, 0.041666666666573628, 0.008333333333317228, 0.0013888888932376865,
    0.00019841269896780152, 2.4801504448464966e-05, 2.7557233909690007e-06, 2.7626325560430402e-07,
    2.5112495252946176e-08};
static const REAL vm_tanh_rest[] = {
    -0.33333333333332488, 0.13333333332784991, -0.053968252783904873, 0.021869370840611857,
    -0.0088573125833502318, 0.0034448807926508907};
static const REAL vm_half_tanh_rest[] = {
    -0.083333333333331219, 0.0083333333329906195, -0.00084325394974851364, 8.5427229846140066e-05,
    -8.6497193196779608e-06, 8.4103534976828385e-07};
static const REAL vm_log_rest[] = {
    0.66666666666667351, 0.39999999999410685, 0.28571428743168736, 0.22222198500274415, 0.18183567856374713,
    0.15313964925413695, 0.14796772535711503};
static const REAL vm_sin_rest[] = {
    -0.16666666666666632, 0.0083333333333224877, -0.00019841269829855201, 2.7557313705750119e-06,
    -2.5050759998521749e-08, 1.589689277861194e-10};
static const REAL vm_cos_rest[] = {
    0.041666666666666602, -0.0013888888888874474, 2.4801587289671029e-05, -2.7557314400687875e-07,
    2.0875729206294309e-09, -1.1359928908059178e-11};
#endif

// c[0] + c[1] x + ..., by Horner's rule; with constants of a constant array it is straight code.
VM_INLINE vec vm_polynomial(vec x, const REAL *c, int count) {
    vec y = v_set(c[count - 1]);
    for (int i = count - 2; i >= 0; i--) y = y * x + c[i];
    return y;
}

#define VM_POLYNOMIAL(x, c) vm_polynomial(x, c, (int)(sizeof(c) / sizeof(*c)))

// ---- exponentials --------------------------------------------------------------------------------------------------

// x = n ln 2 + r with an integer n and |r| <= ln(2) / 2. Returns exp(r) - 1; the low bits of *power are n + offset.
VM_INLINE vec vm_exp_reduced(vec x, int offset, bits *power) {
    vec shifted = x * VM_LOG2_E + (VM_INTEGER + offset);
    vec n = shifted - (VM_INTEGER + offset);
    vec r = (x - n * VM_LN2_HIGH) - n * VM_LN2_LOW;
    *power = (bits)shifted;
    return r * r * VM_POLYNOMIAL(r, vm_exp_rest) + r;
}

// 2^n from n + the exponent's bias, in the low bits.
VM_INLINE vec vm_power_of_two(bits biased) { return (vec)(biased << VM_MANTISSA); }

// exp(x) for x that the caller has limited to where exp(x) is neither 0 nor infinite by far.
// 2^n is applied in two factors: one alone is out of range where the result is subnormal or overflows.
VM_INLINE vec vm_exp_limited(vec x) {
    bits power;
    vec y = 1 + vm_exp_reduced(x, 2 * VM_BIAS, &power);
    bits half = power >> 1;
    return y * vm_power_of_two(half) * vm_power_of_two(power - half);
}

VM_INLINE vec v_exp(vec x) {
    return vm_exp_limited(vm_at_most(vm_at_least(x, VM(-104, -746)), VM(89, 710)));
}

// 2^n (exp(r) - 1) + (2^n - 1), of which each part is exact or small; the second of the two factors of 2^n is taken
// out.
VM_INLINE vec v_expm1(vec x) {
    bits power;
    vec limited = vm_at_most(vm_at_least(x, VM(-20, -40)), VM(89, 710));
    vec y = vm_exp_reduced(limited, 2 * VM_BIAS, &power);
    bits half = power >> 1;
    vec inverse = vm_power_of_two(VM_INTEGER_BITS + 2 * VM_BIAS - half - (VM_INTEGER_BITS >> 1));
    vec other = vm_power_of_two(power - half);
    vec result = (other * y + (other - inverse)) * vm_power_of_two(half);
    return vm_with_sign(result, x);
}

// x + n ln(2)/2 = w, |w| <= ln(2)/4, and h = tanh(w): exp(-2x) = 2^n (1 - h) / (1 + h), so tanh(x) is a fraction of
// sums that are exact or round once. One part of ln 2 is enough: what it lacks is scaled down by 2^n.
VM_INLINE vec v_tanh(vec x) {
    vec size = vm_at_most(v_abs(x), VM(10, 20));
    vec shifted = size * (-2 * VM_LOG2_E) + (VM_INTEGER + VM_BIAS);
    vec w = (shifted - (VM_INTEGER + VM_BIAS)) * VM_HALF_LN2 + size;
    vec square = w * w;
    vec h = w * square * VM_POLYNOMIAL(square, vm_tanh_rest) + w;
    vec power = vm_power_of_two((bits)shifted);
    return vm_with_sign(((1 - power) + h * (1 + power)) / ((1 + power) + h * (1 - power)), x);
}

// With |x| + n ln 2 = r and h = 2 tanh(r/2): exp(-|x|) = b / a for a = 2 + h and b = 2^n (2 - h). The result is a / (a
// + b) or b / (a + b), which keeps its digits far into both tails. The exponent of b is added as an integer, 64 too
// large, so that the product that takes the 64 off is the only step that can round b to a subnormal.
VM_INLINE vec v_sigmoid(vec x) {
    vec size = vm_at_most(v_abs(x), VM(104, 746));
    vec shifted = size * -VM_LOG2_E + (VM_INTEGER + 64);
    vec n = shifted - (VM_INTEGER + 64);
    vec r = (size + n * VM_LN2_HIGH) + n * VM_LN2_LOW;
    vec square = r * r;
    vec h = r * square * VM_POLYNOMIAL(square, vm_half_tanh_rest) + r;
    vec a = 2 + h;
    vec b = (vec)((bits)(2 - h) + ((bits)shifted << VM_MANTISSA)) * VM(0x1p-64f, 0x1p-64);
    return v_select(x < 0, b, a) / (a + b);
}

// ---- logarithms ----------------------------------------------------------------------------------------------------

// log(x) - down * log(2) + correction, for positive, finite, normal x.
// x = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), and s = f / (2 + f) makes log(1 + f) an odd function of s:
// log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 rest(s^2)), in which f is exact (Tang, ACM TOMS 16, 1990).
VM_INLINE vec vm_log_normal(vec x, vec down, vec correction) {
    const VM_UINT low = VM(0x3f3504f3u, 0x3fe6a09e667f3bcdu); // sqrt(1/2)
    const VM_UINT offset = (VM_UINT)1 << (REAL_BITS - 1 - VM_MANTISSA);
    bits above = (bits)x - low + VM_SIGN;                       // exponent: k + offset
    bits mantissa = above & (((VM_UINT)1 << VM_MANTISSA) - 1);
    vec k = (vec)((above >> VM_MANTISSA) + VM_INTEGER_BITS) - (VM_INTEGER + (REAL)offset) - down;
    vec f = (vec)(mantissa + low) - 1;
    vec s = f / (2 + f);
    vec z = s * s;
    vec half_square = f * f * (REAL)0.5;
    vec small = s * (half_square + z * VM_POLYNOMIAL(z, vm_log_rest)) + (k * VM_LN2_LOW + correction);
    return k * VM_LN2_HIGH - ((half_square - small) - f);
}

// `y` where 0 < x < infinity, and what the logarithm of x is elsewhere.
VM_INLINE vec vm_log_ends(vec x, vec y) {
    vec infinity = v_set((REAL)__builtin_inf());
    y = v_select(x < infinity, y, x);
    return v_select(x > 0, y, v_select(x == 0, -infinity, v_set((REAL)__builtin_nan(""))));
}

VM_INLINE vec v_log(vec x) {
    mask subnormal = x < VM(0x1p-126f, 0x1p-1022);
    vec scaled = v_select(subnormal, x * VM(0x1p25f, 0x1p54), x);
    vec down = v_select(subnormal, v_set(VM(25, 54)), v_set(0));
    return vm_log_ends(x, vm_log_normal(scaled, down, v_set(0)));
}

// log(1 + x) = log(u) + (1 + x - u) / u, u the rounded sum.
VM_INLINE vec v_log1p(vec x) {
    vec u = 1 + x;
    vec lost = (x - (u - 1)) / u;
    vec y = vm_log_ends(u, vm_log_normal(u, v_set(0), lost));
    return v_select(x == 0, x, y);
}

VM_INLINE vec v_softplus(vec x) { return v_max(x, v_set(0)) + v_log1p(v_exp(-v_abs(x))); }

// ---- sine and cosine -----------------------------------------------------------------------------------------------

// |x| = n pi/2 + r: sin or cos of r, by n's last bit, with the sign of n's last bit but one.
// pi/2 comes in parts so short that n times each is exact for |x| up to VM_LARGE.
#define VM_LARGE VM(12000, 800000)
VM_INLINE vec vm_sin_shifted(vec x, VM_UINT quarters) {
    vec size = v_abs(x);
    vec shifted = size * VM(0x1.45f306p-1f, 0x1.45f306dc9c883p-1) + VM_INTEGER;
    vec n = shifted - VM_INTEGER;
#if REAL_BITS == 32
    vec r = size - n * 0x1.92p+0f - n * 0x1.fb4p-12f - n * 0x1.444p-24f - n * 0x1.68cp-39f - n * 0x1.1a6264p-54f;
#else
    vec r = size - n * 0x1.921fb544p+0 - n * 0x1.0b4611a6p-34 - n * 0x1.3198a2ep-69 - n * 0x1.b839a252049c1p-104;
#endif
    vec z = r * r;
    vec sine = r + r * z * VM_POLYNOMIAL(z, vm_sin_rest);
    vec cosine = 1 - (z * (REAL)0.5 - z * z * VM_POLYNOMIAL(z, vm_cos_rest));
    bits turn = (bits)shifted + quarters;
    vec y = v_select((mask)-(turn & 1), cosine, sine);
    return (vec)((bits)y ^ ((turn & 2) << (REAL_BITS - 2)));
}

// Where a lane is so large that the parts of pi/2 do not suffice, the C library computes all of them.
static __attribute__((noinline, cold, unused)) vec vm_sin_large(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = VM(__builtin_sinf, __builtin_sin)(x[i]);
    return x;
}

static __attribute__((noinline, cold, unused)) vec vm_cos_large(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = VM(__builtin_cosf, __builtin_cos)(x[i]);
    return x;
}

VM_INLINE vec v_sin(vec x) {
    if (__builtin_expect(v_any(v_abs(x) > VM_LARGE), 0)) return vm_sin_large(x);
    return (vec)((bits)vm_sin_shifted(x, 0) ^ ((bits)x & VM_SIGN));
}

VM_INLINE vec v_cos(vec x) {
    if (__builtin_expect(v_any(v_abs(x) > VM_LARGE), 0)) return vm_cos_large(x);
    return vm_sin_shifted(x, 1);
}

#endif
