// Sixteen floats at a time, in as many registers as the processor needs: one page of keys is one
// such vector. The compiler's vector types keep this one source for every instruction set.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "formats.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#define LANES_ARE_8 1
#else
constexpr int LANES = 4;
#endif
typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t ilanes __attribute__((vector_size(LANES * 4)));
typedef uint32_t words __attribute__((vector_size(LANES * 4)));
typedef int16_t pairs __attribute__((vector_size(LANES * 4)));  // two of them in each lane

struct Vec {
    static constexpr int N = 16 / LANES;
    lanes v[N];
};

#define EACH for (int i = 0; i < Vec::N; i++)

static inline Vec splat(float x) { Vec r; EACH r.v[i] = x - (lanes){}; return r; }
static inline Vec load(const float* p) {
    Vec r;
    EACH memcpy(&r.v[i], p + i * LANES, sizeof(lanes));
    return r;
}
static inline void save(float* p, const Vec& a) { EACH memcpy(p + i * LANES, &a.v[i], sizeof(lanes)); }
// Sums that were kept apart, as arrays of registers, because the compiler sends structs through memory.
static inline Vec joined(const lanes* v) { Vec r; EACH r.v[i] = v[i]; return r; }
static inline Vec operator+(Vec a, const Vec& b) { EACH a.v[i] += b.v[i]; return a; }
static inline Vec operator-(Vec a, const Vec& b) { EACH a.v[i] -= b.v[i]; return a; }
static inline Vec operator*(Vec a, const Vec& b) { EACH a.v[i] *= b.v[i]; return a; }
static inline Vec operator/(Vec a, const Vec& b) { EACH a.v[i] /= b.v[i]; return a; }
static inline void add_product(Vec& sum, const Vec& a, const Vec& b) { EACH sum.v[i] += a.v[i] * b.v[i]; }
// a > b ? a : b, so that b stays where it is NaN: one instruction, for which the compiler would take two.
static inline lanes greater(lanes a, lanes b) {
#if defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}
static inline Vec greater(Vec a, const Vec& b) { EACH a.v[i] = greater(a.v[i], b.v[i]); return a; }

typedef float four __attribute__((vector_size(16)));
template <class Both> static inline float folded(const Vec& a, const Both& both) {
    lanes s = a.v[0];
    for (int i = 1; i < Vec::N; i++) s = both(s, a.v[i]);
    four part[LANES / 4];
    memcpy(part, &s, sizeof s);
    for (int i = 1; i < LANES / 4; i++) part[0] = both(part[0], part[i]);
    typedef int32_t order __attribute__((vector_size(16)));
    part[0] = both(part[0], __builtin_shuffle(part[0], (order){2, 3, 0, 1}));
    part[0] = both(part[0], __builtin_shuffle(part[0], (order){1, 0, 3, 2}));
    return part[0][0];
}
static inline float total(const Vec& a) {
    return folded(a, [](auto x, auto y) { return x + y; });
}
static inline float largest(const Vec& a) {
    return folded(a, [](auto x, auto y) { return x > y ? x : y; });
}

// e^x to about 1e-7 relative for x <= 0 and moderate x > 0 (Cephes' polynomial); 0 below -87.
static inline Vec exponential(Vec x) {
    Vec r;
    EACH {
        lanes t = x.v[i] > -87.0f ? x.v[i] : -87.0f - (lanes){};
        t = t < 88.0f ? t : 88.0f - (lanes){};
        lanes shifted = t * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
        lanes n = shifted - 12582912.0f;
        t = t - n * 0.693359375f + n * 2.12194440e-4f;
        lanes p = (lanes){} + 1.9875691500e-4f;
        p = p * t + 1.3981999507e-3f;
        p = p * t + 8.3334519073e-3f;
        p = p * t + 4.1665795894e-2f;
        p = p * t + 1.6666665459e-1f;
        p = p * t + 5.0000001201e-1f;
        p = p * t * t + t + 1.0f;
        ilanes bits = (__builtin_convertvector(n, ilanes) + 127) << 23;
        lanes scale;
        memcpy(&scale, &bits, sizeof scale);
        r.v[i] = x.v[i] > -87.0f ? p * scale : (lanes){};
    }
    return r;
}

// 2^x to about 2e-7 relative (a minimax polynomial) for x <= 0, 0 below -126.5; NaN stays NaN.
static inline Vec power_of_two(Vec x) {
    Vec r;
    EACH {
        const lanes t = greater(-127.0f - (lanes){}, x.v[i]);
        const lanes shifted = t + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
        const lanes f = t - (shifted - 12582912.0f);
        lanes p = (lanes){} + 1.326472731e-3f;
        p = p * f + 9.671512991e-3f;
        p = p * f + 5.550733581e-2f;
        p = p * f + 2.402224243e-1f;
        p = p * f + 6.931470037e-1f;
        p = p * f + 1.0f;
        const words bits = ((words)shifted << 23) + 0x3f800000u;  // all but the integer falls out
        r.v[i] = p * (lanes)bits;
    }
    return r;
}

// Sixteen stored values as floats.
static inline Vec widen(const float* p) { return load(p); }
static inline Vec widen(const uint16_t* p) {  // bf16
    Vec r;
    EACH {
#if defined(__AVX512F__)
        r.v[i] = (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
#elif LANES_ARE_8  // else the compiler takes twice as many instructions
        r.v[i] = (lanes)_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(p + i * LANES))), 16);
#else
        typedef uint16_t half __attribute__((vector_size(LANES * 2)));
        typedef uint32_t word __attribute__((vector_size(LANES * 4)));
        half h;
        memcpy(&h, p + i * LANES, sizeof h);
        word w = __builtin_convertvector(h, word) << 16;
        memcpy(&r.v[i], &w, sizeof w);
#endif
    }
    return r;
}

