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
#define ALONE __attribute__((noinline))

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

// Products of integers with activations, for any weight W whose Part says of some rows, 8 j..8 j + 7 of
// them, and the columns of group g
//   values(t, j)  some columns, as W::add_up wants them
//   scale(j)      of a group, or where W is WHOLE of the panel
//   own(h, j)     where it has OWN: integer scales of HALVES runs of columns, each twice, as int16
//   minimum(j)    where it is MINIMAL
template <class W> struct Integers {
    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        constexpr int G = M <= 2 ? 4 : M <= 6 ? 2 : 1;  // so that what is added up fits the registers
        const W& w = static_cast<const W&>(*this);
        alignas(32) float whole[M * ROWS];
        if constexpr (W::WHOLE) memset(whole, 0, sizeof whole);
        for (int g = 0; g < groups; g++) {  // all rows of it at once: memory is read from its first byte to its last
            w.ahead(g);
            const Activations here{a.q + g * 32, a.wide + g * 32, a.scale + g, a.start + g * 2};
            for (int first = 0; first < ROWS; first += 8 * G) {
                float* const to = (W::WHOLE ? whole : sums) + first;
                if constexpr (G > 1) alone<M, G>(w.part(g, first), here, to);
                else group<M, G>(w.part(g, first), here, to);
            }
        }
        if constexpr (W::WHOLE)
            for (int i = 0; i < ROWS; i += 8)
                for (int m = 0; m < M; m++)
                    add(sums + m * ROWS + i, _mm256_load_ps(whole + m * ROWS + i), w.part(0, i).scale(0));
    }

