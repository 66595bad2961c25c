// Dot products of one block row (32 output rows) with M activation rows, for AVX2 and FMA.
//
// Each function adds up every (row, activation) pair in the same order whatever M is, so a result
// does not depend on what else is in the batch.
#pragma once
#include <immintrin.h>

#include "formats.h"

namespace tiles {

using Q4Value = int8_t;   // what an activation is quantised to, by format of the weight
using Q8Value = int16_t;  // 8-bit products would saturate in maddubs: widen instead

// The accumulators of a q4 tile are pairs of int16 over columns c % 4 in {0, 1} and {2, 3}: 16
// products of at most 15 * 127 and a start of -8 * sum stay within 16 bits for a group of 32.
static inline int32_t q4_start(const int8_t* q) {
    int first = 0, second = 0;
    for (int c = 0; c < COLS; c++) ((c & 3) < 2 ? first : second) += q[c];
    return (int32_t)((uint32_t)(uint16_t)(-8 * first) | (uint32_t)(uint16_t)(-8 * second) << 16);
}
static inline int32_t q8_start(const int16_t* q) {
    int sum = 0;
    for (int c = 0; c < COLS; c++) sum += q[c];
    return -128 * sum;
}

template <int M, int G> static inline void q4_part(
    const uint8_t* block, long groups, int part, const int8_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256 sum[M][G];
    for (int m = 0; m < M; m++)
        for (int j = 0; j < G; j++) sum[m][j] = _mm256_setzero_ps();
    for (long g = 0; g < groups; g++, block += 576) {
        __m256i acc[M][G];
        for (int m = 0; m < M; m++)
            for (int j = 0; j < G; j++) acc[m][j] = _mm256_set1_epi32(start[m][g]);
        const uint8_t* w = block + 64 + part * 32;
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++, w += 128) {
            __m256i lo[G], hi[G];
            for (int j = 0; j < G; j++) {
                __m256i both = _mm256_loadu_si256((const __m256i*)(w + j * 32));
                lo[j] = _mm256_and_si256(both, low);
                hi[j] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
            }
            for (int m = 0; m < M; m++) {
                int32_t a0, a1;
                memcpy(&a0, q[m] + g * 32 + p * 8, 4);
                memcpy(&a1, q[m] + g * 32 + p * 8 + 4, 4);
                __m256i v0 = _mm256_set1_epi32(a0), v1 = _mm256_set1_epi32(a1);
                for (int j = 0; j < G; j++) {
                    acc[m][j] = _mm256_add_epi16(acc[m][j], _mm256_maddubs_epi16(lo[j], v0));
                    acc[m][j] = _mm256_add_epi16(acc[m][j], _mm256_maddubs_epi16(hi[j], v1));
                }
            }
        }
        for (int j = 0; j < G; j++) {
            __m256 ws = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(block + (part + j) * 16)));
            for (int m = 0; m < M; m++) {
                __m256 dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(acc[m][j], ones));
                sum[m][j] = _mm256_fmadd_ps(dot, _mm256_mul_ps(ws, _mm256_set1_ps(scale[m][g])), sum[m][j]);
            }
        }
    }
    for (int m = 0; m < M; m++)
        for (int j = 0; j < G; j++) _mm256_storeu_ps(out[m] + (part + j) * 8, sum[m][j]);
}

template <int M> static inline void q4(
    const uint8_t* block, long groups, const int8_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    constexpr int G = M == 1 ? 4 : 2;
    for (int part = 0; part < 4; part += G) q4_part<M, G>(block, groups, part, q, scale, start, out);
}

template <int M> static inline void q8(
    const uint8_t* block, long groups, const int16_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    for (int part = 0; part < 4; part++) {
        __m256 sum[M];
        for (int m = 0; m < M; m++) sum[m] = _mm256_setzero_ps();
        const uint8_t* b = block;
        for (long g = 0; g < groups; g++, b += 1088) {
            __m256i acc0[M], acc1[M];  // rows 0..3 and 4..7, two halves of a row side by side
            for (int m = 0; m < M; m++) acc0[m] = acc1[m] = _mm256_setzero_si256();
            const uint8_t* w = b + 64 + part * 32;
#pragma GCC unroll 8
            for (int p = 0; p < 8; p++, w += 128) {
                __m256i w0 = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)w));
                __m256i w1 = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)(w + 16)));
                for (int m = 0; m < M; m++) {
                    int64_t a;
                    memcpy(&a, q[m] + g * 32 + p * 4, 8);
                    __m256i v = _mm256_set1_epi64x(a);
                    acc0[m] = _mm256_add_epi32(acc0[m], _mm256_madd_epi16(w0, v));
                    acc1[m] = _mm256_add_epi32(acc1[m], _mm256_madd_epi16(w1, v));
                }
            }
            __m256 ws = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(b + part * 16)));
            for (int m = 0; m < M; m++) {
                // hadd gives rows 0 1 4 5 | 2 3 6 7
                __m256i dot = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc0[m], acc1[m]), 0xd8);
                dot = _mm256_add_epi32(dot, _mm256_set1_epi32(start[m][g]));
                const __m256 both = _mm256_mul_ps(ws, _mm256_set1_ps(scale[m][g]));
                sum[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), both, sum[m]);
            }
        }
        for (int m = 0; m < M; m++) _mm256_storeu_ps(out[m] + part * 8, sum[m]);
    }
}

template <int M, int G> static inline void bf16_part(
    const uint16_t* block, long groups, int part, const float* const* x, float* const* out) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    __m256 even[M][G], odd[M][G];
    for (int m = 0; m < M; m++)
        for (int j = 0; j < G; j++) even[m][j] = odd[m][j] = _mm256_setzero_ps();
    for (long c = 0; c < groups * 16; c++, block += 64) {
        for (int j = 0; j < G; j++) {
            __m256i both = _mm256_loadu_si256((const __m256i*)(block + (part + j) * 16));
            __m256 w0 = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
            __m256 w1 = _mm256_castsi256_ps(_mm256_and_si256(both, high));
            for (int m = 0; m < M; m++) {
                even[m][j] = _mm256_fmadd_ps(w0, _mm256_set1_ps(x[m][2 * c]), even[m][j]);
                odd[m][j] = _mm256_fmadd_ps(w1, _mm256_set1_ps(x[m][2 * c + 1]), odd[m][j]);
            }
        }
    }
    for (int m = 0; m < M; m++)
        for (int j = 0; j < G; j++)
            _mm256_storeu_ps(out[m] + (part + j) * 8, _mm256_add_ps(even[m][j], odd[m][j]));
}

template <int M> static inline void bf16(
    const uint16_t* block, long groups, const float* const* x, float* const* out) {
    constexpr int G = M == 1 ? 4 : M == 2 ? 2 : 1;
    for (int part = 0; part < 4; part += G) bf16_part<M, G>(block, groups, part, x, out);
}

}  // namespace tiles
