#include "guard.h"
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <limits>

using namespace trainyard;

char *ty_first_non_finite(int64_t *index, const Tensor *tensors, size_t count) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    *index = -1;
    if (count == 0)
      return;
    // The largest absolute value: unlike a sum of squares, it is finite where all elements are.
    auto largest = at::_foreach_norm(list(tensors, count), std::numeric_limits<double>::infinity());
    for (auto &value : largest)
      value = value.to(at::kDouble);
    auto finite = at::isfinite(at::stack(largest)).cpu();
    auto *flags = finite.const_data_ptr<bool>();
    for (size_t i = 0; i < count && *index < 0; ++i)
      if (!flags[i])
        *index = static_cast<int64_t>(i);
  });
}