private:
    static void add(float* sum, __m256 a, __m256 b) {
        _mm256_storeu_ps(sum, _mm256_fmadd_ps(a, b, _mm256_loadu_ps(sum)));
    }
    // A function of its own, with few pointers that all else lies at known distances from: where the compiler
    // sees more of them, it works out each address beforehand and keeps addresses and sums on the stack.
    // (One of 8 rows is better off without the call.)
    template <int M, int G, class Part> static ALONE void alone(Part w, Activations a, float* sums) {
        group<M, G>(w, a, sums);
    }
    template <int M, int G, class Part>
    static INLINE void group(const Part& w, const Activations& a, float* sums) {
        asm("" ::: "memory");  // else the activations of both halves of the rows are kept on the stack
        __m256i dot[M][G];
        W::template add_up<W>(w, a, dot);
        for (int j = 0; j < G; j++) {
            __m256 by = _mm256_setzero_ps(), least = by;
            if constexpr (!W::WHOLE) by = w.scale(j);
            if constexpr (W::MINIMAL) least = w.minimum(j);
            for (int m = 0; m < M; m++) {
                const __m256 as = _mm256_set1_ps(a.scale[m * GROUPS]);
                float* const sum = sums + m * ROWS + j * 8;
                add(sum, _mm256_cvtepi32_ps(dot[m][j]), W::WHOLE ? as : _mm256_mul_ps(by, as));
                if constexpr (W::MINIMAL) {
                    const __m256i total = _mm256_set1_epi32(a.start[m * STARTS]);
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

    template <class W, class Part, int M, int G>
    static INLINE void add_up(const Part& w, const Activations& a, __m256i (&dot)[M][G]) {
#pragma GCC unroll 2
        for (int h = 0; h < W::HALVES; h++) {
            __m256i acc[M][G];
            for (int m = 0; m < M; m++)
                for (int j = 0; j < G; j++)
                    acc[m][j] = W::MINIMAL ? _mm256_setzero_si256() : _mm256_set1_epi32(a.start[m * STARTS + h]);
#pragma GCC unroll 8
            for (int i = 0; i < 8 / W::HALVES; i++) {
                const int t = h * 4 + i;
                __m256i v[G];
                for (int j = 0; j < G; j++) v[j] = w.values(t, j);
                for (int m = 0; m < M; m++) {
                    const __m256i x = four_at(a.q + m * PANEL + t * 4);
                    for (int j = 0; j < G; j++) add_shorts(acc[m][j], _mm256_maddubs_epi16(v[j], x));
                }
            }
            for (int j = 0; j < G; j++) {
                __m256i by = _mm256_set1_epi16(1);
                if constexpr (W::OWN) by = w.own(h, j);
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

// Of all blocks: where one begins.
struct Begun {
    const uint8_t* block;
    void open(const uint8_t* at, int) { block = at; }
};

struct Q4Block : Begun, Bytes, Integers<Q4Block> {
    struct Part {
        const uint8_t *scales, *nibbles;
        __m256 scale(int j) const { return halves_at(scales + j * 16); }
        __m256i values(int t, int j) const { return nibbles_at(nibbles + j * 32, t); }
    };
    static void start(const int8_t* q, int32_t* to) { to[0] = two_sums(q, 32, -8); }
    INLINE void ahead(int g) const { prefetch<576>(block + g * 576); }
    Part part(int g, int first) const {
        const uint8_t* const group = block + g * 576;
        return {group + first * 2, group + 64 + first * 4};
    }
};

struct Q4MBlock : Begun, Bytes, Integers<Q4MBlock> {
    static constexpr bool OWN = true, MINIMAL = true;
    struct Part {
        const uint8_t *scales, *owns, *nibbles;
        __m256 scale(int j) const { return halves_at(scales + j * 16); }
        __m256i own(int, int j) const { return _mm256_cvtepu8_epi16(twice(owns + j * 8)); }
        __m256 minimum(int j) const {
            const __m128i eight = _mm_loadl_epi64((const __m128i*)(owns + 32 + j * 8));
            return _mm256_mul_ps(
                halves_at(scales + 64 + j * 16), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)));
        }
        __m256i values(int t, int j) const { return nibbles_at(nibbles + j * 32, t); }
    };
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, -1); }
    const uint8_t* group_at(int g) const { return block + 128 + g * 576; }
    INLINE void ahead(int g) const { prefetch<576>(group_at(g)); }
    Part part(int g, int first) const {
        return {block + first * 2, group_at(g) + first, group_at(g) + 64 + first * 4};
    }
};

struct Q6Block : Begun, Bytes, Integers<Q6Block> {
    static constexpr bool OWN = true, WHOLE = true;
    static constexpr int HALVES = 2, TOGETHER = EIGHT;
    struct Part {
        const uint8_t *scales, *owns, *nibbles;
        __m256 scale(int j) const { return halves_at(scales + j * 16); }
        __m256i own(int h, int j) const { return _mm256_cvtepi8_epi16(twice(owns + h * 32 + j * 8)); }
        __m256i values(int t, int j) const {
            const __m256i high = bytes_at(nibbles + 512 + t / 4 * 128 + j * 32), top = _mm256_set1_epi8(48);
            const __m256i above = t % 4 == 0 ? _mm256_slli_epi16(high, 4) : t % 4 == 1 ? _mm256_slli_epi16(high, 2)
                                : t % 4 == 2 ? high : _mm256_srli_epi16(high, 2);
            return _mm256_or_si256(nibbles_at(nibbles + j * 32, t), _mm256_and_si256(above, top));
        }
    };
    static void start(const int8_t* q, int32_t* to) {
        to[0] = two_sums(q, 16, -32);
        to[1] = two_sums(q + 16, 16, -32);
    }
    const uint8_t* group_at(int g) const { return block + 64 + g * 832; }
    INLINE void ahead(int g) const { prefetch<832>(group_at(g)); }
    Part part(int g, int first) const {
        return {block + first * 2, group_at(g) + first, group_at(g) + 64 + first * 4};
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

    template <class W, class Part, int M, int G>
    static INLINE void add_up(const Part& w, const Activations& a, __m256i (&acc)[M][G]) {
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) acc[m][j] = _mm256_set1_epi32(a.start[m * STARTS]);
#pragma GCC unroll 16
        for (int t = 0; t < 16; t++) {
            __m256i v[G];
            for (int j = 0; j < G; j++) v[j] = w.values(t, j);
            for (int m = 0; m < M; m++) {
                const __m256i x = four_at((const int8_t*)(a.wide + m * PANEL + t * 2));
                for (int j = 0; j < G; j++) add_ints(acc[m][j], _mm256_madd_epi16(v[j], x));
            }
        }
    }
};

struct Q8Block : Begun, Shorts, Integers<Q8Block> {
    struct Part {
        const uint8_t *scales, *bytes;
        __m256 scale(int j) const { return halves_at(scales + j * 16); }
        __m256i values(int t, int j) const {
            const __m256i four = bytes_at(bytes + t / 2 * 128 + j * 32);
            return t % 2 ? _mm256_srli_epi16(four, 8) : _mm256_and_si256(four, _mm256_set1_epi16(255));
        }
    };
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, -128); }
    INLINE void ahead(int g) const { prefetch<1088>(block + g * 1088); }
    Part part(int g, int first) const {
        const uint8_t* const group = block + g * 1088;
        return {group + first * 2, group + 64 + first * 4};
    }
};

// The same as W, widened into the first-level cache, for more rows.
template <class W, class Kind, int steps> struct Widened : Kind, Integers<Widened<W, Kind, steps>> {
    static constexpr bool WIDE = Kind::WIDE, OWN = W::OWN, WHOLE = W::WHOLE, MINIMAL = W::MINIMAL;
    static constexpr int HALVES = W::HALVES, TOGETHER = SIX;
    typedef W Block;
    typedef Widened Bulk;
    struct Group {
        __m256i value[steps][4], own[OWN ? HALVES : 0][4];
        __m256 scale[4], minimum[MINIMAL ? 4 : 0];
    };
    struct Part {
        const Group* group;  // that of the first rows, or so far beyond it that the others are its first
        __m256i values(int t, int j) const { return group->value[t][j]; }
        __m256 scale(int j) const { return group->scale[j]; }
        __m256i own(int h, int j) const { return group->own[h][j]; }
        __m256 minimum(int j) const { return group->minimum[j]; }
    };
    Group group[GROUPS];

    static void start(const int8_t* q, int32_t* to) { W::start(q, to); }
    void open(const uint8_t* block, int groups) {
        W w;
        w.open(block, groups);
        for (int g = 0; g < groups; g++) {
            w.ahead(g);
            for (int i = 0; i < 4; i++) {
                const typename W::Part part = w.part(g, i * 8);
                group[g].scale[i] = part.scale(0);
                if constexpr (OWN)
                    for (int h = 0; h < HALVES; h++) group[g].own[h][i] = part.own(h, 0);
                if constexpr (MINIMAL) group[g].minimum[i] = part.minimum(0);
#pragma GCC unroll 16
                for (int t = 0; t < steps; t++) group[g].value[t][i] = part.values(t, 0);
            }
        }
    }
    INLINE void ahead(int) const {}
    Part part(int g, int first) const { return {(const Group*)((const uint8_t*)(group + g) + first * 4)}; }
};

// Eight bits and bulk rows: both as int16, under one scale for all columns of a panel, so that nothing is
// scaled or kept between them. Weights are 32nds of the largest step among a row's groups, and off by one
// at most (half for themselves, half for their group's share of it); activations are up to FINEST. No sum leaves 32 bits: 128 * 32 * FINEST * PANEL < 2^31.
struct Fine {
    static constexpr int FINEST = 2047;
    __m256 scale[4];

    // PANEL activations times `by`, of each four first the even ones; gives what FinePanel begins with.
    static int32_t quantize(const float* from, float by, int16_t* to) {
        const __m256i order = _mm256_setr_epi8(
            0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
        const auto eight = [&](int c) {
            return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from + c), _mm256_set1_ps(by)));
        };
        __m256i sum = _mm256_setzero_si256();
        for (int c = 0; c < PANEL; c += 16) {
            const __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi32(eight(c), eight(c + 8)), 0xd8);
            const __m256i four = _mm256_shuffle_epi8(all, order);
            _mm256_storeu_si256((__m256i*)(to + c), four);
            sum = _mm256_sub_epi32(sum, _mm256_madd_epi16(four, _mm256_srli_epi64(four, 32)));
        }
        alignas(32) int32_t sums[8];
        _mm256_store_si256((__m256i*)sums, sum);
        return sums[0] + sums[2] + sums[4] + sums[6];
    }

