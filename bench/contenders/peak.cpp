// How many multiply-adds of 8-bit integers a second so many threads do, on operands in registers:
// no memory, no scales, sums only. What the processor's best instruction for it gives: VNNI's
// vpdpbusd where there is one, AVX2's vpmaddubsw and the addition that it needs otherwise. Or how many AMX
// does, where there is AMX: tdpbssd on tiles that stay where they are.
//
//     peak THREADS [tiles]        prints the number

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#if defined(__AVX512VNNI__)
using Vector = __m512i;
static Vector add(Vector sum, Vector a, Vector b) { return _mm512_dpbusd_epi32(sum, a, b); }
#define IN_REGISTER "+v"
#elif defined(__AVXVNNI__)
using Vector = __m256i;
static Vector add(Vector sum, Vector a, Vector b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#define IN_REGISTER "+x"
#elif defined(__AVX2__)
using Vector = __m256i;
static Vector add(Vector sum, Vector a, Vector b) {
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
}
#define IN_REGISTER "+x"
#elif defined(__ARM_FEATURE_DOTPROD)
using Vector = int8x16_t;
static Vector add(Vector sum, Vector a, Vector b) {
  return vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), a, b));
}
#define IN_REGISTER "+w"
#else
#error "no instruction for sums of 8-bit products"
#endif

constexpr int kSums = 10;  // independent, so that no addition waits for the one before
constexpr long kRounds = 20'000'000;

static void work() {
  Vector sums[kSums] = {}, a = {}, b = {};
  for (long round = 0; round < kRounds; round++) {
#pragma GCC unroll 10
    for (int i = 0; i < kSums; i++) {
      asm volatile("" : IN_REGISTER(a), IN_REGISTER(b));  // may be others now: nothing is saved
      sums[i] = add(sums[i], a, b);
      asm volatile("" : IN_REGISTER(sums[i]));  // no sums of sums either
    }
  }
}

#if defined(__AMX_TILE__)
constexpr long kTileRounds = 20'000'000;

static bool tiles_allowed() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }  // ARCH_REQ_XCOMP_PERM

static void tile_work() {
  alignas(64) unsigned char shapes[64] = {1};  // all of 16 rows of 64 bytes
  for (int tile = 0; tile < 8; tile++) shapes[16 + 2 * tile] = 64, shapes[48 + tile] = 16;
  asm volatile("ldtilecfg %0" ::"m"(shapes));
  for (long round = 0; round < kTileRounds; round++)
    asm volatile(
        "tdpbssd %tmm6, %tmm4, %tmm0\n tdpbssd %tmm7, %tmm4, %tmm1\n"
        "tdpbssd %tmm6, %tmm5, %tmm2\n tdpbssd %tmm7, %tmm5, %tmm3");
  asm volatile("tilerelease");
}
#else
constexpr long kTileRounds = 0;
static bool tiles_allowed() { return false; }
static void tile_work() {}
#endif

int main(int count, char** arguments) {
  const int number = count > 1 ? std::atoi(arguments[1]) : 0;
  const bool tiles = count == 3 && !std::strcmp(arguments[2], "tiles");
  if (number < 1 || count > 2 + tiles) return std::fprintf(stderr, "peak THREADS [tiles]\n"), 1;
  if (tiles && !tiles_allowed()) return std::fprintf(stderr, "there is no AMX here\n"), 1;
  const double each = tiles ? kTileRounds * 4.0 * 16 * 16 * 64 : kRounds * 1.0 * kSums * sizeof(Vector);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < number; i++) threads.emplace_back(tiles ? tile_work : work);
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%f\n", number * each / seconds.count());
}
