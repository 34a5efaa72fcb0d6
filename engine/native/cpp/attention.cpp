// libtorch's scaled_dot_product_attention on CPUs, by kernels of our own where they are the faster ones.
#include "attention.h"
#include "guard.h"
#include "random.h"
#include "replacement.h"
#include <ATen/TensorOperators.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/ops/_safe_softmax.h>
#include <ATen/ops/alias.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention_native.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <atomic>
#include <cmath>
#include <limits>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

using namespace trainyard;

namespace {

std::atomic<bool> own_attention{false};
std::atomic<uint64_t> attention_forwards{0}, attention_backwards{0};

// One call of the operator, beside its tensors.
struct Call {
  double dropout;
  bool causal;
  double scale;

  bool drops() const { return dropout > 0; }
};

// Of 2^32: how often a weight is kept.
double kept_steps(double dropout) { return std::nearbyint((1 - dropout) * 0x1p32); }

// Whether a tensor's numbers are those in its memory, and all that is to be known of it.
bool plain_memory(const at::Tensor &t) {
  return t.is_cpu() && t.layout() == at::kStrided && !t.is_nested() && !at::isTensorSubclassLike(t) &&
         !t.is_neg() && !t._is_zerotensor() && !t._fw_grad(0).defined();
}

bool ours(const at::Tensor &t, at::ScalarType kind) {
  return plain_memory(t) && t.scalar_type() == kind && t.dim() == 4 && t.numel() > 0;
}

bool fits(const at::Tensor &mask, const at::Tensor &q, const at::Tensor &k) {
  const auto kind = mask.scalar_type();
  if (!plain_memory(mask) || mask.dim() > 4 ||
      (kind != at::kBool && kind != at::kFloat && kind != q.scalar_type()))
    return false;
  const int64_t scores[4] = {q.size(0), q.size(1), q.size(2), k.size(2)};
  for (int64_t i = 1; i <= mask.dim(); ++i)
    if (mask.size(-i) != 1 && mask.size(-i) != scores[4 - i])
      return false;
  // Its gradient is libtorch's.
  return !(at::GradMode::is_enabled() && mask.requires_grad());
}

// Where libtorch's own kernel, which it has for calls without dropout, is the faster one: measured with one
// thread on an AMD EPYC with AVX2 (docs/log.md, 2026-11-30), forward and backward. In float32 ours takes 0.7
// to 1.0 of its time up to heads of 128 and 1,024 keys; 1.1 with heads of 256, 1.1 to 1.15 with 2,048 keys,
// 1.1 to 2.7 with fewer than 16 queries, as in generation. In bf16 it takes 0.1 to 0.9 from 16 queries on.
bool slower(const at::Tensor &q, const at::Tensor &k, double dropout) {
  if (dropout > 0)
    return false;
  return q.size(2) < 16 || (q.scalar_type() == at::kFloat && (k.size(2) > 1024 || q.size(3) > 128));
}

// Where our kernels serve, and are not the slower ones.
bool served(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
            const std::optional<at::Tensor> &mask, double dropout, bool causal,
            std::optional<double> scale, bool shared_heads) {
  const auto kind = q.scalar_type();
  if ((kind != at::kFloat && kind != at::kBFloat16) || !ours(q, kind) || !ours(k, kind) ||
      !ours(v, kind) || shared_heads)
    return false;
  if (q.size(0) != k.size(0) || q.size(1) != k.size(1) || q.size(3) != k.size(3) ||
      k.sizes().slice(0, 3) != v.sizes().slice(0, 3))
    return false;
  if (mask && (causal || !fits(*mask, q, k)))
    return false;
  const bool dropout_fits =
      dropout == 0 || (dropout > 0 && kept_steps(dropout) >= 1 && kept_steps(dropout) < 0x1p32);
  return dropout_fits && std::isfinite(scale.value_or(1)) &&
         !slower(q, k, dropout);
}

AttentionShape shape_of(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v) {
  return {q.size(0), q.size(1), q.size(2), k.size(2), q.size(3), v.size(3)};
}

AttentionOptions options(const AttentionShape &shape, const Call &call, const at::Tensor &mask,
                         const at::Tensor &kept) {
  AttentionOptions how{};
  how.scale = static_cast<float>(call.scale);
  how.causal = call.causal;
  if (mask.defined()) {
    const auto wide = mask.expand({shape.batch, shape.heads, shape.queries, shape.keys});
    how.mask = {wide.data_ptr(),  wide.scalar_type(), wide.stride(0),
                wide.stride(1),   wide.stride(2),     wide.stride(3)};
  }
  if (call.drops()) {
    how.kept = reinterpret_cast<uint64_t *>(kept.data_ptr<int64_t>());
    how.kept_scale = static_cast<float>(1 / (1 - call.dropout));
  } else {
    how.kept_scale = 1;
  }
  return how;
}

// The products take rows that do not overlap and whose columns lie side by side; the stride of a single row says
// nothing.
at::Tensor with_rows(const at::Tensor &t) {
  return t.stride(3) == 1 && (t.size(2) == 1 || t.stride(2) >= t.size(3)) ? t : t.contiguous();
}

// [batch, heads, rows, columns] whose memory is in the order [batch, rows, heads, columns], as the
// projections beside attention have it. No view of another tensor: what autograd takes for a view made within a
// function may not be changed in place.
at::Tensor rows_outside(const at::Tensor &like, int64_t rows, int64_t columns) {
  const int64_t row = like.size(1) * columns;
  return at::empty_strided({like.size(0), like.size(1), rows, columns}, {rows * row, columns, row, 1},
                           like.options());
}

at::Tensor gradient_like(const at::Tensor &t) {
  return t.stride(1) < t.stride(2) ? rows_outside(t, t.size(2), t.size(3))
                                   : at::empty(t.sizes(), t.options());
}

// What the backward needs beside the inputs.
struct Kept {
  at::Tensor sums, bits;

