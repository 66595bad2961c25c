// Weights times activations for AVX2 and FMA.
//
// A panel is widened once into the first-level cache, where all activation rows meet it. Each
// function adds up every (output, activation) pair in the same order whatever M is, so a result does
// not depend on what else is in the batch.
//
// The integer products stay exact in 16 bits: `maddubs` gives two products of at most 63 * 127 each,
// which does not saturate, and sums wrap around but end where they fit, because the accumulator
// starts at minus the weights' offset times the sum of the activations.
#pragma once
#include <immintrin.h>

#include "formats.h"

namespace tiles {

constexpr int TOGETHER = 6;  // activation rows: 12 accumulators, 2 weights, 1 activation, 1 product

static inline __m256i bytes_at(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
// How many activations c % 4 in {0, 1} and {2, 3} weigh, as two int16, times `by`: of 16 columns.
static inline int32_t two_sums(const int8_t* q, int count, int by) {
    const __m128i one = _mm_set1_epi8(1);
    __m128i sum = _mm_maddubs_epi16(one, _mm_loadu_si128((const __m128i*)q));
    if (count == 32) sum = _mm_add_epi16(sum, _mm_maddubs_epi16(one, _mm_loadu_si128((const __m128i*)(q + 16))));
    sum = _mm_add_epi16(sum, _mm_unpackhi_epi64(sum, sum));
    sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 1));
    return _mm_cvtsi128_si32(_mm_mullo_epi16(sum, _mm_set1_epi16((short)by)));
}
static inline int32_t one_sum(const int8_t* q, int by) {
    const int32_t both = two_sums(q, 32, 1);
    return by * ((int16_t)both + (both >> 16));
}
// 32 bytes as int16, of each four first the even ones, then the odd ones.
static inline void widen(const int8_t* q, int16_t* to) {
    const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    for (int c = 0; c < 32; c += 16) {
        const __m128i sixteen = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)(q + c)), order);
        _mm256_storeu_si256((__m256i*)(to + c), _mm256_cvtepi8_epi16(sixteen));
    }
}
static inline __m256 halves_at(const uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}
static inline __m256i four_at(const int8_t* q) {
    int32_t a;
    memcpy(&a, q, 4);
    return _mm256_set1_epi32(a);
}
// The empty `asm` keeps the compiler from reordering sums: it would hold all products in memory first.
static inline void add_shorts(__m256i& sum, __m256i x) {
    sum = _mm256_add_epi16(sum, x);
    asm("" : "+x"(sum));
}
static inline void add_ints(__m256i& sum, __m256i x) {
    sum = _mm256_add_epi32(sum, x);
    asm("" : "+x"(sum));
}
static inline void put(void* p, __m256i v) { _mm256_store_si256((__m256i*)p, v); }

