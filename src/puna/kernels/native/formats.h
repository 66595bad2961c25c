// How weights lie in memory. A weight [n, k] is cut into blocks of 32 rows by 32 columns, row blocks
// outermost; a block is read from its first byte to its last, whatever the processor.
//
//   bf16  2048 bytes  for each pair of columns: 32 rows x 2 values
//   q8    1088 bytes  32 fp16 scales; for each 4 columns: 32 rows x 4 bytes, value + 128
//   q4     576 bytes  32 fp16 scales; for each 8 columns: 32 rows x 4 bytes, the low half of a byte
//                     holds column c, the high half column c + 4, value + 8
//
// n and k are padded with zeros to multiples of 32.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

enum Format { BF16 = 0, Q8 = 1, Q4 = 2 };
constexpr int ROWS = 32, COLS = 32;

static inline long blocks(long n) { return (n + 31) / 32; }
static inline long block_bytes(int format) { return format == BF16 ? 2048 : format == Q8 ? 1088 : 576; }

static inline float bf16_to_float(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t float_to_bf16(float f) {  // round to nearest, ties to even
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 64);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
static inline float half_to_float(uint16_t h) {  // not _Float16: g++ knows it from 13 on, on ARM
    uint32_t u = (uint32_t)(h & 0x7fff) << 13;
    float f;
    memcpy(&f, &u, 4);
    f *= 0x1p112f;  // the exponents' biases differ by 112; subnormal numbers come out right as well
    if ((h & 0x7c00) == 0x7c00) f = h & 0x3ff ? NAN : INFINITY;
    return h & 0x8000 ? -f : f;
}

// Row `row` of a packed weight [n, k], as floats.
static inline void unpack_row(const uint8_t* w, int format, long k, long row, float* out) {
    const long size = block_bytes(format), r = row % ROWS;
    const uint8_t* block = w + row / ROWS * blocks(k) * size;
    for (long g = 0; g < blocks(k); g++, block += size) {
        uint16_t bits;
        memcpy(&bits, block + 2 * r, 2);
        const float scale = format == BF16 ? 0 : half_to_float(bits);
        for (long c = 0; c < COLS && g * COLS + c < k; c++) {
            float& value = out[g * COLS + c];
            if (format == BF16) {
                memcpy(&bits, block + (c / 2 * 64 + r * 2 + c % 2) * 2, 2);
                value = bf16_to_float(bits);
            } else if (format == Q8) {
                value = scale * (block[64 + c / 4 * 128 + r * 4 + c % 4] - 128);
            } else {
                const uint8_t both = block[64 + c / 8 * 128 + r * 4 + c % 4];
                value = scale * ((c % 8 < 4 ? both & 15 : both >> 4) - 8);
            }
        }
    }
}
