#include "guard.h"
#include "layout.h"
#include <ATen/ops/_fused_adagrad.h>
#include <ATen/ops/full.h>
#include <map>

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
    // The kernel only reads the steps, and most are the same.
    std::map<int64_t, at::Tensor> made;
    std::vector<at::Tensor> t;
    t.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      at::Tensor &step = made[steps[i]];
      if (!step.defined())
        step = at::full({}, static_cast<double>(steps[i]),
                        at::TensorOptions().dtype(at::kFloat).device(p[i].device()));
      t.push_back(step);
    }
    at::_fused_adagrad_(p, g, s, t, lr, lr_decay, weight_decay, eps, false);
  });
}
