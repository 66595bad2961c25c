// Products of weights and activations, for the processor that this is compiled for.
//
// Weights are taken panel by panel: 32 rows by PANEL columns. Each file has one struct for each
// format, with `open(block, groups)`, which makes a panel ready, and `multiply<M>(groups, at, sums)`,
// which adds its products with M activation rows to sums [M][32]. Its `Block` does the same for few rows.
#pragma once
#include "amx.h"
#include "formats.h"

constexpr int PANEL = 256, GROUPS = PANEL / COLS;  // columns of a panel of integers, and groups of 32
constexpr int FLOAT_PANEL = 128;                   // columns of a panel of bf16
constexpr int STARTS = 2 * GROUPS;

// Rows of quantised activations in one panel: row m's lie m times PANEL, GROUPS or STARTS farther on.
struct Activations {
    const int8_t* q;
    const int16_t* wide;  // the same, for formats that ask for it by WIDE
    const float* scale;   // of each 32 columns
    const int32_t* start; // what the format's `start` makes of each 32 columns
};

#if HAS_AMX
#include "tiles_amx.h"
#elif defined(__AVX512VNNI__)
#include "tiles_avx512.h"
#elif defined(__AVX2__)
#include "tiles_avx2.h"
#else
#include "tiles_plain.h"
#endif