// The same in an order of its own, which takes fewer instructions, and that order undone.
static inline Vec apart(const float* p) { return load(p); }
#if LANES_ARE_8
static inline Vec apart(const uint16_t* p) {  // the even ones, then the odd ones
    ilanes both;
    memcpy(&both, p, sizeof both);
    return {{(lanes)(both << 16), (lanes)(both & (int32_t)0xffff0000)}};
}
template <class T> static inline Vec together(const Vec& a) {
    if (sizeof(T) != 2) return a;
    const __m256 low = _mm256_unpacklo_ps(a.v[0], a.v[1]), high = _mm256_unpackhi_ps(a.v[0], a.v[1]);
    return {{(lanes)_mm256_permute2f128_ps(low, high, 0x20), (lanes)_mm256_permute2f128_ps(low, high, 0x31)}};
}
#else
static inline Vec apart(const uint16_t* p) { return widen(p); }
template <class T> static inline Vec together(const Vec& a) { return a; }
#endif

// Sixteen pairs of bytes as pairs of int16, and the sums of products with one such pair.
static inline void widen_pairs(const int8_t* p, pairs* to) {
    EACH {
#if defined(__AVX512BW__)
        to[i] = (pairs)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(p + i * LANES * 2)));
#elif defined(__AVX2__)
        to[i] = (pairs)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(p + i * LANES * 2)));
#else
        typedef int8_t bytes __attribute__((vector_size(LANES * 2)));
        bytes narrow;
        memcpy(&narrow, p + i * LANES * 2, sizeof narrow);
        to[i] = __builtin_convertvector(narrow, pairs);
#endif
    }
}
// sum += a[2 i] * the low half of `both` + a[2 i + 1] * its high one. Unrolled, the compiler would add
// such products as a tree and run out of registers: the empty instruction keeps their order.
static inline void add_products(ilanes& sum, pairs a, int32_t both) {
#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
    sum = (ilanes)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, _mm512_set1_epi32(both));
#elif defined(__AVX2__)
    sum += (ilanes)_mm256_madd_epi16((__m256i)a, _mm256_set1_epi32(both));
    asm("" : "+x"(sum));
#else
    const ilanes two = (ilanes)a;
    sum += ((two << 16) >> 16) * (int16_t)both + (two >> 16) * (both >> 16);
#endif
}
static inline Vec joined(const ilanes* sums) {
    Vec r;
    EACH r.v[i] = __builtin_convertvector(sums[i], lanes);
    return r;
}
static inline Vec joined(const ilanes* sums, const ilanes* others) {
    Vec r;
    EACH r.v[i] = __builtin_convertvector(sums[i] + others[i], lanes);
    return r;
}
