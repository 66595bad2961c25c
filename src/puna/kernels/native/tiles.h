// The dot products, for the processor that this is compiled for.
#pragma once
#if defined(__AVX512VNNI__)
#include "tiles_avx512.h"
#elif defined(__AVX2__)
#include "tiles_avx2.h"
#else
#include "tiles_plain.h"
#endif
