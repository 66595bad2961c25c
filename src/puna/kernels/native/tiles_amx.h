// Weights times activations by AMX.
//
// Rows that are `exact` meet integers, as in tiles_avx512.h: the same whole numbers, scaled and added up in
// the same order, so that a row's result is the same to the bit for one row and for many.
//
// Bulk rows, and all that meet bf16, are products of bf16: weights are widened once for all rows, and sums
// stay in tiles. That leaves out what integers cost after each 32 columns, and rounds less: 8 bits of
// every number instead of 7 of the largest in 32. What a row gives depends on no other row here either.
#pragma once
#include "tiles_avx512.h"

namespace tiles {

constexpr int TILE = 16;            // rows of a tile, and outputs
constexpr int STEP = 2 * TILE * 32; // bf16 of the two tiles of weights that 32 columns take

// --- exact rows

// 32 rows by `groups` groups of columns as signed bytes: for each 4 columns 32 rows x 4.
template <int format> static void signed_bytes(const uint8_t* block, int groups, int8_t* to) {
    for (int g = 0; g < groups; g++, to += 1024) {
        const uint8_t* at = Integers<format>::group(block, g);
#pragma GCC unroll 8
        for (int t = 0; t < 8; t++)
            for (int i = 0; i < 2; i++) {
                __m512i v = Integers<format>::values(at, t, i);
                if (format == Q8) v = _mm512_xor_si512(v, _mm512_set1_epi8(-128));
                if (format == Q4) v = _mm512_sub_epi8(v, _mm512_set1_epi8(8));
                if (format == Q6) v = _mm512_sub_epi8(v, _mm512_set1_epi8(32));
                _mm512_store_si512(to + t * 128 + i * 64, v);
            }
    }
}

// Tiles of products, of activations and of weights, two each, where `columns` share a scale.
struct ExactTiles : amx::Tiles {
    explicit ExactTiles(uint16_t columns)
        : amx::Tiles({{16, 64}, {16, 64}, {16, columns}, {16, columns},
              {(uint8_t)(columns / 4), 64}, {(uint8_t)(columns / 4), 64}, {1, 4}, {1, 4}}) {}
};

// Adds products with 16 activation rows to sums [16][32], where `bytes` are the block's.
template <int format>
static void times_exact(
    const uint8_t* block, const int8_t* bytes, int groups, const Activations& a, float* sums) {
    constexpr int HALVES = Integers<format>::HALVES, M = TILE;
    alignas(64) int32_t dots[2][HALVES][M][16];
    for (int i = 0; i < 2; i++) {
        __m512 sum[M];
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) sum[m] = _mm512_loadu_ps(sums + m * ROWS + i * 16);
        const auto multiply = [&](auto turn, int g) {
            constexpr int T = decltype(turn)::value;
            ask<Integers<format>::GROUP_BYTES / 2>(block + (i * groups + g) * Integers<format>::GROUP_BYTES / 2);
            for (int h = 0; h < HALVES; h++) {
                amx::zero<T>();
                amx::load<2 + T>(a.q + g * 32 + h * 16, PANEL);
                amx::load<4 + T>(bytes + g * 1024 + h * 512 + i * 64, 128);
                amx::multiply_bytes<T, 2 + T, 4 + T>();
                amx::store<T>(dots[T][h], 64);
            }
        };
        const auto add = [&](int turn, int g) {
            const uint8_t* at = Integers<format>::group(block, g);
            const __m512 ws = halves_at(Integers<format>::scales(block, g) + i * 32);
            __m512 own[HALVES], least;
            if (format == Q6 || format == Q4M)
                for (int h = 0; h < HALVES; h++) own[h] = Integers<format>::own(at, h, i);
            if (format == Q4M) least = Integers<format>::minimum(block, at, i);
#pragma GCC unroll 16
            for (int m = 0; m < M; m++) {
                __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots[turn][0][m]));
                if (format == Q6 || format == Q4M) dot = _mm512_mul_ps(dot, own[0]);
                if (format == Q6)
                    dot = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(dots[turn][HALVES - 1][m])), own[HALVES - 1], dot);
                const __m512 as = _mm512_set1_ps(a.scale[m * GROUPS + g]);
                sum[m] = _mm512_fmadd_ps(dot, _mm512_mul_ps(ws, as), sum[m]);
                if (format == Q4M) {
                    const float total = (float)a.start[m * STARTS + g * 2] * a.scale[m * GROUPS + g];
                    sum[m] = _mm512_fnmadd_ps(least, _mm512_set1_ps(total), sum[m]);
                }
            }
        };
        // one group is multiplied while the one before is scaled
        constexpr std::integral_constant<int, 0> even{};
        constexpr std::integral_constant<int, 1> odd{};
        multiply(even, 0);
        for (int g = 0; g < groups; g += 2) {
            if (g + 1 < groups) multiply(odd, g + 1);
            add(0, g);
            if (g + 2 < groups) multiply(even, g + 2);
            if (g + 1 < groups) add(1, g + 1);
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) _mm512_storeu_ps(sums + m * ROWS + i * 16, sum[m]);
    }
}

