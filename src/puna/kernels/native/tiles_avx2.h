// Weights times activations for AVX2 and FMA.
//
// Few activation rows meet weights as they are read: Block. For many, a panel is widened once into the
// first-level cache, where all meet it. Each function adds up every (output, activation) pair in the
// same order whatever M is and either way, so a result does not depend on what else is in the batch.
//
// The integer products stay exact in 16 bits: `maddubs` gives two products of at most 63 * 127 each,
// which does not saturate, and sums wrap around but end where they fit, because the accumulator
// starts at minus the weights' offset times the sum of the activations.
#pragma once
#include <immintrin.h>

#include "formats.h"

namespace tiles {

#define INLINE inline __attribute__((always_inline))

// Activation rows at once: 12 accumulators, 2 weights, 1 activation, 1 product. Where unpacking weights
// takes long, rather 8 rows and accumulators, and each weight once.
constexpr int SIX = 6, EIGHT = 8;

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

// Products of integers with activations, for any weight W that says
//   values(g, t, i)  rows i..i+7 of some columns of group g, as W::dots wants them
//   scale(g, i)      of rows i..i+7: of a group, or where W is WHOLE of the panel
//   own(g, h, i)     where it has OWN: integer scales of HALVES runs of columns, each twice, as int16
//   minimum(g, i)    where it is MINIMAL
template <class W> struct Integers {
    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        constexpr int G = M <= 2 ? 4 : M <= 6 ? 2 : 1;  // so that what is added up fits the registers
        const W& w = static_cast<const W&>(*this);
        alignas(32) float whole[M * ROWS];
        if constexpr (W::WHOLE) memset(whole, 0, sizeof whole);
        for (int g = 0; g < groups; g++) {  // all rows of it at once: memory is read from its first byte to its last
            w.ahead(g);
            for (int first = 0; first < ROWS; first += 8 * G) group<M, G>(g, first, a, W::WHOLE ? whole : sums);
        }
        if constexpr (W::WHOLE)
            for (int i = 0; i < ROWS; i += 8)
                for (int m = 0; m < M; m++)
                    add(sums + m * ROWS + i, _mm256_load_ps(whole + m * ROWS + i), w.scale(0, i));
    }

private:
    static void add(float* sum, __m256 a, __m256 b) {
        _mm256_storeu_ps(sum, _mm256_fmadd_ps(a, b, _mm256_loadu_ps(sum)));
    }
    template <int M, int G> INLINE void group(int g, int first, const Activations& a, float* sums) const {
        const W& w = static_cast<const W&>(*this);
        asm("" ::: "memory");  // else the activations of both halves of the rows are kept on the stack
        __m256i dot[M][G];
        W::template dots<M, G>(w, g, first, a, dot);
        for (int j = 0; j < G; j++) {
            const int i = first + j * 8;
            __m256 by = _mm256_setzero_ps(), least = by;
            if constexpr (!W::WHOLE) by = w.scale(g, i);
            if constexpr (W::MINIMAL) least = w.minimum(g, i);
            for (int m = 0; m < M; m++) {
                const __m256 as = _mm256_set1_ps(a.scale[m * GROUPS + g]);
                float* const sum = sums + m * ROWS + i;
                add(sum, _mm256_cvtepi32_ps(dot[m][j]), W::WHOLE ? as : _mm256_mul_ps(by, as));
                if constexpr (W::MINIMAL) {
                    const __m256i total = _mm256_set1_epi32(a.start[m * STARTS + g * 2]);
                    add(sum, least, _mm256_mul_ps(_mm256_cvtepi32_ps(total), as));
                }
            }
        }
    }
};

// How u8 weights below 64 meet activations; `values` are columns 4 t..4 t + 3.
struct Bytes {
    static constexpr bool WIDE = false, OWN = false, WHOLE = false, MINIMAL = false;
    static constexpr int HALVES = 1, TOGETHER = SIX;

    template <int M, int G, class W>
    static INLINE void dots(
        const W& w, int g, int first, const Activations& a, __m256i (&dot)[M][G]) {
#pragma GCC unroll 2
        for (int h = 0; h < W::HALVES; h++) {
            __m256i acc[M][G];
            for (int m = 0; m < M; m++)
                for (int j = 0; j < G; j++)
                    acc[m][j] = W::MINIMAL ? _mm256_setzero_si256()
                                           : _mm256_set1_epi32(a.start[m * STARTS + g * 2 + h]);
#pragma GCC unroll 8
            for (int i = 0; i < 8 / W::HALVES; i++) {
                const int t = h * 4 + i;
                __m256i v[G];
                for (int j = 0; j < G; j++) v[j] = w.values(g, t, first + j * 8);
                for (int m = 0; m < M; m++) {
                    const __m256i x = four_at(a.q + m * PANEL + g * 32 + t * 4);
                    for (int j = 0; j < G; j++) add_shorts(acc[m][j], _mm256_maddubs_epi16(v[j], x));
                }
            }
            for (int j = 0; j < G; j++) {
                __m256i by = _mm256_set1_epi16(1);
                if constexpr (W::OWN) by = w.own(g, h, first + j * 8);
                for (int m = 0; m < M; m++) {
                    const __m256i now = _mm256_madd_epi16(acc[m][j], by);
                    dot[m][j] = h ? _mm256_add_epi32(dot[m][j], now) : now;
                }
            }
        }
    }
};

