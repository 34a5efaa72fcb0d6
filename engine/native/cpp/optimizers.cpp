#include "guard.h"
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full.h>

using namespace trainyard;

// The fused kernels walk over raw memory by the parameter's size alone.
static void like(const std::vector<at::Tensor> &params, const std::vector<at::Tensor> &others) {
  for (size_t i = 0; i < others.size(); ++i)
    TORCH_CHECK(params[i].sizes() == others[i].sizes() && params[i].strides() == others[i].strides() &&
                    params[i].device() == others[i].device() && params[i].is_non_overlapping_and_dense(),
                "a parameter of sizes ", params[i].sizes(), " and strides ", params[i].strides(),
                " came with a tensor of sizes ", others[i].sizes(), " and strides ",
                others[i].strides());
}

char *ty_fused_adam(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, int decoupled,
                    double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count), m = list(exp_avgs, count),
         v = list(exp_avg_sqs, count);
    like(p, g);
    like(p, m);
    like(p, v);
    std::vector<at::Tensor> s;
    s.reserve(count);
    for (size_t i = 0; i < count; ++i)
      s.push_back(at::full({}, static_cast<double>(steps[i]),
                           at::TensorOptions().dtype(at::kFloat).device(p[i].device())));
    if (decoupled)
      at::_fused_adamw_(p, g, m, v, {}, s, lr, beta1, beta2, weight_decay, eps, false, false);
    else
      at::_fused_adam_(p, g, m, v, {}, s, lr, beta1, beta2, weight_decay, eps, false, false);
  });
}

char *ty_fused_sgd(const Tensor *params, const Tensor *grads, const Tensor *momenta, size_t count,
                   double lr, double momentum, double dampening, double weight_decay, int nesterov,
                   int first) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count);
    std::vector<at::Tensor> buffers;
    if (momentum != 0.0)
      buffers = list(momenta, count);
    like(p, g);
    like(p, buffers);
    at::_fused_sgd_(p, g, buffers, weight_decay, momentum, lr,
                    dampening, nesterov != 0, false, first != 0);
  });
}
