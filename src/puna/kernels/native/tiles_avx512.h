// Weights times activations for AVX-512 with VNNI. Weights are widened on their way into the product,
// for so many rows at once that it costs little.
//
// Each function adds up every (output, activation) pair in the same order whatever M is, so a result
// does not depend on what else is in the batch. Weights are unsigned: the accumulator starts at minus
// their offset times the sum of the activations. Where the processor multiplies bf16 itself, activations
// that meet bf16 weights are rounded to bf16 as well, for one row as for many.
#pragma once
#include <immintrin.h>

#include "formats.h"

namespace tiles {

static inline int32_t sum_of(const int8_t* q, int count) {
    int sum = 0;
    for (int c = 0; c < count; c++) sum += q[c];
    return sum;
}
static inline __m512i four(const int8_t* q) {
    int32_t a;
    memcpy(&a, q, 4);
    return _mm512_set1_epi32(a);
}
static inline __m512 halves_at(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
}
// Asks for what will be read AHEAD bytes from here on. In assembly: calls that only prefetch are dropped.
constexpr long AHEAD = 8192;
template <int bytes> static inline void ask(const uint8_t* at) {
#pragma GCC unroll 32
    for (int line = 0; line < bytes; line += 64) asm volatile("prefetcht1 %0" ::"m"(at[AHEAD + line]));
}
static inline __m128i sixteen_at(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }

template <int format> struct Integers {
    typedef Integers Block, Bulk;
    static constexpr bool WIDE = false;
    static constexpr int FORMAT = format, TOGETHER = 8;
    static constexpr int HALVES = format == Q6 ? 2 : 1;  // runs of columns with scales of their own
    static constexpr long GROUP_BYTES = COLS * block_bytes(format) / block_columns(format);
    const uint8_t* block;

    static void start(const int8_t* q, int32_t* to) {
        constexpr int offset = format == Q8 ? -128 : format == Q4 ? -8 : -32;
        if (format == Q6) {
            to[0] = offset * sum_of(q, 16);
            to[1] = offset * sum_of(q + 16, 16);
        } else {
            to[0] = (format == Q4M ? 1 : offset) * sum_of(q, 32);
        }
    }
    void open(const uint8_t* at, int) { block = at; }

    // 16 rows (the `half` of the block) of the 4 columns t of a group
    static __m512i values(const uint8_t* at, int t, int half) {
        if (format == Q8) return _mm512_loadu_si512(at + 64 + t * 128 + half * 64);
        const __m512i both = _mm512_loadu_si512(at + 64 + t / 2 * 128 + half * 64);
        const __m512i low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
        const __m512i nibble = _mm512_and_si512(t % 2 ? _mm512_srli_epi16(both, 4) : both, low);
        if (format != Q6) return nibble;
        const __m512i high = _mm512_loadu_si512(at + 576 + t / 4 * 128 + half * 64);
        const __m512i above = t % 4 == 0 ? _mm512_slli_epi16(high, 4) : t % 4 == 1 ? _mm512_slli_epi16(high, 2)
                            : t % 4 == 2 ? high : _mm512_srli_epi16(high, 2);
        return _mm512_or_si512(nibble, _mm512_and_si512(above, top));
    }

    // Where group g lies.
    static const uint8_t* group(const uint8_t* block, int g) {
        const long wide = format == Q6 ? 64 + g * 832 : 128 + g * 576;  // of the formats of 256 columns
        return block + (format == Q8 ? g * 1088 : format == Q4 ? g * 576 : wide);
    }
    static const uint8_t* scales(const uint8_t* block, int g) {
        return block_columns(format) == COLS ? group(block, g) : block;
    }

    // Few rows meet both halves of the weights as memory gives them; more, one after the other, so that
    // what is added up fits the registers.
    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        if constexpr (M < 4) {
            halves<M, 2>(0, groups, a, sums);
        } else {
            halves<M, 1>(0, groups, a, sums);
            halves<M, 1>(1, groups, a, sums);
        }
    }

private:
    template <int M, int W> void halves(int half, int groups, const Activations& a, float* sums) const {
        sums += half * 16;
        __m512 sum[M][W];
        for (int m = 0; m < M; m++)
            for (int i = 0; i < W; i++) sum[m][i] = _mm512_loadu_ps(sums + m * ROWS + i * 16);
        for (int g = 0; g < groups; g++) {
            const uint8_t* at = group(block, g);
            ask<GROUP_BYTES * W / 2>(block + (half * groups + g) * GROUP_BYTES * W / 2);
            __m512 dot[M][W];  // whole numbers below 2^24, so floats hold them exactly
#pragma GCC unroll 2
            for (int h = 0; h < HALVES; h++) {
                __m512i acc[M][W];
                for (int m = 0; m < M; m++)
                    for (int i = 0; i < W; i++)
                        acc[m][i] = format == Q4M ? _mm512_setzero_si512()
                                                  : _mm512_set1_epi32(a.start[m * STARTS + g * 2 + h]);
#pragma GCC unroll 8
                for (int c = 0; c < 8 / HALVES; c++) {
                    const int t = h * 4 + c;
                    __m512i w[W];
                    for (int i = 0; i < W; i++) w[i] = values(at, t, half + i);
                    for (int m = 0; m < M; m++) {
                        const __m512i v = four(a.q + m * PANEL + g * 32 + t * 4);
                        for (int i = 0; i < W; i++) acc[m][i] = _mm512_dpbusd_epi32(acc[m][i], w[i], v);
                    }
                }
                for (int i = 0; i < W; i++) {
                    const __m512 by = format == Q6 || format == Q4M ? own(at, h, half + i) : _mm512_setzero_ps();
                    for (int m = 0; m < M; m++) {
                        const __m512 now = _mm512_cvtepi32_ps(acc[m][i]);
                        dot[m][i] = format != Q6 && format != Q4M ? now
                                  : h ? _mm512_fmadd_ps(now, by, dot[m][i]) : _mm512_mul_ps(now, by);
                    }
                }
            }
            for (int i = 0; i < W; i++) {
                const __m512 ws = halves_at(scales(block, g) + (half + i) * 32);
                const __m512 least = format == Q4M ? minimum(block, at, half + i) : _mm512_setzero_ps();
                for (int m = 0; m < M; m++) {
                    const float as = a.scale[m * GROUPS + g];
                    const __m512 by = _mm512_mul_ps(ws, _mm512_set1_ps(as));
                    sum[m][i] = _mm512_fmadd_ps(dot[m][i], by, sum[m][i]);
                    if (format == Q4M) {
                        const __m512 total = _mm512_set1_ps((float)a.start[m * STARTS + g * 2] * as);
                        sum[m][i] = _mm512_fnmadd_ps(least, total, sum[m][i]);
                    }
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int i = 0; i < W; i++) _mm512_storeu_ps(sums + m * ROWS + i * 16, sum[m][i]);
    }

public:
    // The whole scale of run h of the columns of a group of 256.
    static __m512 own(const uint8_t* at, int h, int half) {
        const __m128i bytes = sixteen_at(at + h * 32 + half * 16);
        return _mm512_cvtepi32_ps(format == Q6 ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
    }
    // What a minimal format takes off for each unit of the activations.
    static __m512 minimum(const uint8_t* block, const uint8_t* at, int half) {
        return _mm512_mul_ps(
            halves_at(block + 64 + half * 32),
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixteen_at(at + 32 + half * 16))));
    }
};
using Q8Panel = Integers<Q8>;
using Q6Panel = Integers<Q6>;
using Q4Panel = Integers<Q4>;
using Q4MPanel = Integers<Q4M>;

#if defined(__AVX512BF16__)
struct BF16Panel {
    typedef BF16Panel Block;
    static constexpr int TOGETHER = 6;
    typedef uint16_t Input;
    const uint8_t* block;