// Products of integer weights with activations. What a weight says is asked of W, which is opened
// where it lies (Block) or widened before (Panel):
//   values(g, t, i)  u8, 4 columns (number t of group g) of rows i..i+7
//   ahead(g)         asks memory for what comes
//   scale(g, i), and where the kind has them own(g, h, i), each twice, and minimum(g, i), of rows i..i+7
enum Kind { PLAIN, WITH_MINIMUM, WITH_SCALES };
template <class W, Kind kind> struct Small {
    static constexpr int HALVES = kind == WITH_SCALES ? 2 : 1;  // runs of columns with scales of their own

    template <int M, int G>
    inline __attribute__((always_inline)) void part(int first, int groups, const Activations& a, float* sums) const {
        const W& w = static_cast<const W&>(*this);
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
        for (int g = 0; g < groups; g++) {
            if (first == 0) w.ahead(g);
            __m256i dot[M][G];
#pragma GCC unroll 2
            for (int h = 0; h < HALVES; h++) {
                __m256i acc[M][G];
                for (int m = 0; m < M; m++)
                    for (int j = 0; j < G; j++)
                        acc[m][j] = kind == WITH_MINIMUM
                            ? _mm256_setzero_si256()
                            : _mm256_set1_epi32(a.start[m * STARTS + g * 2 + h]);
#pragma GCC unroll 8
                for (int i = 0; i < 8 / HALVES; i++) {
                    const int t = h * 4 + i;  // four columns
                    __m256i v[G];
                    for (int j = 0; j < G; j++) v[j] = w.values(g, t, first + j * 8);
                    for (int m = 0; m < M; m++) {
                        const __m256i x = four_at(a.q + m * PANEL + g * 32 + t * 4);
                        for (int j = 0; j < G; j++)
                            add_shorts(acc[m][j], _mm256_maddubs_epi16(v[j], x));
                    }
                }
                for (int m = 0; m < M; m++)
                    for (int j = 0; j < G; j++) {
                        __m256i by = ones;
                        if constexpr (kind != PLAIN) by = w.own(g, h, first + j * 8);
                        const __m256i now = _mm256_madd_epi16(acc[m][j], by);
                        dot[m][j] = h ? _mm256_add_epi32(dot[m][j], now) : now;
                    }
            }
            for (int j = 0; j < G; j++) {
                const __m256 ws = w.scale(g, first + j * 8);
                for (int m = 0; m < M; m++) {
                    const __m256 as = _mm256_set1_ps(a.scale[m * GROUPS + g]);
                    sum[m][j] = _mm256_fmadd_ps(
                        _mm256_cvtepi32_ps(dot[m][j]), _mm256_mul_ps(ws, as), sum[m][j]);
                    if constexpr (kind == WITH_MINIMUM) {
                        const __m256 total = _mm256_mul_ps(
                            _mm256_cvtepi32_ps(_mm256_set1_epi32(a.start[m * STARTS + g * 2])), as);
                        sum[m][j] = _mm256_fnmadd_ps(w.minimum(g, first + j * 8), total, sum[m][j]);
                    }
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) _mm256_storeu_ps(sums + m * ROWS + first + j * 8, sum[m][j]);
    }

    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        constexpr int G = M == 1 ? 4 : 2;
        for (int first = 0; first < 32; first += 8 * G) part<M, G>(first, groups, a, sums);
    }
};

// A weight opened from W and kept in the first-level cache.
template <class W, Kind kind> struct Widened : Small<Widened<W, kind>, kind> {
    static constexpr int HALVES = kind == WITH_SCALES ? 2 : 1;
    static constexpr bool WIDE = false;
    alignas(64) uint8_t value[GROUPS][8][128];
    alignas(64) float scales[GROUPS][32];
    alignas(64) int16_t owns[kind == PLAIN ? 1 : GROUPS][HALVES][64];
    alignas(64) float minima[kind == WITH_MINIMUM ? GROUPS : 1][32];

    typedef W Block;
    static void start(const int8_t* q, int32_t* to) { W::start(q, to); }
    void open(const uint8_t* block, int groups) {
        const W w{block};
        for (int g = 0; g < groups; g++)
            for (int i = 0; i < 32; i += 8) {
                _mm256_store_ps(scales[g] + i, w.scale(g, i));
                if constexpr (kind == WITH_MINIMUM) _mm256_store_ps(minima[g] + i, w.minimum(g, i));
                if constexpr (kind != PLAIN)
                    for (int h = 0; h < HALVES; h++) put(owns[g][h] + 2 * i, w.own(g, h, i));
#pragma GCC unroll 8
                for (int t = 0; t < 8; t++) put(value[g][t] + i * 4, w.values(g, t, i));
            }
    }
    void ahead(int) const {}
    __m256i values(int g, int t, int i) const { return bytes_at(value[g][t] + i * 4); }
    __m256 scale(int g, int i) const { return _mm256_load_ps(scales[g] + i); }
    __m256i own(int g, int h, int i) const { return bytes_at(owns[g][h] + i * 2); }
    __m256 minimum(int g, int i) const { return _mm256_load_ps(minima[g] + i); }
};

#ifndef AHEAD
#define AHEAD 2048
#endif
template <int bytes> static inline void prefetch(const uint8_t* p) {
    if (AHEAD)
    for (int i = 0; i < bytes; i += 64) _mm_prefetch((const char*)(p + AHEAD + i), _MM_HINT_T0);
}

static inline __m256i nibbles_at(const uint8_t* p, int t) {
    const __m256i both = bytes_at(p + t / 2 * 128), low = _mm256_set1_epi8(15);
    return _mm256_and_si256(t % 2 ? _mm256_srli_epi16(both, 4) : both, low);
}
// Eight bytes, each twice, widened to int16.
static inline __m128i twice(const uint8_t* from) {
    const __m128i eight = _mm_loadl_epi64((const __m128i*)from);
    return _mm_unpacklo_epi8(eight, eight);
}

struct Q4Block : Small<Q4Block, PLAIN> {
    static constexpr bool WIDE = false;
    const uint8_t* block;

    Q4Block(const uint8_t* block) : block(block) {}
    static void start(const int8_t* q, int32_t* to) { to[0] = two_sums(q, 32, -8); }
    void ahead(int g) const { prefetch<576>(block + g * 576); }
    __m256 scale(int g, int i) const { return halves_at(block + g * 576 + 2 * i); }
    __m256i values(int g, int t, int i) const { return nibbles_at(block + g * 576 + 64 + i * 4, t); }
};
using Q4Panel = Widened<Q4Block, PLAIN>;

struct Q4MBlock : Small<Q4MBlock, WITH_MINIMUM> {
    static constexpr bool WIDE = false;
    const uint8_t* block;

    Q4MBlock(const uint8_t* block) : block(block) {}
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, 1); }
    const uint8_t* group(int g) const { return block + 128 + g * 576; }
    void ahead(int g) const { prefetch<576>(group(g)); }
    __m256 scale(int, int i) const { return halves_at(block + 2 * i); }
    __m256i own(int g, int, int i) const { return _mm256_cvtepu8_epi16(twice(group(g) + i)); }
    __m256 minimum(int g, int i) const {
        const __m128i eight = _mm_loadl_epi64((const __m128i*)(group(g) + 32 + i));
        return _mm256_mul_ps(halves_at(block + 64 + 2 * i), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)));
    }
    __m256i values(int g, int t, int i) const { return nibbles_at(group(g) + 64 + i * 4, t); }
};
using Q4MPanel = Widened<Q4MBlock, WITH_MINIMUM>;

