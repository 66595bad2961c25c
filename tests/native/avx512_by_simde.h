// Lets tiles_avx512.h compile and run on a processor that has AVX2 alone: SIMDe computes each
// intrinsic, but for some that it lacks.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <immintrin.h>

#include <cstdint>
#include <cstring>

static inline __m512 joined(__m256 low, __m256 high) {
    __m512 both;
    memcpy((char*)&both, &low, 32);
    memcpy((char*)&both + 32, &high, 32);
    return both;
}
static inline __m512 widened_halves(__m256i h) {
    __m128i half[2];
    memcpy(half, &h, 32);
    return joined(_mm256_cvtph_ps(half[0]), _mm256_cvtph_ps(half[1]));
}
static inline __m512 converted(__m512i i) {
    __m256i half[2];
    memcpy(half, &i, 64);
    return joined(_mm256_cvtepi32_ps(half[0]), _mm256_cvtepi32_ps(half[1]));
}
static inline __m512i both_halves(__m256i low, __m256i high) {
    __m512i both;
    memcpy((char*)&both, &low, 32);
    memcpy((char*)&both + 32, &high, 32);
    return both;
}
static inline __m512i rounded(__m512 x) {
    __m256 half[2];
    memcpy(half, &x, 64);
    return both_halves(_mm256_cvtps_epi32(half[0]), _mm256_cvtps_epi32(half[1]));
}
#define _mm512_cvtepu8_epi32(b) \
    both_halves(_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))
#define _mm512_cvtepi8_epi32(b) \
    both_halves(_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))
// Of two vectors of floats: rounded to nearest, ties to even, those of `low` first.
static inline __m512bh narrowed(__m512 high, __m512 low) {
    uint32_t bits[32];
    uint16_t both[32];
    memcpy(bits, &low, 64);
    memcpy(bits + 16, &high, 64);
    for (int i = 0; i < 32; i++) {
        const bool number = (bits[i] & 0x7fffffff) <= 0x7f800000;
        both[i] = (uint16_t)(number ? (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) >> 16 : bits[i] >> 16 | 64);
    }
    __m512bh packed;
    memcpy(&packed, both, 64);
    return packed;
}
#define _mm512_cvtne2ps_pbh narrowed
#define _mm512_cvtph_ps widened_halves
#define _mm512_cvtepi32_ps converted
#define _mm512_cvtps_epi32 rounded

#define __AVX512VNNI__ 1
#if defined(WITH_BF16)
#define __AVX512BF16__ 1
#endif