// Asks memory for what comes AHEAD bytes later. (gcc takes a function of prefetches alone for one that
// does nothing, and drops the calls before it could inline them.)
constexpr int AHEAD = 2048;
template <int bytes> static INLINE void prefetch(const uint8_t* p) {
#pragma GCC unroll 20
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + AHEAD + i);
}
static inline __m256i nibbles_at(const uint8_t* p, int t) {
    const __m256i both = bytes_at(p + t / 2 * 128), low = _mm256_set1_epi8(15);
    return _mm256_and_si256(t % 2 ? _mm256_srli_epi16(both, 4) : both, low);
}
// Eight bytes, each twice.
static inline __m128i twice(const uint8_t* from) {
    const __m128i eight = _mm_loadl_epi64((const __m128i*)from);
    return _mm_unpacklo_epi8(eight, eight);
}

struct Q4Block : Integers<Q4Block>, Bytes {
    const uint8_t* block;

    void open(const uint8_t* at, int) { block = at; }
    static void start(const int8_t* q, int32_t* to) { to[0] = two_sums(q, 32, -8); }
    INLINE void ahead(int g) const { prefetch<576>(block + g * 576); }
    __m256 scale(int g, int i) const { return halves_at(block + g * 576 + 2 * i); }
    __m256i values(int g, int t, int i) const { return nibbles_at(block + g * 576 + 64 + i * 4, t); }
};

struct Q4MBlock : Integers<Q4MBlock>, Bytes {
    static constexpr bool OWN = true, MINIMAL = true;
    const uint8_t* block;

    void open(const uint8_t* at, int) { block = at; }
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, -1); }
    const uint8_t* group(int g) const { return block + 128 + g * 576; }
    INLINE void ahead(int g) const { prefetch<576>(group(g)); }
    __m256 scale(int, int i) const { return halves_at(block + 2 * i); }
    __m256i own(int g, int, int i) const { return _mm256_cvtepu8_epi16(twice(group(g) + i)); }
    __m256 minimum(int g, int i) const {
        const __m128i eight = _mm_loadl_epi64((const __m128i*)(group(g) + 32 + i));
        return _mm256_mul_ps(halves_at(block + 64 + 2 * i), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)));
    }
    __m256i values(int g, int t, int i) const { return nibbles_at(group(g) + 64 + i * 4, t); }
};

struct Q6Block : Integers<Q6Block>, Bytes {
    static constexpr bool OWN = true, WHOLE = true;
    static constexpr int HALVES = 2, TOGETHER = EIGHT;
    const uint8_t* block;

    void open(const uint8_t* at, int) { block = at; }
    static void start(const int8_t* q, int32_t* to) {
        to[0] = two_sums(q, 16, -32);
        to[1] = two_sums(q + 16, 16, -32);
    }
    const uint8_t* group(int g) const { return block + 64 + g * 832; }
    INLINE void ahead(int g) const { prefetch<832>(group(g)); }
    __m256 scale(int, int i) const { return halves_at(block + 2 * i); }
    __m256i own(int g, int h, int i) const { return _mm256_cvtepi8_epi16(twice(group(g) + h * 32 + i)); }
    __m256i values(int g, int t, int i) const {
        const __m256i high = bytes_at(group(g) + 576 + t / 4 * 128 + i * 4), top = _mm256_set1_epi8(48);
        const __m256i above = t % 4 == 0 ? _mm256_slli_epi16(high, 4) : t % 4 == 1 ? _mm256_slli_epi16(high, 2)
                            : t % 4 == 2 ? high : _mm256_srli_epi16(high, 2);
        return _mm256_or_si256(nibbles_at(group(g) + 64 + i * 4, t), _mm256_and_si256(above, top));
    }
};

// How eight bits meet activations, as int16: `values` are two of four columns, the even or the odd ones.
struct Shorts {
    static constexpr bool WIDE = true, OWN = false, WHOLE = false, MINIMAL = false;
    static constexpr int HALVES = 1, TOGETHER = SIX;

    // 32 bytes as int16, of each four first the even ones, then the odd ones.
    static void widen(const int8_t* q, int16_t* to) {
        const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        for (int c = 0; c < 32; c += 16) {
            const __m128i sixteen = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)(q + c)), order);
            _mm256_storeu_si256((__m256i*)(to + c), _mm256_cvtepi8_epi16(sixteen));
        }
    }

    template <int M, int G, class W>
    static INLINE void dots(
        const W& w, int g, int first, const Activations& a, __m256i (&acc)[M][G]) {
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) acc[m][j] = _mm256_set1_epi32(a.start[m * STARTS + g * 2]);
#pragma GCC unroll 16
        for (int t = 0; t < 16; t++) {
            __m256i v[G];
            for (int j = 0; j < G; j++) v[j] = w.values(g, t, first + j * 8);
            for (int m = 0; m < M; m++) {
                const __m256i x = four_at((const int8_t*)(a.wide + m * PANEL + g * 32 + t * 2));
                for (int j = 0; j < G; j++) add_ints(acc[m][j], _mm256_madd_epi16(v[j], x));
            }
        }
    }
};

