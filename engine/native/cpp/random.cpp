#include "random.h"
#include "vectorised.h"
#include <ATen/CPUGeneratorImpl.h>

namespace trainyard {

uint64_t mask_seed(const std::optional<at::Generator> &generator) {
  auto *source =
      at::get_generator_or_default<at::CPUGeneratorImpl>(generator, at::detail::getDefaultCPUGenerator());
  std::lock_guard<std::mutex> lock(source->mutex_);
  // The generator's own state comes from 32 bits of its seed: what it leaves out goes in here.
  return source->random64() ^ (source->current_seed() >> 32) * 0x9E3779B97F4A7C15u;
}

namespace {

constexpr int LANES = RANDOM_BLOCK / 4;

IN_LOOP void mix(uint32_t &a, uint32_t &b, int turn) {
  a += b;
  b = ((b << turn) | (b >> (32 - turn))) ^ a;
}

// Four rounds, with the first or the second half of the rotations, and what is added of the key then.
IN_LOOP void rounds(uint32_t number, const uint32_t *key, uint32_t &x0, uint32_t &x1, uint32_t &x2,
                    uint32_t &x3) {
  const bool second = number % 2 == 0;
  mix(x0, x1, second ? 6 : 10), mix(x2, x3, second ? 20 : 26);
  mix(x0, x3, second ? 17 : 11), mix(x2, x1, second ? 11 : 21);
  mix(x0, x1, second ? 25 : 13), mix(x2, x3, second ? 10 : 27);
  mix(x0, x3, second ? 18 : 23), mix(x2, x1, second ? 20 : 5);
  x0 += key[number % 5], x1 += key[(number + 1) % 5];
  x2 += key[(number + 2) % 5], x3 += key[(number + 3) % 5] + number;
}

} // namespace

VECTORISED_INTEGERS void random_words(uint64_t seed, uint64_t block, uint32_t *__restrict words,
                                      int64_t blocks) {
  const uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  const uint32_t key[5] = {k0, k1, 0, 0, 0x1BD11BDAu ^ k0 ^ k1};
  for (int64_t b = 0; b < blocks; ++b, ++block, words += RANDOM_BLOCK) {
    const uint64_t first = block * LANES;
    const uint32_t low = static_cast<uint32_t>(first), high = static_cast<uint32_t>(first >> 32);
#pragma omp simd
    for (int i = 0; i < LANES; ++i) {
      // A block's counters differ in the lowest four bits only.
      uint32_t x0 = low + static_cast<uint32_t>(i) + k0, x1 = high + k1, x2 = 0, x3 = 0;
      rounds(1, key, x0, x1, x2, x3);
      rounds(2, key, x0, x1, x2, x3);
      rounds(3, key, x0, x1, x2, x3);
      rounds(4, key, x0, x1, x2, x3);
      rounds(5, key, x0, x1, x2, x3);
      words[i] = x0, words[LANES + i] = x1;
      words[2 * LANES + i] = x2, words[3 * LANES + i] = x3;
    }
  }
}

VECTORISED_INTEGERS void below16(const uint32_t *__restrict words, uint32_t threshold, uint16_t one,
                                 uint16_t *__restrict out, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i)
    out[i] = words[i] < threshold ? one : uint16_t{0};
}

VECTORISED_INTEGERS void below32(const uint32_t *__restrict words, uint32_t threshold, uint32_t one,
                                 uint32_t *__restrict out, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i)
    out[i] = words[i] < threshold ? one : 0u;
}

} // namespace trainyard
