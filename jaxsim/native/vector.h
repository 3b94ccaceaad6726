// Numbers of as many lanes as a register holds, and the elementary functions of such numbers.
//
// BITS is 32 or 64. Functions are within two units of rounding of the true value, over the
// whole range; what is below the smallest normal number may be 0, and NaN stays NaN.

#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__)
constexpr int BYTES = 64;  // of a register
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

#if BITS == 32
typedef float real;
typedef int32_t whole;
#else
typedef double real;
typedef int64_t whole;
#endif

typedef real lanes __attribute__((vector_size(BYTES)));   // one number for each of WIDTH lanes
typedef whole choice __attribute__((vector_size(BYTES)));  // what a comparison of such numbers gives
constexpr int WIDTH = BYTES / sizeof(real);
constexpr real INFINITE = std::numeric_limits<real>::infinity();

#define INLINE static inline __attribute__((always_inline))

INLINE lanes same(real x) { return x - lanes{}; }  // x in every lane, -0 too
INLINE lanes same(lanes x) { return x; }

#if defined(__AVX512F__) && BITS == 32
INLINE lanes larger(lanes a, lanes b) { return _mm512_max_ps(a, b); }
INLINE lanes smaller(lanes a, lanes b) { return _mm512_min_ps(a, b); }
INLINE lanes root(lanes x) { return _mm512_sqrt_ps(x); }
INLINE lanes nearest(lanes x) { return _mm512_roundscale_ps(x, 0); }
INLINE lanes times_two_to(lanes x, lanes n) { return _mm512_scalef_ps(x, n); }
#elif defined(__AVX512F__)
INLINE lanes larger(lanes a, lanes b) { return _mm512_max_pd(a, b); }
INLINE lanes smaller(lanes a, lanes b) { return _mm512_min_pd(a, b); }
INLINE lanes root(lanes x) { return _mm512_sqrt_pd(x); }
INLINE lanes nearest(lanes x) { return _mm512_roundscale_pd(x, 0); }
INLINE lanes times_two_to(lanes x, lanes n) { return _mm512_scalef_pd(x, n); }
#else
INLINE lanes larger(lanes a, lanes b) { return a > b ? a : b; }
INLINE lanes smaller(lanes a, lanes b) { return a < b ? a : b; }

INLINE lanes root(lanes x) {
  for (int l = 0; l < WIDTH; ++l) x[l] = std::sqrt(x[l]);
  return x;
}

// The nearest whole number, of two the even one. From 2^(digits - 1) on all numbers are whole.
INLINE lanes nearest(lanes x) {
  const real shift = BITS == 32 ? real(8388608) : real(4503599627370496);
  const lanes size = x < 0 ? -x : x;
  const lanes rounded = (size + shift) - shift;
  return size < shift ? (x < 0 ? -rounded : rounded) : x;
}

// In two halves, so that neither is beyond the range of exponents.
INLINE lanes times_two_to(lanes x, lanes n) {
  constexpr int digits = BITS == 32 ? 23 : 52, bias = BITS == 32 ? 127 : 1023;
  const lanes bounded = smaller(larger(n, same(-2 * bias)), same(2 * bias));
  const choice all = __builtin_convertvector(bounded, choice), half = all >> 1;
  const choice first = (half + bias) << digits, second = ((all - half) + bias) << digits;
  return (x * (lanes)first) * (lanes)second;
}
#endif

INLINE lanes size_of(lanes x) { return x < 0 ? -x : x; }

// Σ c_k x^k.
template <int count>
INLINE lanes polynomial(const real (&c)[count], lanes x) {
  lanes sum = same(c[count - 1]);
#pragma GCC unroll 32
  for (int k = count - 2; k >= 0; --k) sum = sum * x + c[k];
  return sum;
}