  AttentionSums pointers() const {
    return {sums.data_ptr<float>(), sums.data_ptr<float>() + sums.size(1)};
  }
};

std::pair<at::Tensor, Kept> attend(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
                                   const at::Tensor &mask, const Call &call) {
  attention_forwards.fetch_add(1, std::memory_order_relaxed);
  const auto shape = shape_of(q, k, v);
  // libtorch's kernel, which has this layout too, serves values as wide as the keys alone; its other way gives
  // a plain one, which models may view.
  const auto out = shape.width == shape.value_width
                       ? rows_outside(q, shape.queries, shape.value_width)
                       : at::empty({shape.batch, shape.heads, shape.queries, shape.value_width}, q.options());
  Kept kept{at::empty({2, shape.all_heads() * shape.queries}, q.options().dtype(at::kFloat)), {}};
  if (call.drops()) {
    kept.bits = at::empty({shape.all_heads(), shape.query_tiles(), shape.keys},
                          q.options().dtype(at::kLong));
    draw_kept(shape, mask_seed(), static_cast<uint32_t>(kept_steps(call.dropout)),
              reinterpret_cast<uint64_t *>(kept.bits.data_ptr<int64_t>()));
  }
  const auto run = q.scalar_type() == at::kFloat ? attention_forward<float> : attention_forward<uint16_t>;
  run(shape, options(shape, call, mask, kept.bits), HeadRows(q), HeadRows(k), HeadRows(v),
      HeadRows(out), kept.pointers());
  return {out, kept};
}

// By libtorch's operators, for gradients of gradients.
at::Tensor differentiable(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
                          const at::Tensor &mask, const at::Tensor &kept, const Call &call) {
  const auto kind = q.scalar_type();
  auto scores = at::matmul(q.to(at::kFloat), k.to(at::kFloat).transpose(2, 3)) * call.scale;
  const double none = -std::numeric_limits<double>::infinity();
  if (call.causal) {
    const auto allowed = at::ones({q.size(2), k.size(2)}, q.options().dtype(at::kBool)).tril();
    scores = scores.masked_fill(allowed.logical_not(), none);
  } else if (mask.defined()) {
    scores = mask.scalar_type() == at::kBool ? scores.masked_fill(mask.logical_not(), none) : scores + mask;
  }
  auto weights = at::_safe_softmax(scores, -1, std::nullopt);
  if (call.drops()) {
    // [heads, tiles, keys] of words become [heads, tiles * 64, keys] of bits.
    const auto places = at::arange(TILE_QUERIES, kept.options()).view({1, 1, TILE_QUERIES, 1});
    const auto bits = kept.unsqueeze(2).__rshift__(places).bitwise_and(1).flatten(1, 2);
    const auto all = bits.narrow(1, 0, q.size(2)).view_as(weights);
    weights = weights * all.to(at::kFloat) * (1 / (1 - call.dropout));
  }
  return at::matmul(weights, v.to(at::kFloat)).to(kind);
}

using torch::autograd::variable_list;

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &q,
                            const at::Tensor &k, const at::Tensor &v,
                            const std::optional<at::Tensor> &mask, const Call &call) {
    const auto added = mask.value_or(at::Tensor());
    const auto [out, kept] = attend(q, k, v, added, call);
    // A mask of booleans may be changed in place for the next layer: libtorch makes numbers of it, and keeps those.
    const bool words = added.defined() && added.scalar_type() == at::kBool;
    context->save_for_backward({q, k, v, words ? added.clone() : added, kept.sums, kept.bits});
    context->saved_data["dropout"] = call.dropout;
    context->saved_data["causal"] = call.causal;
    context->saved_data["scale"] = call.scale;
    return out;
  }

  static variable_list backward(torch::autograd::AutogradContext *context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2], &mask = saved[3];
    const Call call{context->saved_data["dropout"].toDouble(), context->saved_data["causal"].toBool(),
                    context->saved_data["scale"].toDouble()};
    if (!grads[0].defined())
      return {{}, {}, {}, {}, {}};
    if (at::GradMode::is_enabled())
      return twice({q, k, v}, mask, saved[5], call, grads[0]);
    attention_backwards.fetch_add(1, std::memory_order_relaxed);
    const Kept kept{saved[4], saved[5]};
    const auto shape = shape_of(q, k, v);
    const auto grad_out = with_rows(plain_memory(grads[0]) ? grads[0] : grads[0].clone());
    auto grad_q = gradient_like(q), grad_k = gradient_like(k), grad_v = gradient_like(v);
    const auto run = q.scalar_type() == at::kFloat ? attention_backward<float> : attention_backward<uint16_t>;
    run(shape, options(shape, call, mask, kept.bits), HeadRows(q), HeadRows(k), HeadRows(v),
        HeadRows(grad_out), kept.pointers(), HeadRows(grad_q), HeadRows(grad_k), HeadRows(grad_v));
    return {grad_q, grad_k, grad_v, {}, {}};
  }

  // Gradients that have a graph of their own.
  static variable_list twice(const variable_list &inputs, const at::Tensor &mask, const at::Tensor &kept,
                             const Call &call, const at::Tensor &grad) {
    // One tensor may be given as several of them, and each is to get its own part.
    variable_list own, asked, out(5);
    for (const auto &input : inputs)
      own.push_back(at::alias(input));
    for (const auto &input : own)
      if (input.requires_grad())
        asked.push_back(input);
    const auto result = differentiable(own[0], own[1], own[2], mask, kept, call);
    const auto found = torch::autograd::grad({result}, asked, {grad}, true, true);
    for (size_t i = 0, next = 0; i < own.size(); ++i)
      if (own[i].requires_grad())
        out[i] = found[next++];
    return out;
  }
};

