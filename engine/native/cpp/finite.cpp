#include "kernels.h"
#include "pieces.h"
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <limits>

using namespace trainyard;

// The largest absolute value of each: unlike a sum of squares, it is finite where all elements are. What is no number
// goes before infinity.
static at::Tensor largest(const std::vector<at::Tensor> &tensors) {
  auto largest = at::_foreach_norm(tensors, std::numeric_limits<double>::infinity());
  for (auto &value : largest)
    value = value.to(at::kDouble);
  return at::stack(largest);
}

char *ty_first_non_finite(int64_t *index, const Tensor *tensors, size_t count) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    *index = -1;
    if (count == 0)
      return;
    auto finite = at::isfinite(largest(list(tensors, count))).cpu();
    auto *flags = finite.const_data_ptr<bool>();
    for (size_t i = 0; i < count && *index < 0; ++i)
      if (!flags[i])
        *index = static_cast<int64_t>(i);
  });
}

static at::Tensor blemished(const std::vector<at::Tensor> &tensors, bool nan_only) {
  if (!plain(tensors)) {
    const auto values = largest(tensors);
    return (nan_only ? values.isnan() : at::isfinite(values).logical_not()).any().to(at::kFloat);
  }
  const auto x = data(tensors);
  const auto all = pieces(tensors);
  std::atomic<bool> found{false};
  in_turns(all.size(), elements(tensors), [&](size_t i) {
    const auto *begin = x[all[i].tensor] + all[i].begin;
    if (nan_only ? any_nan(begin, all[i].count) : !all_finite(begin, all[i].count))
      found.store(true, std::memory_order_relaxed);
  });
  return at::scalar_tensor(found ? 1.0f : 0.0f, at::kFloat);
}

char *ty_blemished(Tensor *out, const Tensor *tensors, size_t count, bool nan_only) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    *out = give(blemished(list(tensors, count), nan_only));
  });
}
