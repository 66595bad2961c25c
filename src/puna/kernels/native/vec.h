// Sixteen floats at a time, in as many registers as the processor needs: one page of keys is one
// such vector. The compiler's vector types keep this one source for every instruction set.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "formats.h"

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t ilanes __attribute__((vector_size(LANES * 4)));

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
static inline Vec operator+(Vec a, const Vec& b) { EACH a.v[i] += b.v[i]; return a; }
static inline Vec operator-(Vec a, const Vec& b) { EACH a.v[i] -= b.v[i]; return a; }
static inline Vec operator*(Vec a, const Vec& b) { EACH a.v[i] *= b.v[i]; return a; }
static inline Vec operator/(Vec a, const Vec& b) { EACH a.v[i] /= b.v[i]; return a; }
static inline void add_product(Vec& sum, const Vec& a, const Vec& b) { EACH sum.v[i] += a.v[i] * b.v[i]; }
static inline Vec greater(Vec a, const Vec& b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }

static inline float total(const Vec& a) {
    lanes s = a.v[0];
    for (int i = 1; i < Vec::N; i++) s += a.v[i];
    float r = 0;
    for (int i = 0; i < LANES; i++) r += s[i];
    return r;
}
static inline float largest(const Vec& a) {
    lanes s = a.v[0];
    for (int i = 1; i < Vec::N; i++) s = s > a.v[i] ? s : a.v[i];
    float r = s[0];
    for (int i = 1; i < LANES; i++) r = r > s[i] ? r : s[i];
    return r;
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

// Sixteen stored values as floats.
static inline Vec widen(const float* p) { return load(p); }
static inline Vec widen(const uint16_t* p) {  // bf16
    Vec r;
    typedef uint16_t half __attribute__((vector_size(LANES * 2)));
    typedef uint32_t word __attribute__((vector_size(LANES * 4)));
    EACH {
        half h;
        memcpy(&h, p + i * LANES, sizeof h);
        word w = __builtin_convertvector(h, word) << 16;
        memcpy(&r.v[i], &w, sizeof w);
    }
    return r;
}
