// The zeros and ones of dropout on CPUs, drawn by all threads. libtorch draws them one after the other.
#include "guard.h"
#include "random.h"
#include "replacement.h"
#include <ATen/Parallel.h>
#include <ATen/ops/bernoulli_native.h>
#include <algorithm>
#include <atomic>
#include <cmath>

using namespace trainyard;

namespace {

std::atomic<bool> parallel{false};

// Numbers of a thread at a time: a few blocks, which stay in its nearest cache.
constexpr int64_t PIECE = 16 * RANDOM_BLOCK;

// Fills `n` elements with `one`, of the probability threshold / 2^32, and 0.
template <typename Bits>
void fill(Bits *out, int64_t n, uint64_t seed, uint32_t threshold, Bits one) {
  const int64_t pieces = (n + PIECE - 1) / PIECE;
  at::parallel_for(0, pieces, 16, [&](int64_t begin, int64_t end) {
    uint32_t words[PIECE];
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t from = piece * PIECE, count = std::min(PIECE, n - from);
      const int64_t blocks = (count + RANDOM_BLOCK - 1) / RANDOM_BLOCK;
      random_words(seed, static_cast<uint64_t>(from / RANDOM_BLOCK), words, blocks);
      if constexpr (sizeof(Bits) == 2)
        below16(words, threshold, one, out + from, count);
      else
        below32(words, threshold, one, out + from, count);
    }
  });
}

at::Tensor &bernoulli(at::Tensor &self, double p, std::optional<at::Generator> generator) {
  const auto kind = self.scalar_type();
  const double steps = std::nearbyint(p * 0x1p32);
  const bool ours = parallel.load(std::memory_order_relaxed) &&
                    (kind == at::kFloat || kind == at::kBFloat16 || kind == at::kHalf) &&
                    self.is_non_overlapping_and_dense() && p >= 0 && steps < 0x1p32;
  if (!ours) // What is rare, or wrong, is libtorch's.
    return at::native::bernoulli_(self, p, std::move(generator));
  const uint64_t seed = mask_seed(generator);
  const auto threshold = static_cast<uint32_t>(steps);
  const int64_t n = self.numel();
  if (kind == at::kFloat)
    fill<uint32_t>(static_cast<uint32_t *>(self.data_ptr()), n, seed, threshold, 0x3F800000u);
  else
    fill<uint16_t>(static_cast<uint16_t *>(self.data_ptr()), n, seed, threshold,
                   kind == at::kHalf ? 0x3C00u : 0x3F80u);
  return self;
}

// It hands on to libtorch's until it is asked for more.
const Replacement replacement(c10::DispatchKey::CPU, "bernoulli_.float", TORCH_FN(bernoulli));

} // namespace

char *ty_set_parallel_dropout(int on) {
  return guard([&] { parallel.store(on != 0); });
}
