#include "guard.h"
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/full.h>

using namespace trainyard;

char *ty_fused_adam(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, int decoupled,
                    double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count), m = list(exp_avgs, count),
         v = list(exp_avg_sqs, count);
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
    std::vector<at::Tensor> buffers;
    if (momentum != 0.0)
      buffers = list(momenta, count);
    at::_fused_sgd_(list(params, count), list(grads, count), buffers, weight_decay, momentum, lr,
                    dampening, nesterov != 0, false, first != 0);
  });
}
