#include "guard.h"
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/add.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>

using namespace trainyard;

char *ty_add_scaled(Tensor *out, Tensor x, Tensor y, double scale) {
  return guard([&] { *out = give(at::add(tensor(x), tensor(y), scale)); });
}

char *ty_norm_of(Tensor *out, const Tensor *tensors, size_t count) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    auto norms = at::_foreach_norm(list(tensors, count), 2, at::kFloat);
    *out = give(at::linalg_vector_norm(at::stack(norms), 2));
  });
}

char *ty_scale_all(const Tensor *tensors, size_t count, Tensor factor) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_mul_(list(tensors, count), tensor(factor));
  });
}