protected:
    INLINE void add(float* sums, __m256i dot, int j, float by) const {
        const __m256 unit = _mm256_mul_ps(scale[j], _mm256_set1_ps(by));
        _mm256_storeu_ps(sums, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), unit, _mm256_loadu_ps(sums)));
    }
};
struct FineBlock : Fine {
    static constexpr int TOGETHER = SIX;
    const uint8_t* block;
    __m256i share[GROUPS][4];  // 4096 times a group's scale in the largest, as int16, each twice

    void open(const uint8_t* at, int groups) {
        block = at;
        const __m256 sign = _mm256_set1_ps(-0.0f);
        for (int j = 0; j < 4; j++) {
            __m256 most = _mm256_setzero_ps();
            for (int g = 0; g < groups; g++)
                most = _mm256_max_ps(_mm256_andnot_ps(sign, halves_at(at + g * 1088 + j * 16)), most);
            const __m256 some = _mm256_cmp_ps(most, _mm256_setzero_ps(), _CMP_NEQ_UQ);
            const __m256 inverse = _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(4096), most));
            for (int g = 0; g < groups; g++) {
                const __m256 of = _mm256_mul_ps(halves_at(at + g * 1088 + j * 16), inverse);
                const __m256i once = _mm256_cvtps_epi32(of);
                share[g][j] = _mm256_blend_epi16(once, _mm256_slli_epi32(once, 16), 0xaa);
            }
            scale[j] = _mm256_mul_ps(most, _mm256_set1_ps(1.0f / 32));
        }
    }
    INLINE void ahead(int g) const { prefetch<1088>(block + g * 1088); }
    // Columns 4 t and 4 t + 2 of group g, or those behind them, of rows 8 j..8 j + 7.
    __m256i values(int g, int t, bool odd, int j) const {
        const __m256i both = bytes_at(block + g * 1088 + 64 + t * 128 + j * 32);
        const __m256i high = odd ? _mm256_and_si256(both, _mm256_set1_epi16(-256)) : _mm256_slli_epi16(both, 8);
        return _mm256_mulhrs_epi16(_mm256_xor_si256(high, _mm256_set1_epi16(-32768)), share[g][j]);
    }

    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        constexpr int G = M <= 2 ? 4 : M <= 6 ? 2 : 1;
        for (int first = 0; first < ROWS; first += 8 * G) part<M, G>(first, groups, a, sums + first);
    }

