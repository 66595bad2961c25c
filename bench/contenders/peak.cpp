// How many multiply-adds of 8-bit integers a second so many threads do, on operands in registers:
// no memory, no scales, sums only. What the processor's best instruction for it gives: VNNI's
// vpdpbusd where there is one, AVX2's vpmaddubsw and the addition that it needs otherwise.
//
//     peak THREADS        prints the number

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
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

int main(int count, char** arguments) {
  const int number = count == 2 ? std::atoi(arguments[1]) : 0;
  if (number < 1) return std::fprintf(stderr, "peak THREADS\n"), 1;
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < number; i++) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%f\n", double(number) * kRounds * kSums * sizeof(Vector) / seconds.count());
}
