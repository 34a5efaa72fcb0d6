#include "guard.h"
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>

using namespace trainyard;

char *ty_lerp_all(const Tensor *starts, const Tensor *ends, size_t count, double weight) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_lerp_(list(starts, count), list(ends, count), weight);
  });
}

char *ty_shrink_and_add(const Tensor *tensors, const Tensor *others, size_t count, double kept) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    auto t = list(tensors, count);
    if (kept != 1.0)
      at::_foreach_mul_(t, kept);
    at::_foreach_add_(t, list(others, count));
  });
}