at::Tensor attention(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
                     const std::optional<at::Tensor> &mask, double dropout, bool causal,
                     std::optional<double> scale, bool shared_heads) {
  if (!own_attention.load(std::memory_order_relaxed) ||
      !served(q, k, v, mask, dropout, causal, scale, shared_heads))
    return at::native::scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale, shared_heads);
  const Call call{dropout, causal, scale.value_or(1 / std::sqrt(static_cast<double>(q.size(3))))};
  const auto rows = [](const at::Tensor &t) { return with_rows(t); };
  const bool graph = at::GradMode::is_enabled() &&
                     (q.requires_grad() || k.requires_grad() || v.requires_grad());
  if (graph)
    return Attention::apply(rows(q), rows(k), rows(v), mask, call);
  return attend(rows(q), rows(k), rows(v), mask.value_or(at::Tensor()), call).first;
}

// Without gradients a call may come past the key of autograd.
const Replacement on_cpu(c10::DispatchKey::CPU, "scaled_dot_product_attention", TORCH_FN(attention));
const Replacement under_autograd(c10::DispatchKey::AutogradCPU, "scaled_dot_product_attention",
                                 TORCH_FN(attention));

} // namespace

char *ty_set_own_attention(int on) {
  return guard([&] { own_attention.store(on != 0); });
}

char *ty_own_attentions(uint64_t *forwards, uint64_t *backwards) {
  return guard([&] {
    *forwards = attention_forwards.load(), *backwards = attention_backwards.load();
  });
}
