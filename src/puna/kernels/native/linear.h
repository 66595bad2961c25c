// out = x @ w.T for a packed w. Integer weights meet activations that are quantised on the way in.
#pragma once
#include <algorithm>
#include <vector>

#include "formats.h"
#include "pool.h"
#include "tiles.h"
#include "vec.h"

constexpr int TILE = 4;                // activation rows that a tile takes at once
constexpr long CHUNK_BYTES = 1 << 16;  // weights that a thread takes at once
constexpr float SMALLEST = 1e-35f;     // activations below it count as 0: 127 / them is infinite

// Scratch that a calling thread keeps between calls.
template <class T> static T* scratch(long count) {
    thread_local std::vector<T> memory;
    if ((long)memory.size() < count) memory.resize(count);
    return memory.data();
}

template <class Work> static void each_row(Pool& pool, long rows, const Work& work) {
    if (rows < 4) {
        for (long r = 0; r < rows; r++) work(r);
    } else {
        pool.run(rows, work);
    }
}

// Activations in groups of 32 columns, each with its scale: value = q * scale.
template <class Q> struct Quantized {
    const long k, groups;
    Q* q;
    float* scale;
    int32_t* start;

    template <class Start>
    Quantized(Pool& pool, const float* x, long rows, long columns, const Start& first)
        : k(blocks(columns) * 32), groups(k / 32) {
        q = scratch<Q>(rows * k);
        scale = scratch<float>(rows * groups);
        start = scratch<int32_t>(rows * groups);
        each_row(pool, rows, [&](long r) {
            for (long g = 0; g < groups; g++) {
                alignas(64) float v[32] = {};
                memcpy(v, x + r * columns + g * 32, std::min(32L, columns - g * 32) * 4);
                Q* to = q + r * k + g * 32;
                float most = 0, nothing = 0;  // NaN once there is an infinity or a NaN
                for (int c = 0; c < 32; c++) {
                    most = std::max(most, std::fabs(v[c]));
                    nothing += v[c] * 0;
                }
                if (most < SMALLEST || nothing != 0) {
                    memset(to, 0, 32 * sizeof(Q));
                    scale[r * groups + g] = nothing;
                } else {
                    const float inverse = 127 / most;
                    for (int c = 0; c < 32; c++) to[c] = (Q)(int)std::nearbyint(v[c] * inverse);
                    scale[r * groups + g] = most / 127;
                }
                start[r * groups + g] = first(to);
            }
        });
    }
};

template <class Q> struct QuantizedRows {
    const Q* q[TILE];
    const float* scale[TILE];
    const int32_t* start[TILE];
    QuantizedRows(const Quantized<Q>& a, long first, int m) {
        for (int i = 0; i < m; i++) {
            q[i] = a.q + (first + i) * a.k;
            scale[i] = a.scale + (first + i) * a.groups;
            start[i] = a.start + (first + i) * a.groups;
        }
    }
};

// Calls tile(block row, first activation row, m, to) until all is covered; `to` takes m x 32 floats.
template <class Tile>
static void tiled(Pool& pool, int format, long n, long k, long rows, float* out, const Tile& tile) {
    const long per_chunk = std::max(1L, CHUNK_BYTES / (blocks(k) * block_bytes(format)));
    const long count = blocks(n);
    pool.run((count + per_chunk - 1) / per_chunk, [&](long chunk) {
        alignas(64) float result[TILE][ROWS];
        float* to[TILE];
        for (int m = 0; m < TILE; m++) to[m] = result[m];
        for (long b = chunk * per_chunk; b < std::min(count, (chunk + 1) * per_chunk); b++) {
            const long width = std::min((long)ROWS, n - b * ROWS);
            for (long r = 0; r < rows; r += TILE) {
                const int m = (int)std::min((long)TILE, rows - r);
                tile(b, r, m, to);
                for (int i = 0; i < m; i++) memcpy(out + (r + i) * n + b * ROWS, result[i], width * 4);
            }
        }
    });
}

#define BY_ROWS(m, CALL)                                \
    switch (m) {                                        \
        case 1: { constexpr int M = 1; CALL; break; }   \
        case 2: { constexpr int M = 2; CALL; break; }   \
        case 3: { constexpr int M = 3; CALL; break; }   \
        default: { constexpr int M = 4; CALL; }         \
    }

static void linear(
    Pool& pool, int format, const uint8_t* w, long n, long k, const float* x, long rows, float* out) {
    const long groups = blocks(k), row_bytes = groups * block_bytes(format);
    if (format == Q4) {
        Quantized<tiles::Q4Value> a(pool, x, rows, k, tiles::q4_start);
        tiled(pool, format, n, k, rows, out, [&](long b, long r, int m, float* const* to) {
            QuantizedRows<tiles::Q4Value> at(a, r, m);
            BY_ROWS(m, tiles::q4<M>(w + b * row_bytes, groups, at.q, at.scale, at.start, to))
        });
    } else if (format == Q8) {
        Quantized<tiles::Q8Value> a(pool, x, rows, k, tiles::q8_start);
        tiled(pool, format, n, k, rows, out, [&](long b, long r, int m, float* const* to) {
            QuantizedRows<tiles::Q8Value> at(a, r, m);
            BY_ROWS(m, tiles::q8<M>(w + b * row_bytes, groups, at.q, at.scale, at.start, to))
        });
    } else {
        const long width = groups * 32;
        if (width != k) {
            float* padded = scratch<float>(rows * width);
            for (long r = 0; r < rows; r++) {
                memcpy(padded + r * width, x + r * k, k * 4);
                memset(padded + r * width + k, 0, (width - k) * 4);
            }
            x = padded;
        }
        tiled(pool, format, n, k, rows, out, [&](long b, long r, int m, float* const* to) {
            const float* at[TILE];
            for (int i = 0; i < m; i++) at[i] = x + (r + i) * width;
            BY_ROWS(m, tiles::bf16<M>((const uint16_t*)(w + b * row_bytes), groups, at, to))
        });
    }
}
