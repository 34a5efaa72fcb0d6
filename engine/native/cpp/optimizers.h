// What the optimizers' files share.
#pragma once
#include "kernels.h"
#include "layout.h"
#include "pieces.h"
#include <ATen/ops/_foreach_mul.h>
#include <cmath>

namespace trainyard {

// The parameters of a group, their gradients and up to two tensors of state for each.
struct Group {
  std::vector<at::Tensor> w, g, m, v;
  std::optional<at::Tensor> scale;

  Group(const Tensor *params, const Tensor *grads, const Tensor *m, const Tensor *v, size_t count,
        Tensor scale)
      : w(list(params, count)), g(list(grads, count)), m(list(m, count)), v(list(v, v ? count : 0)) {
    like(w, g);
    like(w, this->m);
    like(w, this->v);
    will_change({&w, &this->m, &this->v});
    if (scale) {
      this->scale = tensor(scale);
      TORCH_CHECK(this->scale->dim() == 0 && this->scale->is_floating_point(), "the gradients' scale is a ",
                  this->scale->scalar_type(), " tensor of sizes ", this->scale->sizes(), ", not a real scalar");
    }
  }

  // Whether our own loops can do it.
  bool fast() const {
    return plain(w) && plain(g) && plain(m) && plain(v) && (!scale || scale->is_cpu());
  }

  float factor() const { return scale ? scale->item<float>() : 1.0f; }

  // The gradients with the scale in them.
  std::vector<at::Tensor> scaled() const { return scale ? at::_foreach_mul(g, *scale) : g; }
};

// 1 - beta^step: divides a running mean that began at zero.
inline double correction(double beta, int64_t step) {
  return 1.0 - std::pow(beta, static_cast<double>(step));
}

// Adam's update of every tensor by its own rule, in one pass.
inline void one_pass(const Group &group, const std::vector<AdamRule> &rules) {
  const auto w = data(group.w), g = data(group.g), m = data(group.m), v = data(group.v);
  const auto all = pieces(group.w);
  in_turns(all.size(), elements(group.w), [&](size_t i) {
    const auto [t, begin, count] = all[i];
    adam_piece(rules[t], w[t] + begin, g[t] + begin, m[t] + begin, v[t] + begin, count);
  });
}

} // namespace trainyard