struct Q6Block : Small<Q6Block, WITH_SCALES> {
    static constexpr bool WIDE = false;
    const uint8_t* block;

    Q6Block(const uint8_t* block) : block(block) {}
    static void start(const int8_t* q, int32_t* to) {
        to[0] = two_sums(q, 16, -32);
        to[1] = two_sums(q + 16, 16, -32);
    }
    const uint8_t* group(int g) const { return block + 64 + g * 832; }
    void ahead(int g) const { prefetch<832>(group(g)); }
    __m256 scale(int, int i) const { return halves_at(block + 2 * i); }
    __m256i own(int g, int h, int i) const { return _mm256_cvtepi8_epi16(twice(group(g) + h * 32 + i)); }
    __m256i values(int g, int t, int i) const {
        const __m256i high = bytes_at(group(g) + 576 + t / 4 * 128 + i * 4), top = _mm256_set1_epi8(48);
        const __m256i above = t % 4 == 0 ? _mm256_slli_epi16(high, 4) : t % 4 == 1 ? _mm256_slli_epi16(high, 2)
                            : t % 4 == 2 ? high : _mm256_srli_epi16(high, 2);
        return _mm256_or_si256(nibbles_at(group(g) + 64 + i * 4, t), _mm256_and_si256(above, top));
    }
};
using Q6Panel = Widened<Q6Block, WITH_SCALES>;

// Eight bits: two times the products of 16-bit integers, of the even and of the odd columns.
template <class W> struct Wide {
    template <int M, int G>
    inline __attribute__((always_inline)) void part(int first, int groups, const Activations& a, float* sums) const {
        const W& w = static_cast<const W&>(*this);
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
        for (int g = 0; g < groups; g++) {
            if (first == 0) w.ahead(g);
            __m256i acc[M][G];
            for (int m = 0; m < M; m++)
                for (int j = 0; j < G; j++) acc[m][j] = _mm256_set1_epi32(a.start[m * STARTS + g * 2]);
#pragma GCC unroll 16
            for (int t = 0; t < 16; t++) {
                __m256i v[G];
                for (int j = 0; j < G; j++) v[j] = w.values(g, t, first + j * 8);
                for (int m = 0; m < M; m++) {
                    int32_t two;
                    memcpy(&two, a.wide + m * PANEL + g * 32 + t * 2, 4);
                    const __m256i x = _mm256_set1_epi32(two);
                    for (int j = 0; j < G; j++)
                        add_ints(acc[m][j], _mm256_madd_epi16(v[j], x));
                }
            }
            for (int j = 0; j < G; j++) {
                const __m256 ws = w.scale(g, first + j * 8);
                for (int m = 0; m < M; m++)
                    sum[m][j] = _mm256_fmadd_ps(
                        _mm256_cvtepi32_ps(acc[m][j]),
                        _mm256_mul_ps(ws, _mm256_set1_ps(a.scale[m * GROUPS + g])), sum[m][j]);
            }
        }
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) _mm256_storeu_ps(sums + m * ROWS + first + j * 8, sum[m][j]);
    }
    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        constexpr int G = M == 1 ? 4 : 2;
        for (int first = 0; first < 32; first += 8 * G) part<M, G>(first, groups, a, sums);
    }
};
struct Q8Block : Wide<Q8Block> {
    static constexpr bool WIDE = true;
    const uint8_t* block;

