#include "optimizers.h"
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>

using namespace trainyard;

static AdamRule rule(const TyAdam &how, float scale, int64_t step) {
  const double mean = correction(how.beta1, step), square = correction(how.beta2, step);
  AdamRule r{};
  r.scale = scale;
  (how.decoupled ? r.decay : r.l2) = how.weight_decay;
  r.keep1 = 1.0 - how.beta1;
  r.keep2 = 1.0 - how.beta2;
  // Both corrections as one factor: sqrt(v / c) + eps = (sqrt(v) + eps * sqrt(c)) / sqrt(c).
  r.factor = std::sqrt(square) / mean;
  r.outside = how.eps * std::sqrt(square);
  r.rate = how.lr;
  return r;
}

static void ours(const Group &group, const int64_t *steps, const TyAdam &how) {
  std::vector<AdamRule> rules;
  for (size_t i = 0; i < group.w.size(); ++i)
    rules.push_back(rule(how, group.factor(), steps[i]));
  one_pass(group, rules);
}

static void libtorchs(Group &group, const int64_t *steps, const TyAdam &how) {
  const auto s = step_tensors(group.w, steps);
  std::optional<at::Tensor> divisor;
  if (group.scale && group.scale->is_cuda())
    divisor = group.scale->to(at::kFloat).reciprocal();
  else
    group.g = group.scaled();
  if (how.decoupled)
    at::_fused_adamw_(group.w, group.g, group.m, group.v, {}, s, how.lr, how.beta1, how.beta2,
                      how.weight_decay, how.eps, false, false, divisor);
  else
    at::_fused_adam_(group.w, group.g, group.m, group.v, {}, s, how.lr, how.beta1, how.beta2,
                     how.weight_decay, how.eps, false, false, divisor);
}

char *ty_fused_adam(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, Tensor scale,
                    const TyAdam *how) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    Group group(params, grads, exp_avgs, exp_avg_sqs, count, scale);
    group.fast() ? ours(group, steps, *how) : libtorchs(group, steps, *how);
  });
}