// --- bulk rows

// 32 floats as bf16, rounded to nearest
static inline void narrow(const float* from, uint16_t* to) {
    const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
    _mm512_store_si512(to, (__m512i)both);
}
// Two columns of 16 outputs as one row of a tile.
static inline __m512i pairs_of(__m512 first, __m512 second) {
    alignas(64) static constexpr uint16_t ORDER[32] = {
        0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(
        _mm512_load_si512(ORDER), (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

// 32 rows by `groups` groups of columns as tiles of bf16: for each group those of rows 0..15 and 16..31.
template <int format> static void widen(const uint8_t* block, int groups, uint16_t* to) {
    const __m512i low = _mm512_set1_epi32(255);
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < 2; i++, to += STEP / 2) {
            const uint8_t* at = Integers<format>::group(block, g);
            if (i == 0) ask<Integers<format>::GROUP_BYTES>(at);
            const __m512 ws = halves_at(Integers<format>::scales(block, g) + i * 32);
            __m512 by[2] = {ws, ws}, less[2];
            if (format == Q6 || format == Q4M)
                for (int h = 0; h < 2; h++)
                    by[h] = _mm512_mul_ps(ws, Integers<format>::own(at, format == Q6 ? h : 0, i));
            constexpr float offset = format == Q8 ? 128 : format == Q4 ? 8 : 32;
            for (int h = 0; h < 2; h++)
                less[h] = format == Q4M ? Integers<format>::minimum(block, at, i)
                                        : _mm512_mul_ps(by[h], _mm512_set1_ps(offset));
#pragma GCC unroll 8
            for (int t = 0; t < 8; t++) {
                const __m512i v = Integers<format>::values(at, t, i);
                const auto column = [&](__m512i c) {
                    return _mm512_fmsub_ps(_mm512_cvtepi32_ps(c), by[t / 4], less[t / 4]);
                };
                const __m512 c0 = column(_mm512_and_si512(v, low));
                const __m512 c1 = column(_mm512_and_si512(_mm512_srli_epi32(v, 8), low));
                const __m512 c2 = column(_mm512_and_si512(_mm512_srli_epi32(v, 16), low));
                const __m512 c3 = column(_mm512_srli_epi32(v, 24));
                _mm512_store_si512(to + t * 64, pairs_of(c0, c1));
                _mm512_store_si512(to + t * 64 + 32, pairs_of(c2, c3));
            }
        }
}

// Where the tiles of weights of 32 rows lie: `half` apart, and `step` apart for each 32 columns, bytes.
struct WideBlock {
    const uint8_t* at;
    long stride, half, step;
    bool far;  // in memory, not in a cache
};

struct BulkTiles : amx::Tiles {
    BulkTiles()
        : amx::Tiles({{16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}}) {}
};

// Adds products of T tiles of activations, `far` bf16 apart, with a block to sums [16 T][32].
template <int T>
static void times_bulk(
    const WideBlock& w, const uint16_t* a, long far, int steps, float* sums, bool fresh) {
    constexpr long LINE = ROWS * 4;
    if (fresh) {
        amx::zero<0>();
        amx::zero<1>();
        if (T == 2) amx::zero<2>();
        if (T == 2) amx::zero<3>();
    } else {
        amx::load<0>(sums, LINE);
        amx::load<1>(sums + 16, LINE);
        if (T == 2) amx::load<2>(sums + TILE * ROWS, LINE);
        if (T == 2) amx::load<3>(sums + TILE * ROWS + 16, LINE);
    }
    const uint8_t* at = w.at;
    for (int s = 0; s < steps; s++, at += w.step, a += TILE * 32) {
        if (w.far) ask<2 * STEP>(at);
        amx::load<4>(a, 64);
        amx::load<6>(at, w.stride);
        amx::multiply_bf16<0, 4, 6>();
        amx::load<7>(at + w.half, w.stride);
        amx::multiply_bf16<1, 4, 7>();
        if (T == 2) {
            amx::load<5>(a + far, 64);
            amx::multiply_bf16<2, 5, 6>();
            amx::multiply_bf16<3, 5, 7>();
        }
    }
    amx::store<0>(sums, LINE);
    amx::store<1>(sums + 16, LINE);
    if (T == 2) amx::store<2>(sums + TILE * ROWS, LINE);
    if (T == 2) amx::store<3>(sums + TILE * ROWS + 16, LINE);
}

}  // namespace tiles
