#include "guard.h"
#include "layout.h"
#include <ATen/ops/_fused_sgd.h>

using namespace trainyard;

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
    will_change({&p, &buffers});
    at::_fused_sgd_(p, g, buffers, weight_decay, momentum, lr,
                    dampening, nesterov != 0, false, first != 0);
  });
}
