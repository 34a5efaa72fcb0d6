#include "optimizers.h"
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

using namespace trainyard;

// The rule of one tensor, in double: the factors of AdamRule.
struct Factors {
  double factor, inside, outside, rate;
};

static Factors factors(const TyLamb &how, int64_t step) {
  const double mean = correction(how.beta1, step), square = correction(how.beta2, step);
  if (how.correct_rate) {
    const double rate = how.lr * std::sqrt(square) / mean;
    return how.eps_inside_sqrt ? Factors{1, how.eps, 0, rate} : Factors{1, 0, how.eps, rate};
  }
  // Both corrections as one factor: sqrt(v / c) + eps = (sqrt(v) + eps * sqrt(c)) / sqrt(c), and with
  // eps inside, sqrt(v / c + eps) = sqrt(v + eps * c) / sqrt(c).
  const double factor = std::sqrt(square) / mean;
  return how.eps_inside_sqrt ? Factors{factor, how.eps * square, 0, how.lr}
                             : Factors{factor, 0, how.eps * std::sqrt(square), how.lr};
}

static AdamRule rule(const TyLamb &how, float scale, int64_t step) {
  const Factors f = factors(how, step);
  AdamRule r{};
  r.scale = scale;
  r.keep1 = 1.0 - how.beta1;
  r.keep2 = 1.0 - how.beta2;
  r.factor = f.factor;
  r.inside = f.inside;
  r.outside = f.outside;
  r.decay = how.weight_decay;
  r.rate = f.rate;
  return r;
}

// |w| / |u| within its limits, 1 where either is 0.
static double ratio(const TyLamb &how, LambNorms sums) {
  if (!(sums.w > 0 && sums.u > 0))
    return 1.0;
  return std::clamp(std::sqrt(sums.w) / std::sqrt(sums.u), how.min_coeff, how.max_coeff);
}

// Small tensors go through both passes together, this many elements at a time: enough to be worth starting
// the threads, few enough for the second pass to find in the caches what the first one left there.
constexpr int64_t run_size = 1 << 18;

// The most elements whose directions are kept from the first pass to the second. They take 16 MB, used
// over and over, so most never leave the caches.
constexpr int64_t kept_size = 1 << 22;

// Pieces of whole tensors, from `begin` to `end`.
struct Run {
  size_t begin, end;
  int64_t elements;
};

static std::vector<Run> runs(const std::vector<Piece> &all) {
  std::vector<Run> out;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool new_tensor = i == 0 || all[i].tensor != all[i - 1].tensor;
    if (new_tensor && (out.empty() || out.back().elements >= run_size))
      out.push_back({i, i, 0});
    out.back().end = i + 1;
    out.back().elements += all[i].count;
  }
  return out;
}

static void ours(const Group &group, const int64_t *steps, const TyLamb &how) {
  const auto w = data(group.w), g = data(group.g), m = data(group.m), v = data(group.v);
  const auto all = pieces(group.w);
  std::vector<AdamRule> rules;
  for (size_t i = 0; i < group.w.size(); ++i)
    rules.push_back(rule(how, group.factor(), steps[i]));
  if (!how.adapt) {
    in_turns(all.size(), elements(group.w), [&](size_t i) {
      const auto [t, begin, count] = all[i];
      adam_piece(rules[t], w[t] + begin, g[t] + begin, m[t] + begin, v[t] + begin, count);
    });
    return;
  }
  const auto order = runs(all);
  int64_t most = 0;
  for (const Run &run : order)
    most = std::max(most, run.elements <= kept_size ? run.elements : 0);
  const auto memory = at::empty({most}, at::kFloat);
  float *const kept = memory.data_ptr<float>();

  std::vector<LambNorms> sums(all.size());
  std::vector<float *> places(all.size());
  for (const Run &run : order) {
    const bool keep = run.elements <= kept_size;
    const size_t count = run.end - run.begin;
    int64_t place = 0;
    for (size_t i = run.begin; i < run.end; place += all[i++].count)
      places[i] = kept + place;
    in_turns(count, run.elements, [&](size_t turn) {
      const size_t i = run.begin + turn;
      const auto [t, begin, n] = all[i];
      float own[piece_size];
      sums[i] = lamb_direction(rules[t], w[t] + begin, g[t] + begin, m[t] + begin, v[t] + begin,
                               keep ? places[i] : own, n);
    });
    LambNorms sum{};
    for (size_t i = run.begin; i < run.end; ++i) {
      sum.w += sums[i].w;
      sum.u += sums[i].u;
      const size_t t = all[i].tensor;
      if (i + 1 == run.end || all[i + 1].tensor != t) {
        rules[t].rate = factors(how, steps[t]).rate * ratio(how, sum);
        sum = {};
      }
    }
    in_turns(count, run.elements, [&](size_t turn) {
      // What was written last is most likely still in a cache.
      const size_t i = run.end - 1 - turn;
      const auto [t, begin, n] = all[i];
      if (keep)
        lamb_weights(rules[t], w[t] + begin, places[i], n);
      else
        lamb_weights_anew(rules[t], w[t] + begin, m[t] + begin, v[t] + begin, n);
    });
  }
}

static void libtorchs(const Group &group, const int64_t *steps, const TyLamb &how) {
  std::vector<at::Scalar> factor, inside, outside, rate;
  for (size_t i = 0; i < group.w.size(); ++i) {
    const Factors f = factors(how, steps[i]);
    factor.emplace_back(f.factor);
    inside.emplace_back(f.inside);
    outside.emplace_back(f.outside);
    rate.emplace_back(f.rate);
  }
  const auto g = group.scaled();
  at::_foreach_lerp_(group.m, g, 1.0 - how.beta1);
  at::_foreach_lerp_(group.v, at::_foreach_mul(g, g), 1.0 - how.beta2);
  auto root = how.eps_inside_sqrt ? at::_foreach_add(group.v, inside) : group.v;
  root = at::_foreach_sqrt(root);
  if (!how.eps_inside_sqrt)
    at::_foreach_add_(root, outside);
  auto u = at::_foreach_div(group.m, root);
  at::_foreach_mul_(u, factor);
  if (how.weight_decay != 0)
    at::_foreach_add_(u, group.w, how.weight_decay);
  if (how.adapt) {
    const auto w_norm = at::stack(at::_foreach_norm(group.w)), u_norm = at::stack(at::_foreach_norm(u));
    const auto ratios = w_norm.div(u_norm).clamp(how.min_coeff, how.max_coeff);
    const auto usable = w_norm.gt(0).logical_and(u_norm.gt(0));
    // A factor of its own for each tensor: libtorch has that only as one kernel for each.
    at::_foreach_mul_(u, at::where(usable, ratios, at::ones_like(ratios)).unbind());
  }
  at::_foreach_mul_(u, rate);
  at::_foreach_sub_(group.w, u);
}

char *ty_fused_lamb(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, Tensor scale,
                    const TyLamb *how) {
  return guard([&] {
    c10::NoGradGuard no_grad;
    const Group group(params, grads, exp_avgs, exp_avg_sqs, count, scale);
    if (count > 0)
      group.fast() ? ours(group, steps, *how) : libtorchs(group, steps, *how);
  });
}
