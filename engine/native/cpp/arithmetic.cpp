#include "kernels.h"
#include "pieces.h"
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/add.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <cmath>
#include <numeric>

using namespace trainyard;

char *ty_add_scaled(Tensor *out, Tensor x, Tensor y, double scale) {
  return guard([&] { *out = give(at::add(tensor(x), tensor(y), scale)); });
}

static at::Tensor norm(const std::vector<at::Tensor> &tensors) {
  if (tensors.empty() || !plain(tensors)) {
    // libtorch does not narrow.
    const bool wide = std::any_of(tensors.begin(), tensors.end(),
                                  [](const at::Tensor &t) { return t.scalar_type() == at::kDouble; });
    const auto norms = wide ? at::_foreach_norm(tensors, 2) : at::_foreach_norm(tensors, 2, at::kFloat);
    return at::linalg_vector_norm(at::stack(norms), 2);
  }
  const auto x = data(tensors);
  const auto all = pieces(tensors);
  std::vector<double> squares(all.size());
  in_turns(all.size(), elements(tensors), [&](size_t i) {
    squares[i] = sum_of_squares(x[all[i].tensor] + all[i].begin, all[i].count);
  });
  const double sum = std::accumulate(squares.begin(), squares.end(), 0.0);
  // A norm beyond float32 is infinite, not an error.
  return at::scalar_tensor(static_cast<float>(std::sqrt(sum)), at::kFloat);
}

char *ty_norm_of(Tensor *out, const Tensor *tensors, size_t count) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    *out = give(norm(list(tensors, count)));
  });
}

char *ty_scale_all(const Tensor *tensors, size_t count, Tensor factor) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_mul_(list(tensors, count), tensor(factor));
  });
}
