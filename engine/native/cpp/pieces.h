// Work on many tensors at once, cut into pieces of a fixed size. What is computed on a piece depends on
// nothing else, so the number of threads changes no bit of it.
#pragma once
#include "guard.h"
#include <ATen/Parallel.h>
#include <algorithm>
#include <atomic>

namespace trainyard {

// 64 KB of each array: an optimizer's four fit the second-level cache.
constexpr int64_t piece_size = 16384;

struct Piece {
  size_t tensor;
  int64_t begin, count; // elements
};

inline std::vector<Piece> pieces(const std::vector<at::Tensor> &tensors) {
  std::vector<Piece> out;
  for (size_t i = 0; i < tensors.size(); ++i)
    for (int64_t n = tensors[i].numel(), begin = 0; begin < n; begin += piece_size)
      out.push_back({i, begin, std::min(piece_size, n - begin)});
  return out;
}

// How many of libtorch's threads so many elements are worth.
inline int64_t workers(int64_t elements) {
  return std::clamp<int64_t>(elements / piece_size, 1, at::get_num_threads());
}

// Calls `work` once on each of so many threads, or on fewer. It must not throw.
template <typename F> void in_parallel(int64_t workers, const F &work) {
  at::parallel_for(0, workers, 1, [&](int64_t, int64_t) { work(); });
}

// Calls `work` once for each index below `count`. The threads take them in order, each the next one when
// it is done, so that a thread that is held up holds up no other. `work` must not throw.
template <typename F> void in_turns(size_t count, int64_t elements, const F &work) {
  std::atomic<size_t> next{0};
  in_parallel(workers(elements), [&] {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
      work(i);
  });
}

inline int64_t elements(const std::vector<at::Tensor> &tensors) {
  int64_t sum = 0;
  for (const auto &tensor : tensors)
    sum += tensor.numel();
  return sum;
}

// Whether all are float32 in the processor's memory, each without gaps: what the loops can walk over.
inline bool plain(const std::vector<at::Tensor> &tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor &t) {
    return t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided &&
           t.is_non_overlapping_and_dense();
  });
}

inline std::vector<float *> data(const std::vector<at::Tensor> &tensors) {
  std::vector<float *> out;
  for (const auto &tensor : tensors)
    out.push_back(tensor.data_ptr<float>());
  return out;
}

} // namespace trainyard
