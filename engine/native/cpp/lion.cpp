#include "optimizers.h"
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_sign.h>

using namespace trainyard;

static void ours(const Group &group, const TyLion &how) {
  LionRule rule{};
  rule.scale = group.factor();
  rule.keep1 = 1.0 - how.beta1;
  rule.keep2 = 1.0 - how.beta2;
  rule.decay = how.weight_decay;
  rule.rate = how.lr;
  const auto w = data(group.w), g = data(group.g), m = data(group.m);
  const auto all = pieces(group.w);
  in_turns(all.size(), elements(group.w), [&](size_t i) {
    const auto [t, begin, count] = all[i];
    lion_piece(rule, w[t] + begin, g[t] + begin, m[t] + begin, count);
  });
}

static void libtorchs(const Group &group, const TyLion &how) {
  const auto g = group.scaled();
  const auto c = at::_foreach_lerp(group.m, g, 1.0 - how.beta1);
  auto u = at::_foreach_sign(c);
  at::_foreach_lerp_(u, c, 0.0); // the sign of what is no number is 0, and would hide it
  if (how.weight_decay != 0)
    at::_foreach_add_(u, group.w, how.weight_decay);
  at::_foreach_add_(group.w, u, -how.lr);
  at::_foreach_lerp_(group.m, g, 1.0 - how.beta2);
}

char *ty_fused_lion(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs, size_t count,
                    Tensor scale, const TyLion *how) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    const Group group(params, grads, exp_avgs, nullptr, count, scale);
    if (count > 0)
      group.fast() ? ours(group, *how) : libtorchs(group, *how);
  });
}
