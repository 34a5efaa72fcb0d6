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
#include <thread>

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

// Small tensors go through both passes together, this many elements at a time: few enough for the second
// pass to find in the caches what the first one left there.
constexpr int64_t run_size = 1 << 18;

// The most pieces whose directions a thread keeps from the first pass to the second, in 8 MB that it uses
// over and over, so that they hardly leave its core's caches. Others are computed once more, to the same
// bits.
constexpr size_t most_kept = 128;

// Pieces of whole tensors, from `begin` to `end`.
struct Run {
  size_t begin, end;
  int64_t elements;
};

// How far the threads are with the first pass of a run.
struct Progress {
  std::atomic<size_t> left;
  std::atomic<bool> rates_known{false};
};

// A piece between its passes.
struct Own {
  size_t piece;
  float *direction; // null if it was not kept
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

// No thread waits for ever: what it waits for belongs to an earlier run, so another one is at it.
template <typename F> static void wait_until(const F &done) {
  while (!done())
    std::this_thread::yield();
}

static void ours(const Group &group, const int64_t *steps, const TyLamb &how) {
  std::vector<AdamRule> rules;
  for (size_t i = 0; i < group.w.size(); ++i)
    rules.push_back(rule(how, group.factor(), steps[i]));
  if (!how.adapt)
    return one_pass(group, rules);

  const auto w = data(group.w), g = data(group.g), m = data(group.m), v = data(group.v);
  const auto all = pieces(group.w);
  const auto order = runs(all);
  std::vector<Progress> progress(order.size());
  std::vector<size_t> run_of(all.size());
  for (size_t k = 0; k < order.size(); ++k) {
    progress[k].left = order[k].end - order[k].begin;
    std::fill(run_of.begin() + order[k].begin, run_of.begin() + order[k].end, k);
  }
  std::vector<LambNorms> sums(all.size());
  const auto first = [&](size_t i, float *direction) {
    const auto [t, begin, n] = all[i];
    float here[piece_size];
    sums[i] = lamb_direction(rules[t], w[t] + begin, g[t] + begin, m[t] + begin, v[t] + begin,
                             direction ? direction : here, n);
    const size_t k = run_of[i];
    if (progress[k].left.fetch_sub(1, std::memory_order_acq_rel) > 1)
      return;
    LambNorms sum{};
    for (size_t j = order[k].begin; j < order[k].end; ++j) {
      sum.w += sums[j].w;
      sum.u += sums[j].u;
      const size_t tensor = all[j].tensor;
      if (j + 1 == order[k].end || all[j + 1].tensor != tensor) {
        rules[tensor].rate = factors(how, steps[tensor]).rate * ratio(how, sum);
        sum = {};
      }
    }
    progress[k].rates_known.store(true, std::memory_order_release);
  };
  const auto second = [&](Own own) {
    const auto [t, begin, n] = all[own.piece];
    if (own.direction)
      lamb_weights(rules[t], w[t] + begin, own.direction, n);
    else
      lamb_weights_anew(rules[t], w[t] + begin, m[t] + begin, v[t] + begin, n);
  };
  // A short run's second pass comes after the next run's first one, which gives the threads something to
  // do while the last of them ends its first; in a long run hardly any time is lost.
  const auto due = [&](size_t k, size_t now) {
    return now >= (order[k].elements >= 4 * run_size ? k + 1 : k + 2);
  };

  // A thread takes the next piece for the first pass, and does the second pass of its own pieces, whose
  // data its core's caches may still hold: fetching them from another core's costs more than memory.
  const int64_t threads = workers(elements(group.w));
  const int64_t kept = std::min(most_kept, all.size());
  const auto memory = at::empty({threads, kept, piece_size}, at::kFloat);
  std::atomic<int64_t> started{0};
  std::atomic<size_t> next{0};
  in_parallel(threads, [&] {
    float *place = memory.data_ptr<float>() + started++ * kept * piece_size;
    std::vector<float *> vacant;
    for (int64_t i = 0; i < kept; ++i)
      vacant.push_back(place + i * piece_size);
    std::vector<Own> waiting; // oldest first
    waiting.reserve(all.size());
    size_t done = 0;
    const auto catch_up = [&](size_t now) {
      while (done < waiting.size() && due(run_of[waiting[done].piece], now)) {
        const size_t k = run_of[waiting[done].piece];
        size_t end = done;
        while (end < waiting.size() && run_of[waiting[end].piece] == k)
          ++end;
        wait_until([&] { return progress[k].rates_known.load(std::memory_order_acquire); });
        // What was written last is most likely still in a cache.
        for (size_t i = end; i-- > done;) {
          second(waiting[i]);
          if (waiting[i].direction)
            vacant.push_back(waiting[i].direction);
        }
        done = end;
      }
    };
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < all.size();) {
      catch_up(run_of[i]);
      float *direction = nullptr;
      if (!vacant.empty()) {
        direction = vacant.back();
        vacant.pop_back();
      }
      first(i, direction);
      waiting.push_back({i, direction});
    }
    catch_up(order.size() + 2);
  });
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
