// gcc 12 believes that `_tile_loadconfig` reads eight of the 64 bytes that it is given, drops the stores of
// the others, and what follows dies of an illegal instruction. llama.cpp is compiled with this instead.
#pragma once
#if defined(__AMX_TILE__)
#include <immintrin.h>
static inline void whole_tile_config(const void* config) {
    __asm__ volatile("ldtilecfg %0" ::"m"(*(const char(*)[64])config));
}
#undef _tile_loadconfig
#define _tile_loadconfig whole_tile_config
#endif
