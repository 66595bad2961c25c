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

// How many activations c % 4 in {0, 1} and {2, 3} weigh, as two int16, times `by`.
static inline int32_t two_sums(const int8_t* q, int count, int by) {
    int first = 0, second = 0;
    for (int c = 0; c < count; c++) ((c & 3) < 2 ? first : second) += q[c];
    return (int32_t)((uint32_t)(uint16_t)(by * first) | (uint32_t)(uint16_t)(by * second) << 16);
}
static inline int32_t one_sum(const int8_t* q, int by) {
    int sum = 0;
    for (int c = 0; c < COLS; c++) sum += q[c];
    return by * sum;
}

static inline __m256i bytes_at(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
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

// Small integers: u8 values for 4 columns x 32 rows x 4 columns; HALVES runs of columns, each with
// integer scales of its own.
enum Kind { PLAIN, WITH_MINIMUM, WITH_SCALES };
template <Kind kind> struct Small {
    static constexpr int HALVES = kind == WITH_SCALES ? 2 : 1;
    alignas(64) uint8_t values[GROUPS][8][128];
    alignas(64) float scale[GROUPS][32];
    alignas(64) int16_t own[kind == PLAIN ? 1 : GROUPS][HALVES][64];   // each twice
    alignas(64) float minimum[kind == WITH_MINIMUM ? GROUPS : 1][32];

    template <int M, int G>
    void part(int first, int groups, const Activations& a, float* sums) const {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
        for (int g = 0; g < groups; g++) {
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
                    __m256i w[G];
                    for (int j = 0; j < G; j++) w[j] = bytes_at(values[g][t] + first * 4 + j * 32);
                    for (int m = 0; m < M; m++) {
                        const __m256i v = four_at(a.q + m * PANEL + g * 32 + t * 4);
                        for (int j = 0; j < G; j++)
                            add_shorts(acc[m][j], _mm256_maddubs_epi16(w[j], v));
                    }
                }
                for (int m = 0; m < M; m++)
                    for (int j = 0; j < G; j++) {
                        const __m256i by = kind == PLAIN ? ones : bytes_at(own[g][h] + first * 2 + j * 16);
                        const __m256i now = _mm256_madd_epi16(acc[m][j], by);
                        dot[m][j] = h ? _mm256_add_epi32(dot[m][j], now) : now;
                    }
            }
            for (int j = 0; j < G; j++) {
                const __m256 ws = _mm256_loadu_ps(scale[g] + first + j * 8);
                for (int m = 0; m < M; m++) {
                    const __m256 as = _mm256_set1_ps(a.scale[m * GROUPS + g]);
                    sum[m][j] = _mm256_fmadd_ps(
                        _mm256_cvtepi32_ps(dot[m][j]), _mm256_mul_ps(ws, as), sum[m][j]);
                    if (kind == WITH_MINIMUM) {
                        const __m256 total = _mm256_mul_ps(
                            _mm256_cvtepi32_ps(_mm256_set1_epi32(a.start[m * STARTS + g * 2])), as);
                        const __m256 least = _mm256_loadu_ps(minimum[g] + first + j * 8);
                        sum[m][j] = _mm256_fnmadd_ps(least, total, sum[m][j]);
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

    static void nibbles(const uint8_t* from, uint8_t (*to)[128]) {
        const __m256i low = _mm256_set1_epi8(15);
        for (int p = 0; p < 4; p++)
            for (int i = 0; i < 128; i += 32) {
                const __m256i both = bytes_at(from + p * 128 + i);
                put(to[2 * p] + i, _mm256_and_si256(both, low));
                put(to[2 * p + 1] + i, _mm256_and_si256(_mm256_srli_epi16(both, 4), low));
            }
    }
};

struct Q4Panel : Small<PLAIN> {
    static void start(const int8_t* q, int32_t* to) { to[0] = two_sums(q, 32, -8); }
    static constexpr bool WIDE = false;
    void open(const uint8_t* block, int groups) {
        for (int g = 0; g < groups; g++, block += 576) {
            for (int i = 0; i < 32; i += 8) _mm256_store_ps(scale[g] + i, halves_at(block + 2 * i));
            nibbles(block + 64, values[g]);
        }
    }
};

// Integer scales, each twice, as int16.
static inline void twice(const uint8_t* from, bool is_signed, int16_t* to) {
    for (int i = 0; i < 32; i += 8) {
        const __m128i eight = _mm_loadl_epi64((const __m128i*)(from + i));
        const __m128i sixteen = _mm_unpacklo_epi8(eight, eight);
        put(to + 2 * i, is_signed ? _mm256_cvtepi8_epi16(sixteen) : _mm256_cvtepu8_epi16(sixteen));
    }
}

struct Q4MPanel : Small<WITH_MINIMUM> {
    static void start(const int8_t* q, int32_t* to) { to[0] = one_sum(q, 1); }
    static constexpr bool WIDE = false;
    void open(const uint8_t* block, int groups) {
        const uint8_t* group = block + 128;
        for (int g = 0; g < groups; g++, group += 576) {
            twice(group, false, own[g][0]);
            for (int i = 0; i < 32; i += 8) {
                _mm256_store_ps(scale[g] + i, halves_at(block + 2 * i));
                const __m128i eight = _mm_loadl_epi64((const __m128i*)(group + 32 + i));
                const __m256 integer = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
                _mm256_store_ps(minimum[g] + i, _mm256_mul_ps(halves_at(block + 64 + 2 * i), integer));
            }
            nibbles(group + 64, values[g]);
        }
    }
};

struct Q6Panel : Small<WITH_SCALES> {
    static void start(const int8_t* q, int32_t* to) {
        to[0] = two_sums(q, 16, -32);
        to[1] = two_sums(q + 16, 16, -32);
    }
    static constexpr bool WIDE = false;
    void open(const uint8_t* block, int groups) {
        const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(48);
        const uint8_t* group = block + 64;
        for (int g = 0; g < groups; g++, group += 832) {
            twice(group, true, own[g][0]);
            twice(group + 32, true, own[g][1]);
            for (int i = 0; i < 32; i += 8) _mm256_store_ps(scale[g] + i, halves_at(block + 2 * i));
            for (int h = 0; h < 2; h++)
                for (int i = 0; i < 128; i += 32) {
                    const __m256i high = bytes_at(group + 576 + h * 128 + i);
                    const __m256i first = bytes_at(group + 64 + h * 256 + i);
                    const __m256i second = bytes_at(group + 64 + h * 256 + 128 + i);
                    const __m256i nibble[4] = {
                        _mm256_and_si256(first, low), _mm256_and_si256(_mm256_srli_epi16(first, 4), low),
                        _mm256_and_si256(second, low), _mm256_and_si256(_mm256_srli_epi16(second, 4), low)};
                    const __m256i above[4] = {
                        _mm256_slli_epi16(high, 4), _mm256_slli_epi16(high, 2), high,
                        _mm256_srli_epi16(high, 2)};
                    for (int t = 0; t < 4; t++)
                        put(values[g][h * 4 + t] + i,
                            _mm256_or_si256(nibble[t], _mm256_and_si256(above[t], top)));
                }
        }
    }
};

// Eight bits: int16 values for 2 columns x 32 rows x 2 columns.
struct Q8Panel {
    alignas(64) int16_t values[GROUPS][16][64];
    alignas(64) float scale[GROUPS][32];

    static void start(const int8_t*, int32_t*) {}
    static constexpr bool WIDE = true;
    void open(const uint8_t* block, int groups) {
        const __m256i offset = _mm256_set1_epi8((char)128);
        for (int g = 0; g < groups; g++, block += 1088) {
            for (int i = 0; i < 32; i += 8) _mm256_store_ps(scale[g] + i, halves_at(block + 2 * i));
            for (int t = 0; t < 8; t++)
                for (int i = 0; i < 128; i += 32) {  // 8 rows of 4 columns: to pairs of columns
                    const __m256i v = _mm256_xor_si256(bytes_at(block + 64 + t * 128 + i), offset);
                    const __m256i lower = _mm256_slli_epi16(v, 8);
                    // even bytes and odd bytes of each 16 bits, widened with their sign
                    const __m256i even = _mm256_srai_epi16(lower, 8), odd = _mm256_srai_epi16(v, 8);
                    // each 32-bit lane holds columns 0 and 2 in `even`, 1 and 3 in `odd`
                    put(&values[g][2 * t][i / 2], _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa));
                    put(&values[g][2 * t + 1][i / 2], _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa));
                }
        }
    }
    template <int M, int G>
    void part(int first, int groups, const Activations& a, float* sums) const {
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
        for (int g = 0; g < groups; g++) {
            __m256i acc[M][G];
            for (int m = 0; m < M; m++)
                for (int j = 0; j < G; j++) acc[m][j] = _mm256_setzero_si256();
#pragma GCC unroll 16
            for (int t = 0; t < 16; t++) {
                __m256i w[G];
                for (int j = 0; j < G; j++) w[j] = bytes_at(values[g][t] + first * 2 + j * 16);
                for (int m = 0; m < M; m++) {
                    int32_t two;
                    memcpy(&two, a.wide + m * PANEL + g * 32 + t * 2, 4);
                    const __m256i v = _mm256_set1_epi32(two);
                    for (int j = 0; j < G; j++)
                        add_ints(acc[m][j], _mm256_madd_epi16(w[j], v));
                }
            }
            for (int j = 0; j < G; j++) {
                const __m256 ws = _mm256_loadu_ps(scale[g] + first + j * 8);
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

// bf16 widened to fp32: column by column.
struct BF16Panel {
    alignas(64) float values[FLOAT_PANEL][32];

    void open(const uint8_t* block, int columns) {
        const __m256i high = _mm256_set1_epi32((int)0xffff0000);
        for (int c = 0; c < columns; c += 2, block += 128)
            for (int i = 0; i < 32; i += 8) {
                const __m256i both = bytes_at(block + i * 4);
                put(values[c] + i, _mm256_slli_epi32(both, 16));
                put(values[c + 1] + i, _mm256_and_si256(both, high));
            }
    }
    template <int M, int G> void part(int first, int columns, const float* x, float* sums) const {
        __m256 sum[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) sum[m][j] = _mm256_loadu_ps(sums + m * ROWS + first + j * 8);
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) {
            __m256 w[G];
            for (int j = 0; j < G; j++) w[j] = _mm256_load_ps(values[c] + first + j * 8);
            for (int m = 0; m < M; m++) {
                const __m256 v = _mm256_set1_ps(x[m * FLOAT_PANEL + c]);
                for (int j = 0; j < G; j++) sum[m][j] = _mm256_fmadd_ps(w[j], v, sum[m][j]);
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

}  // namespace tiles