private:
    template <int M, int G> ALONE void part(int first, int groups, Activations a, float* sums) const {
        __m256i sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_setzero_si256();
        const int16_t* x = a.wide;
        for (int g = 0; g < groups; g++, x += 32) {
            ahead(g);
#pragma GCC unroll 16
            for (int t = 0; t < 16; t++) {
                __m256i v[G];
                for (int j = 0; j < G; j++) v[j] = values(g, t / 2, t % 2, first / 8 + j);
                for (int m = 0; m < M; m++) {
                    const __m256i two = four_at((const int8_t*)(x + m * PANEL + t * 2));
                    for (int j = 0; j < G; j++) add_ints(sum[m][j], _mm256_madd_epi16(v[j], two));
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) add(sums + m * ROWS + j * 8, sum[m][j], first / 8 + j, a.scale[m * GROUPS]);
    }
};
// The same whole numbers by half the multiplications: a v + b w = (a + w) (b + v) - a b - v w, where a b is the
// activations' own and v w the weights'. (Winograd, "A New Algorithm for Inner Product", 1968.) What leaves 32
// bits in between comes back.
struct FinePanel : Fine {
    typedef FineBlock Block;
    static constexpr int TOGETHER = 4, G = 2;  // 8 sums, 4 weights, 2 activations, 2 products: all registers
    struct Two {
        __m256i even, odd;
    };
    Two value[GROUPS * 8][4];
    __m256i own[4];

    void open(const uint8_t* block, int groups) {
        FineBlock w;
        w.open(block, groups);
        memcpy(scale, w.scale, sizeof scale);
        for (int j = 0; j < 4; j++) own[j] = _mm256_setzero_si256();
        for (int g = 0; g < groups; g++) {
            w.ahead(g);
            for (int t = 0; t < 8; t++)
                for (int j = 0; j < 4; j++) {
                    const Two two{w.values(g, t, false, j), w.values(g, t, true, j)};
                    value[g * 8 + t][j] = two;
                    own[j] = _mm256_add_epi32(own[j], _mm256_madd_epi16(two.even, two.odd));
                }
        }
    }
    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        for (int first = 0; first < ROWS; first += 8 * G) part<M>(first, groups, a, sums + first);
    }

private:
    // Loops over rows are unrolled by name: else their sums are kept in memory from group to group.
    template <int M> ALONE void part(int first, int groups, Activations a, float* sums) const {
        __m256i sum[M][G];
#pragma GCC unroll 4
        for (int m = 0; m < M; m++)
#pragma GCC unroll 2
            for (int j = 0; j < G; j++)
                sum[m][j] = _mm256_sub_epi32(_mm256_set1_epi32(a.start[m * STARTS]), own[first / 8 + j]);
        const int16_t* x = a.wide;
        for (int g = 0; g < groups; g++, x += 32) {
            if (first == 0)  // the next rows, while these are in use
                for (int m = M; m < 2 * M; m++) __builtin_prefetch(x + m * PANEL);
#pragma GCC unroll 8
            for (int t = 0; t < 8; t++) {
                Two w[G];
#pragma GCC unroll 2
                for (int j = 0; j < G; j++) w[j] = value[g * 8 + t][first / 8 + j];
#pragma GCC unroll 4
                for (int m = 0; m < M; m++) {
                    const int8_t* const four = (const int8_t*)(x + m * PANEL + t * 4);
                    const Two v{four_at(four), four_at(four + 4)};
#pragma GCC unroll 2
                    for (int j = 0; j < G; j++) add_crosswise(sum[m][j], v, w[j]);
                }
            }
        }
#pragma GCC unroll 4
        for (int m = 0; m < M; m++)
#pragma GCC unroll 2
            for (int j = 0; j < G; j++) add(sums + m * ROWS + j * 8, sum[m][j], first / 8 + j, a.scale[m * GROUPS]);
    }
    // In assembly, because the compiler would read weights from memory for each addition.
    static INLINE void add_crosswise(__m256i& sum, const Two& v, const Two& w) {
        __m256i one, other;
        asm("vpaddw %3, %6, %1\n\tvpaddw %4, %5, %2\n\tvpmaddwd %1, %2, %1\n\tvpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(one), "=&x"(other)
            : "x"(v.even), "x"(v.odd), "x"(w.even), "x"(w.odd));
    }
};

using Q4Panel = Widened<Q4Block, Bytes, 8>;
using Q4MPanel = Widened<Q4MBlock, Bytes, 8>;
using Q6Panel = Widened<Q6Block, Bytes, 8>;
struct Q8Panel : Widened<Q8Block, Shorts, 16> {
    typedef FinePanel Bulk;
};

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
