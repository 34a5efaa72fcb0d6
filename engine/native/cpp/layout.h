// What has to be seen to before any kernel of the optimizers runs.
#pragma once
#include "guard.h"
#include <ATen/ops/full.h>
#include <initializer_list>
#include <map>

namespace trainyard {

// Throws unless each of `others` lies in memory like the parameter of its place: all kernels walk over
// raw memory by the parameter's size alone.
inline void like(const std::vector<at::Tensor> &params, const std::vector<at::Tensor> &others) {
  for (size_t i = 0; i < others.size(); ++i) {
    const auto &p = params[i], &other = others[i];
    bool alike = p.sizes() == other.sizes() && p.device() == other.device() &&
                 p.is_non_overlapping_and_dense();
    // The stride of a dimension of size 1 is never used, and libtorch leaves it as it comes.
    for (int64_t d = 0; alike && d < p.dim(); ++d)
      alike = p.size(d) == 1 || p.stride(d) == other.stride(d);
    TORCH_CHECK(alike, "a parameter of sizes ", p.sizes(), " and strides ", p.strides(), " on ",
                p.device(), " came with a tensor of sizes ", other.sizes(), " and strides ",
                other.strides(), " on ", other.device());
  }
}

// The counts of updates as libtorch's fused kernels want them, which only read them: one tensor for all
// parameters of a count, on their one device.
inline std::vector<at::Tensor> step_tensors(const std::vector<at::Tensor> &params,
                                            const int64_t *steps) {
  std::map<int64_t, at::Tensor> made;
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < params.size(); ++i) {
    at::Tensor &step = made[steps[i]];
    if (!step.defined())
      step = at::full({}, static_cast<double>(steps[i]),
                      at::device(params[i].device()).dtype(at::kFloat));
    out.push_back(step);
  }
  return out;
}

// Tells autograd that these are changed in place: neither our own loops nor libtorch's fused kernels do.
inline void will_change(std::initializer_list<const std::vector<at::Tensor> *> lists) {
  for (const auto *tensors : lists)
    for (const auto &tensor : *tensors)
      tensor.unsafeGetTensorImpl()->bump_version();
}

} // namespace trainyard