struct Q8Block : Integers<Q8Block>, Shorts {
    const uint8_t* block;

    void open(const uint8_t* at, int) { block = at; }
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, -128); }
    INLINE void ahead(int g) const { prefetch<1088>(block + g * 1088); }
    __m256 scale(int g, int i) const { return halves_at(block + g * 1088 + 2 * i); }
    __m256i values(int g, int t, int i) const {
        const __m256i four = bytes_at(block + g * 1088 + 64 + t / 2 * 128 + i * 4);
        return t % 2 ? _mm256_srli_epi16(four, 8) : _mm256_and_si256(four, _mm256_set1_epi16(255));
    }
};

// The same as W, widened into the first-level cache, for more rows.
template <class W, class Kind, int steps> struct Widened : Integers<Widened<W, Kind, steps>>, Kind {
    static constexpr bool WIDE = Kind::WIDE, OWN = W::OWN, WHOLE = W::WHOLE, MINIMAL = W::MINIMAL;
    static constexpr int HALVES = W::HALVES, TOGETHER = SIX;
    typedef W Block;

    alignas(64) __m256i value[GROUPS][steps][4];
    __m256 scales[WHOLE ? 1 : GROUPS][4];
    __m256i owns[OWN ? GROUPS : 1][HALVES][4];
    __m256 minima[MINIMAL ? GROUPS : 1][4];

    static void start(const int8_t* q, int32_t* to) { W::start(q, to); }
    void open(const uint8_t* block, int groups) {
        W w;
        w.open(block, groups);
        for (int g = 0; g < (WHOLE ? 1 : groups); g++)
            for (int i = 0; i < 4; i++) scales[g][i] = w.scale(g, i * 8);
        for (int g = 0; g < groups; g++) {
            w.ahead(g);
            for (int i = 0; i < 4; i++) {
                if constexpr (OWN)
                    for (int h = 0; h < HALVES; h++) owns[g][h][i] = w.own(g, h, i * 8);
                if constexpr (MINIMAL) minima[g][i] = w.minimum(g, i * 8);
#pragma GCC unroll 16
                for (int t = 0; t < steps; t++) value[g][t][i] = w.values(g, t, i * 8);
            }
        }
    }
    INLINE void ahead(int) const {}
    // by bytes, or else the compiler divides by 8 and multiplies again
    template <class T> static T at(const T* rows, int i) { return *(const T*)((const char*)rows + i * 4); }
    __m256i values(int g, int t, int i) const { return at(value[g][t], i); }
    __m256 scale(int g, int i) const { return at(scales[g], i); }
    __m256i own(int g, int h, int i) const { return at(owns[g][h], i); }
    __m256 minimum(int g, int i) const { return at(minima[g], i); }
};
using Q4Panel = Widened<Q4Block, Bytes, 8>;
using Q4MPanel = Widened<Q4MBlock, Bytes, 8>;
using Q6Panel = Widened<Q6Block, Bytes, 8>;
using Q8Panel = Widened<Q8Block, Shorts, 16>;

// bf16 widened to fp32: `values` are one column, c + i.
template <class W> struct Floats {
    static constexpr int TOGETHER = SIX;

    template <int M> void multiply(int columns, const float* x, float* sums) const {
        constexpr int G = M <= 2 ? 4 : M <= 6 ? 2 : 1;
        for (int first = 0; first < ROWS; first += 8 * G) part<M, G>(first, columns, x, sums);
    }
    template <int M, int G> void part(int first, int columns, const float* x, float* sums) const {
        const W& w = static_cast<const W&>(*this);
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
#pragma GCC unroll 2
        for (int c = 0; c < columns; c += 2) {
            if (G == 4 || first == 0) w.ahead(c);
            for (int i = 0; i < 2; i++) {
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
};
struct BF16Block : Floats<BF16Block> {
    const uint8_t* block;

    void open(const uint8_t* at, int) { block = at; }
    INLINE void ahead(int c) const { prefetch<128>(block + c * 64); }
    __m256 values(int c, int i, int row) const {
        const __m256i both = bytes_at(block + c * 64 + row * 4);
        return _mm256_castsi256_ps(
            i ? _mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000)) : _mm256_slli_epi32(both, 16));
    }
};
struct BF16Panel : Floats<BF16Panel> {
    typedef BF16Block Block;
    typedef float Input;
    static Input input(float x) { return x; }
    alignas(64) __m256 value[FLOAT_PANEL][4];

    void open(const uint8_t* block, int columns) {
        BF16Block w;
        w.open(block, columns);
        for (int c = 0; c < columns; c += 2)
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++) value[c + i][j] = w.values(c, i, j * 8);
    }
    void ahead(int) const {}
    __m256 values(int c, int i, int row) const { return _mm256_load_ps((const float*)value[c + i] + row); }
};

}  // namespace tiles
