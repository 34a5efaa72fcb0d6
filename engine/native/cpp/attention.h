// Attention on CPUs, softmax(scale * q k^T + mask) v by tiles of 64 queries and 64 keys, and its gradients.
#pragma once
#include "attention_loops.h"
#include <ATen/core/Tensor.h>
#include <algorithm>

namespace trainyard {

// A tensor [batch, heads, rows, columns] whose columns lie side by side; strides in elements.
struct HeadRows {
  void *data;
  int64_t batch, head, row;

  explicit HeadRows(const at::Tensor &t)
      : data(t.data_ptr()), batch(t.stride(0)), head(t.stride(1)),
        row(t.size(2) == 1 ? std::max(t.stride(2), t.size(3)) : t.stride(2)) {}
  template <typename T> T *at(int64_t b, int64_t h) const {
    return static_cast<T *>(data) + b * batch + h * head;
  }
};

// What is added to the scores, [batch, heads, queries, keys] with strides of 0 where it is the same for all:
// float32, bf16, or bool, whose false is minus infinity.
struct ScoreMask {
  const void *data = nullptr;
  at::ScalarType kind = at::kFloat;
  int64_t batch = 0, head = 0, query = 0, key = 0;
};

struct AttentionShape {
  int64_t batch, heads, queries, keys, width, value_width;

  int64_t all_heads() const { return batch * heads; }
  int64_t scores() const { return all_heads() * queries * keys; }
  int64_t query_tiles() const { return (queries + TILE_QUERIES - 1) / TILE_QUERIES; }
};

struct AttentionOptions {
  float scale;
  bool causal; // query i attends to the keys up to i
  ScoreMask mask;
  // A word for each head, tile of queries and key, in this order: bit i is set where the weight that query i
  // of the tile gives to the key is kept. Null without dropout.
  uint64_t *kept;
  float kept_scale; // 1 / probability to be kept
};

// What the forward leaves for the backward, for each head and query: the largest score, and 1 over the sum of
// exp(score - largest), 0 where no key may be attended to. Their logarithms are not added: beside a score of
// -3e38, which masks hold, the sum's would be lost.
struct AttentionSums {
  float *top, *inverse;
};

// Draws the words of `kept` from the seed: each weight is kept with the probability threshold / 2^32.
void draw_kept(const AttentionShape &shape, uint64_t seed, uint32_t threshold, uint64_t *kept);

// `T` is float, or uint16_t for the bits of bf16.
template <typename T>
void attention_forward(const AttentionShape &shape, const AttentionOptions &how, const HeadRows &q,
                       const HeadRows &k, const HeadRows &v, const HeadRows &out,
                       const AttentionSums &sums);

template <typename T>
void attention_backward(const AttentionShape &shape, const AttentionOptions &how, const HeadRows &q,
                        const HeadRows &k, const HeadRows &v, const HeadRows &grad_out,
                        const AttentionSums &sums, const HeadRows &grad_q, const HeadRows &grad_k,
                        const HeadRows &grad_v);

} // namespace trainyard
