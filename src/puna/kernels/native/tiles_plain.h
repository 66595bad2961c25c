// Weights times activations for any processor: loops that the compiler turns into what there is, and
// one instruction of ARM's by name.
//
// A panel of integers is widened to signed bytes once, and all activation rows meet those. Each
// function adds up every (output, activation) pair in the same order whatever M is, so a result does
// not depend on what else is in the batch.
#pragma once
#if defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#include "formats.h"

namespace tiles {

// sums[r] += w[r] . q, for 32 rows of 4 columns
static inline void four_columns(const int8_t (*w)[4], const int8_t* q, int32_t* sums) {
#if defined(__ARM_FEATURE_DOTPROD)
    int32_t four;
    memcpy(&four, q, 4);
    const int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int r = 0; r < ROWS; r += 4)
        vst1q_s32(sums + r, vdotq_s32(vld1q_s32(sums + r), vld1q_s8(w[r]), v));
#else
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < 4; c++) sums[r] += w[r][c] * q[c];
#endif
}

template <int format> struct Integers {
    typedef Integers Block, Bulk;
    static constexpr bool WIDE = false;
    static constexpr int TOGETHER = 6;
    static constexpr int HALVES = format == Q6 ? 2 : 1;  // runs of columns with scales of their own
    int8_t values[GROUPS][8][ROWS][4];
    float scale[GROUPS][ROWS], minimum[GROUPS][ROWS];
    int own[GROUPS][HALVES][ROWS];

    // Only a minimum needs to know the sum of the activations.
    static void start(const int8_t* q, int32_t* to) {
        *to = 0;
        for (int c = 0; c < COLS; c++) *to += q[c];
    }

    void nibbles(int g, const uint8_t* from, int offset) {
        for (int p = 0; p < 4; p++)
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < 4; c++) {
                    const uint8_t both = from[p * 128 + r * 4 + c];
                    values[g][2 * p][r][c] = (int8_t)((both & 15) - offset);
                    values[g][2 * p + 1][r][c] = (int8_t)((both >> 4) - offset);
                }
    }

    void open(const uint8_t* block, int groups) {
        for (int g = 0; g < groups; g++) {
            const long wide = format == Q6 ? 64 + g * 832 : 128 + g * 576;  // of the formats of 256
            const uint8_t* at = block + (format == Q8 ? g * 1088 : format == Q4 ? g * 576 : wide);
            for (int r = 0; r < ROWS; r++) {
                scale[g][r] = half_at((block_columns(format) == COLS ? at : block) + 2 * r);
                for (int h = 0; h < HALVES; h++)
                    own[g][h][r] = format == Q6 ? (int8_t)at[h * 32 + r] : format == Q4M ? at[r] : 1;
                minimum[g][r] = format == Q4M ? half_at(block + 64 + 2 * r) * at[32 + r] : 0;
            }
            if (format == Q8) {
                for (int t = 0; t < 8; t++)
                    for (int r = 0; r < ROWS; r++)
                        for (int c = 0; c < 4; c++)
                            values[g][t][r][c] = (int8_t)(at[64 + t * 128 + r * 4 + c] - 128);
                continue;
            }
            nibbles(g, at + 64, format == Q4 ? 8 : format == Q6 ? 32 : 0);
            if (format == Q6)
                for (int t = 0; t < 8; t++)
                    for (int r = 0; r < ROWS; r++)
                        for (int c = 0; c < 4; c++) {
                            const int high = at[576 + t / 4 * 128 + r * 4 + c] >> t % 4 * 2 & 3;
                            values[g][t][r][c] = (int8_t)(values[g][t][r][c] + (high << 4));
                        }
        }
    }

    template <int M> void multiply(int groups, const Activations& a, float* sums) const {
        for (int g = 0; g < groups; g++)
            for (int m = 0; m < M; m++) {
                const float as = a.scale[m * GROUPS + g];
                int32_t dot[ROWS] = {};
                for (int h = 0; h < HALVES; h++) {
                    int32_t part[ROWS] = {};
                    for (int t = h * 4; t < (h + 1) * 8 / HALVES; t++)
                        four_columns(values[g][t], a.q + m * PANEL + g * 32 + t * 4, part);
                    for (int r = 0; r < ROWS; r++) dot[r] += own[g][h][r] * part[r];
                }
                const float total = (float)a.start[m * STARTS + g * 2] * as;
                for (int r = 0; r < ROWS; r++) {
                    float& sum = sums[m * ROWS + r];
                    sum += (float)dot[r] * (scale[g][r] * as);
                    if (format == Q4M) sum -= minimum[g][r] * total;
                }
            }
    }
};
using Q8Panel = Integers<Q8>;
using Q6Panel = Integers<Q6>;
using Q4Panel = Integers<Q4>;
using Q4MPanel = Integers<Q4M>;

struct BF16Panel {
    typedef BF16Panel Block;
    static constexpr int TOGETHER = 6;
    typedef float Input;
    static Input input(float x) { return x; }
    float values[FLOAT_PANEL][ROWS];

    void open(const uint8_t* block, int columns) {
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < ROWS; r++) {
                uint16_t bits;
                memcpy(&bits, block + c / 2 * 128 + r * 4 + c % 2 * 2, 2);
                values[c][r] = bf16_to_float(bits);
            }
    }
    template <int M> void multiply(int columns, const float* x, float* sums) const {
        for (int first = 0; first < ROWS; first += 8) {
            float sum[M][8];
            for (int m = 0; m < M; m++) memcpy(sum[m], sums + m * ROWS + first, 32);
            for (int c = 0; c < columns; c++)
                for (int m = 0; m < M; m++)
                    for (int r = 0; r < 8; r++) sum[m][r] += values[c][first + r] * x[m * FLOAT_PANEL + c];
            for (int m = 0; m < M; m++) memcpy(sums + m * ROWS + first, sum[m], 32);
        }
    }
};

}  // namespace tiles
