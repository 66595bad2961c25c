// AMX: eight registers, each a tile of up to 16 rows by 64 bytes, and the product of two tiles added to a
// third. Here is nothing of what is multiplied, and all that is said in assembly.
//
// Row k of a second operand holds for each of 16 outputs the four bytes or two bf16 that meet bytes 4 k..
// or numbers 2 k.. of each row of the first.
#pragma once
#if defined(__AMX_TILE__) && !defined(AMX_EMULATED)
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace amx {

// The system gives tiles to who asks for them, once a process. False if it does not.
static inline bool allowed() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

// The tiles are a thread's own and have their shapes, {rows, bytes a row} each, while this lives.
struct Tiles {
    struct Shape {
        uint8_t rows;
        uint16_t bytes;
    };
    explicit Tiles(const Shape (&shapes)[8]) {
        alignas(64) uint8_t config[64] = {1};
        for (int t = 0; t < 8; t++) {
            memcpy(config + 16 + 2 * t, &shapes[t].bytes, 2);
            config[48 + t] = shapes[t].rows;
        }
        asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
    }
    ~Tiles() { asm volatile("tilerelease" ::: "memory"); }
    Tiles(const Tiles&) = delete;
};

// Rows lie `stride` bytes apart.
template <int tile> static inline __attribute__((always_inline)) void load(const void* from, long stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(tile), "r"(from), "r"(stride) : "memory");
}
template <int tile> static inline __attribute__((always_inline)) void store(void* to, long stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(tile), "r"(to), "r"(stride) : "memory");
}
template <int tile> static inline __attribute__((always_inline)) void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
// sum += a b: floats of bf16, summed in the order of columns
template <int sum, int a, int b> static inline __attribute__((always_inline)) void multiply_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(a), "i"(b));
}
// sum += a b: int32 of int8
template <int sum, int a, int b> static inline __attribute__((always_inline)) void multiply_bytes() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(a), "i"(b));
}

}  // namespace amx
#define HAS_AMX 1
#elif defined(AMX_EMULATED)
#define HAS_AMX 1
#else
#define HAS_AMX 0
#endif
