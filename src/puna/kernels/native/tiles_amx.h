// Weights times activations by AMX.
//
// Rows that are `exact` meet integers, as in tiles_avx512.h: the same whole numbers, scaled and added up in
// the same order, so that a row's result is the same to the bit for one row and for many.
//
// Bulk rows meet bytes that have one scale for each row of a panel, as have theirs: weights are brought under it
// once for all rows, and sums stay in tiles over 256 columns. That leaves out most of what scales cost after
// each 32. All rows that meet bf16 are products of bf16. What a row gives depends on no other row here
// either.
#pragma once
#include "tiles_avx512.h"

namespace tiles {

constexpr int TILE = 16;            // rows of a tile, and outputs
constexpr int STEP = 2 * TILE * 64; // bytes of two tiles of weights: 64 columns of bytes, 32 of bf16

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

// 32 rows by `groups` groups of columns as bytes in tiles, for each 64 columns those of rows 0..15 and 16..31.
// A row's are so many of its `unit` [32].
template <int format> static void to_one_scale(const uint8_t* block, int groups, int8_t* to, float* unit) {
    constexpr int offset = format == Q8 ? 128 : format == Q4 ? 8 : format == Q6 ? 32 : 0;
    constexpr int up = format == Q8 ? 0 : format == Q6 ? 2 : format == Q4 ? 4 : 5;  // makes -128..127 of a value, of Q4M's 0..480
    constexpr float farthest = 128 >> up, most_units = format == Q4M ? 126 : 127;   // Q4M is rounded twice
    constexpr int HALVES = Integers<format>::HALVES;
    const auto scale = [&](int g, int h, int i) {
        const __m512 ws = halves_at(Integers<format>::scales(block, g) + i * 32);
        if (format != Q6 && format != Q4M) return ws;
        return _mm512_mul_ps(ws, Integers<format>::own(Integers<format>::group(block, g), h, i));
    };
    const auto minimum = [&](int g, int i) {
        return Integers<format>::minimum(block, Integers<format>::group(block, g), i);
    };
    for (int i = 0; i < 2; i++) {
        __m512 most = _mm512_setzero_ps();
        for (int g = 0; g < groups; g++)
            for (int h = 0; h < HALVES; h++) {
                const __m512 by = scale(g, h, i);
                if (format == Q4M) {
                    const __m512 least = minimum(g, i);
                    most = _mm512_max_ps(_mm512_abs_ps(least), most);
                    most = _mm512_max_ps(_mm512_abs_ps(_mm512_fmsub_ps(by, _mm512_set1_ps(15), least)), most);
                } else {
                    most = _mm512_max_ps(_mm512_abs_ps(_mm512_mul_ps(by, _mm512_set1_ps(farthest))), most);
                }
            }
        const __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512 units = _mm512_maskz_div_ps(some, _mm512_set1_ps(most_units), most);
        _mm512_storeu_ps(unit + i * 16, _mm512_mul_ps(most, _mm512_set1_ps(1 / most_units)));
        const auto twice = [](__m512 x) {  // as whole numbers, each in both halves of its place
            const __m512i whole = _mm512_cvtps_epi32(x);
            return _mm512_mask_blend_epi16(0xaaaaaaaa, whole, _mm512_slli_epi32(whole, 16));
        };
        for (int g = 0; g < groups; g++) {
            const uint8_t* const at = Integers<format>::group(block, g);
            if (i == 0) ask<Integers<format>::GROUP_BYTES>(at);
            __m512i by[HALVES], less = _mm512_setzero_si512();
            for (int h = 0; h < HALVES; h++)
                by[h] = twice(_mm512_mul_ps(_mm512_mul_ps(scale(g, h, i), units), _mm512_set1_ps(32768 >> up)));
            if (format == Q4M) less = twice(_mm512_mul_ps(minimum(g, i), units));
            int8_t* const tile = to + g / 2 * STEP + i * (STEP / 2) + g % 2 * 512;
#pragma GCC unroll 8
            for (int t = 0; t < 8; t++) {
                const __m512i v = Integers<format>::values(at, t, i);
                const auto units_of = [&](__m512i bytes) {
                    const __m512i x = _mm512_slli_epi16(_mm512_sub_epi16(bytes, _mm512_set1_epi16(offset)), up);
                    return _mm512_sub_epi16(_mm512_mulhrs_epi16(x, by[HALVES == 2 ? t / 4 : 0]), less);
                };
                const __m512i even = units_of(_mm512_and_si512(v, _mm512_set1_epi16(255)));
                const __m512i odd = units_of(_mm512_srli_epi16(v, 8));
                _mm512_store_si512(
                    tile + t * 64, _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, even, _mm512_slli_epi16(odd, 8)));
            }
        }
    }
}