#if BITS == 32
constexpr real LN2[] = {0.693115234375f, 3.1946184945309415e-05f};  // log 2 in two parts, the first of few digits
constexpr real LOWEST = -104, HIGHEST = 89;                            // beyond these e^x is 0 or infinite
constexpr real GROWTH[] = {1.0f,          1.0f / 2,      1.0f / 6,       1.0f / 24,       1.0f / 120,
                           1.0f / 720,    1.0f / 5040,   1.0f / 40320,   1.0f / 362880,   1.0f / 3628800};
constexpr real ATANH[] = {2.0f, 2.0f / 3, 2.0f / 5, 2.0f / 7, 2.0f / 9, 2.0f / 11};
// e^r for |r| ≤ (log 2)/2 by interpolation in Chebyshev's points, to 3e-9.
constexpr real EXP[] = {1.0f,
                        1.0000000377162138425f,
                        0.50000000471177576744f,
                        0.16666415514653275427f,
                        0.041666352896775156786f,
                        0.008375126398153335682f,
                        0.0013941108433972674608f};
#else
constexpr real LN2[] = {0.6931467056274414, 4.7493250390316726e-07};
constexpr real LOWEST = -746, HIGHEST = 710;
constexpr real GROWTH[] = {1.0,
                           1.0 / 2,
                           1.0 / 6,
                           1.0 / 24,
                           1.0 / 120,
                           1.0 / 720,
                           1.0 / 5040,
                           1.0 / 40320,
                           1.0 / 362880,
                           1.0 / 3628800,
                           1.0 / 39916800,
                           1.0 / 479001600,
                           1.0 / 6227020800,
                           1.0 / 87178291200,
                           1.0 / 1307674368000,
                           1.0 / 20922789888000,
                           1.0 / 355687428096000,
                           1.0 / 6402373705728000};
constexpr real ATANH[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11,
                          2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23};
// The same to 4e-18.
constexpr real EXP[] = {1.0,
                        0.99999999999999999976,
                        0.50000000000000183855,
                        0.16666666666666680806,
                        0.041666666666488095495,
                        0.0083333333333196006109,
                        0.0013888888952314774652,
                        0.00019841269890047113707,
                        0.000024801485482328492419,
                        2.7557240918578969823e-6,
                        2.7632639639041029749e-7,
                        2.5110037605963777712e-8};
#endif

// e^x = 2^n e^r.
INLINE lanes exponential(lanes x) {
  x = smaller(same(HIGHEST), larger(same(LOWEST), x));
  const lanes n = nearest(x * real(1.4426950408889634));
  const lanes r = (x - n * LN2[0]) - n * LN2[1];
  return times_two_to(polynomial(EXP, r), n);
}

// (e^x - 1) / x for 0 ≤ x ≤ 1, by its series.
INLINE lanes growth(lanes x) { return polynomial(GROWTH, x); }

// log(2^n m) = n log 2 + 2 artanh((m - 1) / (m + 1)), m from 1/√2 to √2. Of 0: -∞.
INLINE lanes logarithm(lanes x) {
  constexpr int digits = BITS == 32 ? 23 : 52;
  constexpr whole middle = BITS == 32 ? whole(0x3f3504f3) : whole(0x3fe6a09e667f3bcd);  // the bits of 1/√2
  const lanes shift = x < std::numeric_limits<real>::min() ? same(-digits - 1) : lanes{};
  const choice bits = (choice)times_two_to(x, -shift);
  const choice n = (bits - middle) >> digits;
  const lanes m = (lanes)(bits - (n << digits));
  const lanes s = (m - 1) / (m + 1), power = __builtin_convertvector(n, lanes) + shift;
  const lanes sum = s * polynomial(ATANH, s * s) + power * LN2[1];
  const lanes found = sum + power * LN2[0];
  return x > 0 ? (x < INFINITE ? found : x) : (x == 0 ? same(-INFINITE) : x - x + same(NAN));
}

// log(1 + x), with what 1 + x loses of x.
INLINE lanes logarithm_past_one(lanes x) {
  const lanes u = 1 + x;
  const lanes lost = (x - (u - 1)) / u;
  return logarithm(u) + (u > 0 ? (u < INFINITE ? lost : lanes{}) : lanes{});
}
