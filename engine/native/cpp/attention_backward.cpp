#include "attention_tiles.h"
#include <cstring>

namespace trainyard {

template <typename T> struct AttentionBackward {
  const AttentionShape &shape;
  const AttentionOptions &how;
  const HeadRows &q, &k, &v, &grad_out;
  const AttentionSums &sums;
  const HeadRows &grad_q, &grad_k, &grad_v;

  int64_t room() const {
    const int64_t d = shape.width, dv = shape.value_width, t = shape.keys;
    return 2 * room_of_rows<T>(t, d) + 2 * room_of_rows<T>(t, dv) + d * stride_of_keys(t) +
           2 * room_of_rows<T>(TILE_QUERIES, d) + room_of_rows<T>(TILE_QUERIES, dv) +
           (2 * d + dv + 2 * t + 2 * TILE_KEYS + 3) * TILE_QUERIES;
  }

  // Of a whole head: what every tile of queries adds to, and how many keys' have been added to already.
  struct Gradients {
    FloatTarget keys, values;
    int64_t begun;
  };

  // Of a tile of queries; `scores` and `gradients` of all keys.
  struct Scratch {
    float *query_rows, *grad_rows, *queries, *grads, *scores, *gradients, *mask, *result, *rows, *top,
        *inverse, *delta;

    Scratch(const AttentionBackward &b, Room &room)
        : query_rows(room.take(room_of_rows<T>(TILE_QUERIES, b.shape.width))),
          grad_rows(room.take(room_of_rows<T>(TILE_QUERIES, b.shape.value_width))),
          queries(room.take(b.shape.width * TILE_QUERIES)),
          grads(room.take(b.shape.value_width * TILE_QUERIES)),
          scores(room.take(b.shape.keys * TILE_QUERIES)),
          gradients(room.take(b.shape.keys * TILE_QUERIES)),
          mask(room.take(2 * TILE_KEYS * TILE_QUERIES)), result(room.take(b.shape.width * TILE_QUERIES)),
          rows(room.take(room_of_rows<T>(TILE_QUERIES, b.shape.width))), top(room.take(TILE_QUERIES)),
          inverse(room.take(TILE_QUERIES)), delta(room.take(TILE_QUERIES)) {}
  };

  void whole_head(const Head &head, Room &room) const {
    const int64_t d = shape.width, dv = shape.value_width, t = shape.keys;
    const FloatRows keys(k.at<T>(head.batch, head.head), k.row, t, d, room.take(room_of_rows<T>(t, d)));
    const FloatRows values(v.at<T>(head.batch, head.head), v.row, t, dv,
                           room.take(room_of_rows<T>(t, dv)));
    float *columns = room.take(d * stride_of_keys(shape.keys));
    transpose(keys.data, keys.stride, t, d, columns, stride_of_keys(shape.keys));
    T *to_keys = grad_k.at<T>(head.batch, head.head), *to_values = grad_v.at<T>(head.batch, head.head);
    Gradients to{{to_keys, grad_k.row, d, room.take(room_of_rows<T>(t, d))},
                 {to_values, grad_v.row, dv, room.take(room_of_rows<T>(t, dv))},
                 0};
    Scratch scratch(*this, room);
    for (int64_t tile = 0; tile < shape.query_tiles(); ++tile)
      query_tile(head, tile, keys, columns, values, to, scratch);
    for (int64_t j = to.begun; j < t; ++j) { // Keys that no query attends to.
      std::fill_n(to.keys.data + j * to.keys.stride, d, 0.0f);
      std::fill_n(to.values.data + j * to.values.stride, dv, 0.0f);
    }
    put(to.keys, t, d, to_keys, grad_k.row);
    put(to.values, t, dv, to_values, grad_v.row);
  }

  void query_tile(const Head &head, int64_t index, const FloatRows &keys, const float *columns,
                  const FloatRows &values, Gradients &to, Scratch &s) const {
    const int64_t d = shape.width, dv = shape.value_width;
    const QueryTile tile(shape, index);
    const FloatRows rows(q.at<T>(head.batch, head.head) + tile.first * q.row, q.row, tile.count, d,
                         s.query_rows);
    const FloatRows grads(grad_out.at<T>(head.batch, head.head) + tile.first * grad_out.row,
                          grad_out.row, tile.count, dv, s.grad_rows);
    if (tile.count < tile.lanes) {
      std::memset(s.queries, 0, sizeof(float) * d * TILE_QUERIES);
      std::memset(s.grads, 0, sizeof(float) * dv * TILE_QUERIES);
    }
    transpose(rows.data, rows.stride, tile.count, d, s.queries, TILE_QUERIES);
    transpose(grads.data, grads.stride, tile.count, dv, s.grads, TILE_QUERIES);
    for (float *part : {s.top, s.inverse, s.delta})
      std::fill(part, part + TILE_QUERIES, 0.0f);
    std::copy_n(sums.top + head.index * shape.queries + tile.first, tile.count, s.top);
    std::copy_n(sums.inverse + head.index * shape.queries + tile.first, tile.count, s.inverse);
    const uint64_t *kept = kept_of(shape, how, head, index);
    // Delta, the sum over all keys of weight times gradient, comes first. That it is output times gradient as
    // well would save memory, and cost the digits that an output in bf16 has lost.
    const int64_t end = tile.keys(shape, how.causal);
    for (int64_t j = 0; j < end; j += TILE_KEYS) {
      const int64_t count = std::min(TILE_KEYS, end - j);
      float *scores = s.scores + j * TILE_QUERIES, *gradients = s.gradients + j * TILE_QUERIES;
      product(count, tile.lanes, d, keys.data + j * keys.stride, keys.stride, s.queries, TILE_QUERIES,
              scores, TILE_QUERIES, false);
      product(count, tile.lanes, dv, values.data + j * values.stride, values.stride, s.grads,
              TILE_QUERIES, gradients, TILE_QUERIES, false);
      const float factor = mask_scores(how, head, tile, j, count, scores, s.mask);
      weigh_again(scores, gradients, count, tile.lanes, factor, s.top, s.inverse,
                  kept ? kept + j : nullptr, how.kept_scale, s.delta);
    }
    for (int64_t j = 0; j < end; j += TILE_KEYS) {
      const int64_t count = std::min(TILE_KEYS, end - j);
      float *scores = s.scores + j * TILE_QUERIES, *gradients = s.gradients + j * TILE_QUERIES;
      unweigh(scores, gradients, count, tile.lanes, how.scale, s.delta, kept ? kept + j : nullptr,
              how.kept_scale);
      product(count, dv, tile.count, scores, TILE_QUERIES, grads.data, grads.stride,
              to.values.data + j * to.values.stride, to.values.stride, j < to.begun);
      product(count, d, tile.count, gradients, TILE_QUERIES, rows.data, rows.stride,
              to.keys.data + j * to.keys.stride, to.keys.stride, j < to.begun);
      product(d, tile.lanes, count, columns + j, stride_of_keys(shape.keys), gradients, TILE_QUERIES,
              s.result, TILE_QUERIES, j > 0);
    }
    to.begun = std::max(to.begun, end);
    T *to_queries = grad_q.at<T>(head.batch, head.head) + tile.first * grad_q.row;
    const FloatTarget target(to_queries, grad_q.row, d, s.rows);
    transpose(s.result, TILE_QUERIES, d, tile.count, target.data, target.stride);
    put(target, tile.count, d, to_queries, grad_q.row);
  }
};

template <typename T>
void attention_backward(const AttentionShape &shape, const AttentionOptions &how, const HeadRows &q,
                        const HeadRows &k, const HeadRows &v, const HeadRows &grad_out,
                        const AttentionSums &sums, const HeadRows &grad_q, const HeadRows &grad_k,
                        const HeadRows &grad_v) {
  const AttentionBackward<T> backward{shape, how, q, k, v, grad_out, sums, grad_q, grad_k, grad_v};
  for_each_item(shape.all_heads(), shape.scores(), backward.room(), [&](int64_t i, Room &room) {
    backward.whole_head({i / shape.heads, i % shape.heads, i}, room);
  });
}

template void attention_backward<float>(const AttentionShape &, const AttentionOptions &,
                                        const HeadRows &, const HeadRows &, const HeadRows &,
                                        const HeadRows &, const AttentionSums &, const HeadRows &,
                                        const HeadRows &, const HeadRows &);
template void attention_backward<uint16_t>(const AttentionShape &, const AttentionOptions &,
                                           const HeadRows &, const HeadRows &, const HeadRows &,
                                           const HeadRows &, const AttentionSums &, const HeadRows &,
                                           const HeadRows &, const HeadRows &);

} // namespace trainyard
