// The tiles of AMX (src/puna/kernels/native/amx.h) in plain loops, for a processor that has none. A tile
// is checked at every turn: what a real one would refuse ends the program.
#pragma once
#define AMX_EMULATED 1
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace amx {

struct Emulated {
    int rows = 0, bytes = 0;
    uint8_t data[16][64];
};
static thread_local Emulated tiles[8];

static inline void require(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "amx: %s\n", what);
    std::exit(1);
}
static inline bool allowed() { return true; }

struct Tiles {
    struct Shape {
        uint8_t rows;
        uint16_t bytes;
    };
    explicit Tiles(const Shape (&shapes)[8]) {
        for (int t = 0; t < 8; t++) {
            require(shapes[t].rows <= 16 && shapes[t].bytes <= 64, "a tile is too large");
            require(!tiles[t].rows, "the tiles have shapes already");
            memset(tiles[t].data, 0, sizeof tiles[t].data);
            tiles[t].rows = shapes[t].rows;
            tiles[t].bytes = shapes[t].bytes;
        }
    }
    ~Tiles() {
        for (Emulated& tile : tiles) tile.rows = tile.bytes = 0;
    }
    Tiles(const Tiles&) = delete;
};

static inline Emulated& shaped(int t) {
    require(tiles[t].rows && tiles[t].bytes, "a tile without a shape is used");
    return tiles[t];
}
template <int t> static inline void load(const void* from, long stride) {
    Emulated& to = shaped(t);
    for (int r = 0; r < to.rows; r++) memcpy(to.data[r], (const uint8_t*)from + r * stride, to.bytes);
}
template <int t> static inline void store(void* to, long stride) {
    const Emulated& from = shaped(t);
    for (int r = 0; r < from.rows; r++) memcpy((uint8_t*)to + r * stride, from.data[r], from.bytes);
}
template <int t> static inline void zero() { memset(shaped(t).data, 0, sizeof tiles[t].data); }

static inline void fit(const Emulated& sum, const Emulated& a, const Emulated& b) {
    require(sum.rows == a.rows && sum.bytes == b.bytes && a.bytes == 4 * b.rows, "tiles do not fit");
}
static inline float bf16_at(const uint8_t* p) {  // subnormal numbers count as zero
    uint16_t half;
    memcpy(&half, p, 2);
    const uint32_t bits = half & 0x7f80 ? (uint32_t)half << 16 : 0;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
template <int s, int x, int y> static inline void multiply_bf16() {
    Emulated& sum = shaped(s);
    const Emulated &a = shaped(x), &b = shaped(y);
    fit(sum, a, b);
    for (int m = 0; m < sum.rows; m++)
        for (int n = 0; n < sum.bytes / 4; n++) {
            float even = 0, odd = 0, before;
            for (int k = 0; k < b.rows; k++) {
                even = std::fma(bf16_at(a.data[m] + 4 * k), bf16_at(b.data[k] + 4 * n), even);
                odd = std::fma(bf16_at(a.data[m] + 4 * k + 2), bf16_at(b.data[k] + 4 * n + 2), odd);
            }
            memcpy(&before, sum.data[m] + 4 * n, 4);
            before += even + odd;
            memcpy(sum.data[m] + 4 * n, &before, 4);
        }
}
template <int s, int x, int y> static inline void multiply_bytes() {
    Emulated& sum = shaped(s);
    const Emulated &a = shaped(x), &b = shaped(y);
    fit(sum, a, b);
    for (int m = 0; m < sum.rows; m++)
        for (int n = 0; n < sum.bytes / 4; n++) {
            int32_t all;
            memcpy(&all, sum.data[m] + 4 * n, 4);
            for (int k = 0; k < 4 * b.rows; k++) all += (int8_t)a.data[m][k] * (int8_t)b.data[k / 4][4 * n + k % 4];
            memcpy(sum.data[m] + 4 * n, &all, 4);
        }
}

}  // namespace amx
