// Dot products of one block row (32 output rows) with M activation rows, for AVX-512 with VNNI.
//
// Each function adds up every (row, activation) pair in the same order whatever M is, so a result
// does not depend on what else is in the batch.
#pragma once
#include <immintrin.h>

#include "formats.h"

namespace tiles {

using Q4Value = int8_t;
using Q8Value = int8_t;

static inline int32_t sum_of(const int8_t* q) {
    int sum = 0;
    for (int c = 0; c < COLS; c++) sum += q[c];
    return sum;
}
static inline int32_t q4_start(const int8_t* q) { return -8 * sum_of(q); }
static inline int32_t q8_start(const int8_t* q) { return -128 * sum_of(q); }

static inline __m512i four(const int8_t* q) {
    int32_t a;
    memcpy(&a, q, 4);
    return _mm512_set1_epi32(a);
}
static inline __m512 scales(const uint8_t* block, int half) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(block + half * 32)));
}

// `start` is what every lane begins with: it takes back the offset of the unsigned weights.
template <int M, bool FOUR_BITS> static inline void quantized(
    const uint8_t* block, long groups, const int8_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512 sum[M][2];
    for (int m = 0; m < M; m++) sum[m][0] = sum[m][1] = _mm512_setzero_ps();
    for (long g = 0; g < groups; g++, block += FOUR_BITS ? 576 : 1088) {
        __m512i acc[M][2];
        for (int m = 0; m < M; m++) acc[m][0] = acc[m][1] = _mm512_set1_epi32(start[m][g]);
        const uint8_t* w = block + 64;
        for (int p = 0; p < (FOUR_BITS ? 4 : 8); p++, w += 128) {
            for (int h = 0; h < 2; h++) {
                const __m512i both = _mm512_loadu_si512(w + h * 64);
                if (FOUR_BITS) {
                    const __m512i lo = _mm512_and_si512(both, low);
                    const __m512i hi = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
                    for (int m = 0; m < M; m++) {
                        acc[m][h] = _mm512_dpbusd_epi32(acc[m][h], lo, four(q[m] + g * 32 + p * 8));
                        acc[m][h] = _mm512_dpbusd_epi32(acc[m][h], hi, four(q[m] + g * 32 + p * 8 + 4));
                    }
                } else {
                    for (int m = 0; m < M; m++)
                        acc[m][h] = _mm512_dpbusd_epi32(acc[m][h], both, four(q[m] + g * 32 + p * 4));
                }
            }
        }
        for (int h = 0; h < 2; h++) {
            const __m512 ws = scales(block, h);
            for (int m = 0; m < M; m++) {
                const __m512 both = _mm512_mul_ps(ws, _mm512_set1_ps(scale[m][g]));
                sum[m][h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[m][h]), both, sum[m][h]);
            }
        }
    }
    for (int m = 0; m < M; m++)
        for (int h = 0; h < 2; h++) _mm512_storeu_ps(out[m] + h * 16, sum[m][h]);
}

template <int M> static inline void q4(
    const uint8_t* block, long groups, const int8_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    quantized<M, true>(block, groups, q, scale, start, out);
}
template <int M> static inline void q8(
    const uint8_t* block, long groups, const int8_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    quantized<M, false>(block, groups, q, scale, start, out);
}

template <int M> static inline void bf16(
    const uint16_t* block, long groups, const float* const* x, float* const* out) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    __m512 even[M][2], odd[M][2];
    for (int m = 0; m < M; m++)
        for (int h = 0; h < 2; h++) even[m][h] = odd[m][h] = _mm512_setzero_ps();
    for (long c = 0; c < groups * 16; c++, block += 64)
        for (int h = 0; h < 2; h++) {
            const __m512i both = _mm512_loadu_si512(block + h * 32);
            const __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
            const __m512 w1 = _mm512_castsi512_ps(_mm512_and_si512(both, high));
            for (int m = 0; m < M; m++) {
                even[m][h] = _mm512_fmadd_ps(w0, _mm512_set1_ps(x[m][2 * c]), even[m][h]);
                odd[m][h] = _mm512_fmadd_ps(w1, _mm512_set1_ps(x[m][2 * c + 1]), odd[m][h]);
            }
        }
    for (int m = 0; m < M; m++)
        for (int h = 0; h < 2; h++) _mm512_storeu_ps(out[m] + h * 16, _mm512_add_ps(even[m][h], odd[m][h]));
}

}  // namespace tiles
