// Dot products of one block row (32 output rows) with M activation rows, for any processor: plain
// loops that the compiler turns into what there is (NEON, for one).
#pragma once
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

template <int M, bool FOUR_BITS> static inline void quantized(
    const uint8_t* block, long groups, const int8_t* const* q, const float* const* scale,
    const int32_t* const* start, float* const* out) {
    float sum[M][ROWS] = {};
    for (long g = 0; g < groups; g++, block += FOUR_BITS ? 576 : 1088) {
        int32_t acc[M][ROWS];
        for (int m = 0; m < M; m++)
            for (int r = 0; r < ROWS; r++) acc[m][r] = start[m][g];
        for (int p = 0; p < (FOUR_BITS ? 4 : 8); p++) {
            const uint8_t* w = block + 64 + p * 128;
            for (int m = 0; m < M; m++) {
                const int8_t* a = q[m] + g * 32 + p * (FOUR_BITS ? 8 : 4);
                for (int r = 0; r < ROWS; r++)
                    for (int c = 0; c < 4; c++) {
                        const uint8_t value = w[r * 4 + c];
                        if (FOUR_BITS) acc[m][r] += (value & 15) * a[c] + (value >> 4) * a[c + 4];
                        else acc[m][r] += value * a[c];
                    }
            }
        }
        for (int r = 0; r < ROWS; r++) {
            uint16_t bits;
            memcpy(&bits, block + 2 * r, 2);
            const float ws = half_to_float(bits);
            for (int m = 0; m < M; m++) sum[m][r] += (float)acc[m][r] * (ws * scale[m][g]);
        }
    }
    for (int m = 0; m < M; m++) memcpy(out[m], sum[m], sizeof sum[m]);
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
    float sum[M][ROWS] = {};
    for (long c = 0; c < groups * 16; c++, block += 64)
        for (int m = 0; m < M; m++)
            for (int r = 0; r < ROWS; r++) {
                const float even = bf16_to_float(block[2 * r]), odd = bf16_to_float(block[2 * r + 1]);
                sum[m][r] += even * x[m][2 * c] + odd * x[m][2 * c + 1];
            }
    for (int m = 0; m < M; m++) memcpy(out[m], sum[m], sizeof sum[m]);
}

}  // namespace tiles
