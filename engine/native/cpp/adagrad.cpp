#include "guard.h"
#include "layout.h"
#include <ATen/ops/_fused_adagrad.h>

using namespace trainyard;

char *ty_fused_adagrad(const Tensor *params, const Tensor *grads, const Tensor *sums,
                       const int64_t *steps, size_t count, double lr, double lr_decay,
                       double weight_decay, double eps) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count), s = list(sums, count);
    like(p, g);
    like(p, s);
    will_change({&p, &s});
    at::_fused_adagrad_(p, g, s, step_tensors(p, steps), lr, lr_decay, weight_decay, eps, false);
  });
}
