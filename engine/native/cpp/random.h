// Random numbers that depend on a seed and a place alone, so that threads can draw them side by side.
#pragma once
#include <ATen/core/Generator.h>
#include <cstdint>
#include <optional>

namespace trainyard {

// One number of the generator, or of the CPU's default one, that seeds a mask: all 64 bits of the generator's own
// seed count.
uint64_t mask_seed(const std::optional<at::Generator> &generator = std::nullopt);

// Numbers that one step of the generator's loop makes.
constexpr int64_t RANDOM_BLOCK = 64;

// The numbers of the blocks from `block` on, 64 each: Threefry 4x32 with 20 rounds (Salmon et al. 2011,
// "Parallel random numbers: as easy as 1, 2, 3"), keyed by `seed`; it only adds, rotates and combines words
// of 32 bits, which every processor does many at a time. Word j of counter 16 b + i is number 64 b + 16 j + i.
void random_words(uint64_t seed, uint64_t block, uint32_t *words, int64_t blocks);

// out[i] = words[i] < threshold ? one : 0.
void below16(const uint32_t *words, uint32_t threshold, uint16_t one, uint16_t *out, int64_t n);
void below32(const uint32_t *words, uint32_t threshold, uint32_t one, uint32_t *out, int64_t n);

} // namespace trainyard