    Q8Block(const uint8_t* block) : block(block) {}
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, -128); }
    void ahead(int g) const { prefetch<1088>(block + g * 1088); }
    __m256 scale(int g, int i) const { return halves_at(block + g * 1088 + 2 * i); }
    __m256i values(int g, int t, int i) const {
        const __m256i four = bytes_at(block + g * 1088 + 64 + t / 2 * 128 + i * 4);
        return t % 2 ? _mm256_srli_epi16(four, 8) : _mm256_and_si256(four, _mm256_set1_epi16(255));
    }
};
struct Q8Panel : Wide<Q8Panel> {
    static constexpr bool WIDE = true;
    alignas(64) int16_t value[GROUPS][16][64];
    alignas(64) float scales[GROUPS][32];

    typedef Q8Block Block;
    static void start(const int8_t* q, int32_t* to) { Q8Block::start(q, to); }
    void open(const uint8_t* block, int groups) {
        const Q8Block w{block};
        for (int g = 0; g < groups; g++)
            for (int i = 0; i < 32; i += 8) {
                _mm256_store_ps(scales[g] + i, w.scale(g, i));
#pragma GCC unroll 16
                for (int t = 0; t < 16; t++) put(value[g][t] + i * 2, w.values(g, t, i));
            }
    }
    void ahead(int) const {}
    __m256i values(int g, int t, int i) const { return bytes_at(value[g][t] + i * 2); }
    __m256 scale(int g, int i) const { return _mm256_load_ps(scales[g] + i); }
};

// bf16 widened to fp32: column by column.
template <class W> struct Floats {
    template <int M, int G> inline __attribute__((always_inline)) void part(int first, int columns, const float* x, float* sums) const {
        const W& w = static_cast<const W&>(*this);
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
        for (int c = 0; c < columns; c += 4) {
            if (first == 0) w.ahead(c);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                __m256 v[G];
                for (int j = 0; j < G; j++) v[j] = w.values(c, i, first + j * 8);
                for (int m = 0; m < M; m++) {
                    const __m256 each = _mm256_set1_ps(x[m * FLOAT_PANEL + c + i]);
                    for (int j = 0; j < G; j++) sum[m][j] = _mm256_fmadd_ps(v[j], each, sum[m][j]);
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) _mm256_storeu_ps(sums + m * ROWS + first + j * 8, sum[m][j]);
    }
    template <int M> void multiply(int columns, const float* x, float* sums) const {
        constexpr int G = M == 1 ? 4 : 2;
        for (int first = 0; first < 32; first += 8 * G) part<M, G>(first, columns, x, sums);
    }
};
struct BF16Block : Floats<BF16Block> {
    const uint8_t* block;

    BF16Block(const uint8_t* block) : block(block) {}
    void ahead(int c) const { prefetch<256>(block + c * 64); }
    __m256 values(int c, int i, int row) const {
        const __m256i both = bytes_at(block + (c + i) / 2 * 128 + row * 4);
        return _mm256_castsi256_ps(
            i % 2 ? _mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000)) : _mm256_slli_epi32(both, 16));
    }
};
struct BF16Panel : Floats<BF16Panel> {
    alignas(64) float value[FLOAT_PANEL][32];

    typedef BF16Block Block;
    void open(const uint8_t* block, int columns) {
        const BF16Block w{block};
        for (int c = 0; c < columns; c += 2)
            for (int i = 0; i < 32; i += 8) {
                _mm256_store_ps(value[c] + i, w.values(c, 0, i));
                _mm256_store_ps(value[c + 1] + i, w.values(c, 1, i));
            }
    }
    void ahead(int) const {}
    __m256 values(int c, int i, int row) const { return _mm256_load_ps(value[c + i] + row); }
};

}  // namespace tiles