// Where the tiles of weights of 32 rows lie: `half` apart, and `step` apart for each two of them, bytes.
struct BulkBlock {
    const uint8_t* at;
    long stride, half, step;
    bool far;           // in memory, not in a cache
    const float* unit;  // of bytes [32]; none if it is bf16
};

struct BulkTiles : amx::Tiles {
    BulkTiles()
        : amx::Tiles({{16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}}) {}
};

template <bool bytes, int sum, int a, int b> static inline void multiply() {
    if constexpr (bytes) amx::multiply_bytes<sum, a, b>();
    else amx::multiply_bf16<sum, a, b>();
}
// Adds products of T tiles of activations, `far` bytes apart, with a block to the first 2 T tiles.
template <bool bytes, int T> static void add_steps(const BulkBlock& w, const uint8_t* a, long far, int steps) {
    const uint8_t* at = w.at;
    for (int s = 0; s < steps; s++, at += w.step, a += STEP / 2) {
        if (w.far) ask<STEP>(at);
        amx::load<4>(a, 64);
        amx::load<6>(at, w.stride);
        multiply<bytes, 0, 4, 6>();
        amx::load<7>(at + w.half, w.stride);
        multiply<bytes, 1, 4, 7>();
        if (T == 2) {
            amx::load<5>(a + far, 64);
            multiply<bytes, 2, 5, 6>();
            multiply<bytes, 3, 5, 7>();
        }
    }
}
template <int T> static void clear() {
    amx::zero<0>();
    amx::zero<1>();
    if (T == 2) amx::zero<2>();
    if (T == 2) amx::zero<3>();
}
template <int T> static void store(void* to, long line, long half, long tile) {
    uint8_t* const at = (uint8_t*)to;
    amx::store<0>(at, line);
    amx::store<1>(at + half, line);
    if (T == 2) amx::store<2>(at + tile, line);
    if (T == 2) amx::store<3>(at + tile + half, line);
}

// Adds products of T tiles of activations, `far` bytes apart, with a block to sums [16 T][32], which `fresh`
// ones have not: of bf16, or of bytes under `scale` [16 T].
template <int T>
static void times_bulk(
    const BulkBlock& w, const uint8_t* a, long far, const float* scale, int steps, float* sums, bool fresh) {
    if (!w.unit) {
        constexpr long LINE = ROWS * 4;
        if (fresh) {
            clear<T>();
        } else {
            amx::load<0>(sums, LINE);
            amx::load<1>(sums + 16, LINE);
            if (T == 2) amx::load<2>(sums + TILE * ROWS, LINE);
            if (T == 2) amx::load<3>(sums + TILE * ROWS + 16, LINE);
        }
        add_steps<false, T>(w, a, far, steps);
        return store<T>(sums, LINE, 64, TILE * LINE);
    }
    alignas(64) int32_t dots[T][2][TILE][16];
    clear<T>();
    add_steps<true, T>(w, a, far, steps);
    store<T>(dots, 64, sizeof dots[0][0], sizeof dots[0]);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < 2; i++) {
            const __m512 unit = _mm512_loadu_ps(w.unit + i * 16);
#pragma GCC unroll 16
            for (int m = 0; m < TILE; m++) {
                float* const to = sums + (t * TILE + m) * ROWS + i * 16;
                const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots[t][i][m]));
                const __m512 by = _mm512_mul_ps(unit, _mm512_set1_ps(scale[t * TILE + m]));
                const __m512 before = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(to);
                _mm512_storeu_ps(to, _mm512_fmadd_ps(dot, by, before));
            }
        }
}

}  // namespace tiles
