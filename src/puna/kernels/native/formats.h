// How weights lie in memory. A weight [n, k] is cut into blocks of 32 rows, row blocks outermost; a
// block is read from its first byte to its last, whatever the processor.
//
//   bf16  2048 bytes, 32 columns   for each pair of columns: 32 rows x 2 values
//   q8    1088 bytes, 32 columns   32 fp16 scales; for each 4 columns: 32 rows x 4 bytes, value + 128
//   q4     576 bytes, 32 columns   32 fp16 scales; nibbles, value + 8
//   q6    6720 bytes, 256 columns  32 fp16 scales; 8 groups of 32 columns, each
//                                    for each 16 columns: 32 int8, times the scale
//                                    nibbles: the low 4 bits of value + 32
//                                    for each 16 columns: 32 rows x 4 bytes of high bits: bits 2i
//                                    and 2i + 1 of byte j belong to column 4i + j
//   q4m   4736 bytes, 256 columns  32 fp16 scales; 32 fp16 scales of minima; 8 groups, each
//                                    32 uint8, times the scale; 32 uint8, times the minima's
//                                    nibbles: value = scale * nibble - minimum
//
// Nibbles of 32 columns are 512 bytes: for each 8 columns 32 rows x 4 bytes, the low half of a byte
// for column c, the high half for column c + 4. n and k are padded with zeros.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

enum Format { BF16 = 0, Q8 = 1, Q4 = 2, Q6 = 3, Q4M = 4 };
constexpr int ROWS = 32, COLS = 32;

static inline long blocks(long n) { return (n + 31) / 32; }
constexpr long block_columns(int format) { return format == Q6 || format == Q4M ? 256 : 32; }
constexpr long block_bytes(int format) {
    constexpr long bytes[] = {2048, 1088, 576, 6720, 4736};
    return bytes[format];
}
// Bytes of a row of blocks of a weight with k columns.
static inline long row_bytes(int format, long k) {
    return (k + block_columns(format) - 1) / block_columns(format) * block_bytes(format);
}

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

static inline float half_at(const uint8_t* p) {
    uint16_t bits;
    memcpy(&bits, p, 2);
    return half_to_float(bits);
}
static inline int nibble_at(const uint8_t* nibbles, long r, long c) {
    const uint8_t both = nibbles[c / 8 * 128 + r * 4 + c % 4];
    return c % 8 < 4 ? both & 15 : both >> 4;
}

// What a block says of its row r and column c.
static inline float value_at(const uint8_t* block, int format, long r, long c) {
    const long g = c / 32, i = c % 32;  // group and column in it, of the wide formats
    switch (format) {
        case Q8: return half_at(block + 2 * r) * (block[64 + c / 4 * 128 + r * 4 + c % 4] - 128);
        case Q4: return half_at(block + 2 * r) * (nibble_at(block + 64, r, c) - 8);
        case Q6: {
            const uint8_t* group = block + 64 + g * 832;
            const int high = group[576 + i / 16 * 128 + r * 4 + i % 4] >> (i % 16 / 4 * 2) & 3;
            const int value = (nibble_at(group + 64, r, i) | high << 4) - 32;
            return half_at(block + 2 * r) * (value * (int8_t)group[i / 16 * 32 + r]);
        }
        case Q4M: {
            const uint8_t* group = block + 128 + g * 576;
            const float least = half_at(block + 64 + 2 * r) * group[32 + r];
            return half_at(block + 2 * r) * (group[r] * nibble_at(group + 64, r, i)) - least;
        }
        default: {
            uint16_t bits;
            memcpy(&bits, block + (c / 2 * 64 + r * 2 + c % 2) * 2, 2);
            return bf16_to_float(bits);
        }
    }
}

// Row `row` of a packed weight [n, k], as floats.
static inline void unpack_row(const uint8_t* w, int format, long k, long row, float* out) {
    const long wide = block_columns(format);
    const uint8_t* blocks = w + row / ROWS * row_bytes(format, k);
    for (long c = 0; c < k; c++)
        out[c] = value_at(blocks + c / wide * block_bytes(format), format, row % ROWS, c % wide);
}