    static Input input(float x) { return float_to_bf16(x); }
    void open(const uint8_t* at, int) { block = at; }
    template <int M> void multiply(int columns, const Input* x, float* sums) const {
        const uint8_t* at = block;
        __m512 sum[M][2];
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 2; i++) sum[m][i] = _mm512_loadu_ps(sums + m * ROWS + i * 16);
        for (int c = 0; c < columns; c += 2, at += 128) {
            const __m512bh w[2] = {(__m512bh)_mm512_loadu_si512(at), (__m512bh)_mm512_loadu_si512(at + 64)};
            for (int m = 0; m < M; m++) {
                const __m512bh v = (__m512bh)four((const int8_t*)(x + m * FLOAT_PANEL + c));
                for (int i = 0; i < 2; i++) sum[m][i] = _mm512_dpbf16_ps(sum[m][i], w[i], v);
            }
        }
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 2; i++) _mm512_storeu_ps(sums + m * ROWS + i * 16, sum[m][i]);
    }
};
#else
struct BF16Panel {
    typedef BF16Panel Block;
    static constexpr int TOGETHER = 6;
    typedef float Input;
    const uint8_t* block;

    static Input input(float x) { return x; }
    void open(const uint8_t* at, int) { block = at; }
    template <int M> void multiply(int columns, const float* x, float* sums) const {
        const __m512i high = _mm512_set1_epi32((int)0xffff0000);
        const uint8_t* at = block;
        __m512 sum[M][2];
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 2; i++) sum[m][i] = _mm512_loadu_ps(sums + m * ROWS + i * 16);
        for (int c = 0; c < columns; c += 2, at += 128)
            for (int i = 0; i < 2; i++) {
                const __m512i both = _mm512_loadu_si512(at + i * 64);
                const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
                const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(both, high));
                for (int m = 0; m < M; m++) {
                    const float* v = x + m * FLOAT_PANEL + c;
                    sum[m][i] = _mm512_fmadd_ps(even, _mm512_set1_ps(v[0]), sum[m][i]);
                    sum[m][i] = _mm512_fmadd_ps(odd, _mm512_set1_ps(v[1]), sum[m][i]);
                }
            }
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 2; i++) _mm512_storeu_ps(sums + m * ROWS + i * 16, sum[m][i]);
    }
};
#endif

}  // namespace tiles
