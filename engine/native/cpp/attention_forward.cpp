#include "attention_tiles.h"
#include "random.h"
#include <cstring>
#include <limits>

namespace trainyard {

// How many parts the queries of a head are cut into, so that all threads have something to do. Tiles of
// queries do not depend on each other, so no bit depends on it.
static int64_t parts_of_head(const AttentionShape &shape) {
  const int64_t wanted = 2 * at::get_num_threads() / shape.all_heads();
  return std::clamp<int64_t>(wanted, 1, shape.query_tiles());
}

template <typename T> struct AttentionForward {
  const AttentionShape &shape;
  const AttentionOptions &how;
  const HeadRows &q, &k, &v, &out;
  const AttentionSums &sums;

  int64_t room() const {
    const int64_t d = shape.width, dv = shape.value_width;
    return dv * stride_of_keys(shape.keys) + room_of_rows<T>(shape.keys, d) +
           room_of_rows<T>(shape.keys, dv) + room_of_rows<T>(TILE_QUERIES, d) +
           room_of_rows<T>(TILE_QUERIES, dv) +
           (d + dv + 3 * TILE_KEYS + 3) * TILE_QUERIES;
  }

  void head_part(const Head &head, int64_t first_tile, int64_t last_tile, Room &room) const {
    const int64_t d = shape.width, dv = shape.value_width, t = shape.keys;
    const FloatRows keys(k.at<T>(head.batch, head.head), k.row, t, d, room.take(room_of_rows<T>(t, d)));
    const FloatRows rows(v.at<T>(head.batch, head.head), v.row, t, dv, room.take(room_of_rows<T>(t, dv)));
    float *values = room.take(dv * stride_of_keys(t));
    transpose(rows.data, rows.stride, t, dv, values, stride_of_keys(t));
    Scratch scratch(*this, room);
    for (int64_t tile = first_tile; tile < last_tile; ++tile)
      query_tile(head, tile, keys, values, scratch);
  }

  struct Scratch {
    float *query_rows, *queries, *scores, *mask, *result, *rows, *top, *previous, *total;

    Scratch(const AttentionForward &f, Room &room)
        : query_rows(room.take(room_of_rows<T>(TILE_QUERIES, f.shape.width))),
          queries(room.take(f.shape.width * TILE_QUERIES)),
          scores(room.take(TILE_KEYS * TILE_QUERIES)), mask(room.take(2 * TILE_KEYS * TILE_QUERIES)),
          result(room.take(f.shape.value_width * TILE_QUERIES)),
          rows(room.take(room_of_rows<T>(TILE_QUERIES, f.shape.value_width))),
          top(room.take(TILE_QUERIES)), previous(room.take(TILE_QUERIES)),
          total(room.take(TILE_QUERIES)) {}
  };

  void query_tile(const Head &head, int64_t index, const FloatRows &keys, const float *values,
                  Scratch &s) const {
    const int64_t d = shape.width, dv = shape.value_width;
    const QueryTile tile(shape, index);
    const FloatRows rows(q.at<T>(head.batch, head.head) + tile.first * q.row, q.row, tile.count, d,
                         s.query_rows);
    if (tile.count < tile.lanes)
      std::memset(s.queries, 0, sizeof(float) * d * TILE_QUERIES);
    transpose(rows.data, rows.stride, tile.count, d, s.queries, TILE_QUERIES);
    std::fill(s.top, s.top + TILE_QUERIES, -std::numeric_limits<float>::infinity());
    std::fill(s.total, s.total + TILE_QUERIES, 0.0f);
    const uint64_t *kept = kept_of(shape, how, head, index);
    // Key by key, sums are taken under the largest score so far, and lowered when a larger one is found.
    const int64_t end = tile.keys(shape, how.causal);
    for (int64_t j = 0; j < end; j += TILE_KEYS) {
      const int64_t count = std::min(TILE_KEYS, end - j);
      product(count, tile.lanes, d, keys.data + j * keys.stride, keys.stride, s.queries, TILE_QUERIES,
              s.scores, TILE_QUERIES, false);
      const float factor = mask_scores(how, head, tile, j, count, s.scores, s.mask);
      std::copy(s.top, s.top + TILE_QUERIES, s.previous);
      raise_top(s.scores, count, tile.lanes, factor, s.top);
      if (j > 0 && !std::equal(s.top, s.top + tile.lanes, s.previous)) {
        outdate(s.previous, s.top, tile.lanes);
        rescale(s.total, 1, tile.lanes, s.previous);
        rescale(s.result, dv, tile.lanes, s.previous);
      }
      weigh(s.scores, count, tile.lanes, factor, s.top, kept ? kept + j : nullptr, s.total);
      product(dv, tile.lanes, count, values + j, stride_of_keys(shape.keys), s.scores, TILE_QUERIES,
              s.result, TILE_QUERIES, j > 0);
    }
    finish(head, tile, s);
  }

  void finish(const Head &head, const QueryTile &tile, Scratch &s) const {
    const int64_t dv = shape.value_width, at = head.index * shape.queries + tile.first;
    for (int64_t i = 0; i < tile.lanes; ++i)
      s.total[i] = s.total[i] == 0 ? 0 : 1 / s.total[i];
    std::copy_n(s.top, tile.count, sums.top + at);
    std::copy_n(s.total, tile.count, sums.inverse + at);
    for (int64_t i = 0; i < tile.lanes; ++i)
      s.total[i] *= how.kept_scale;
    rescale(s.result, dv, tile.lanes, s.total);
    T *to = out.at<T>(head.batch, head.head) + tile.first * out.row;
    const FloatTarget rows(to, out.row, dv, s.rows);
    transpose(s.result, TILE_QUERIES, dv, tile.count, rows.data, rows.stride);
    put(rows, tile.count, dv, to, out.row);
  }
};

template <typename T>
void attention_forward(const AttentionShape &shape, const AttentionOptions &how, const HeadRows &q,
                       const HeadRows &k, const HeadRows &v, const HeadRows &out,
                       const AttentionSums &sums) {
  const AttentionForward<T> forward{shape, how, q, k, v, out, sums};
  const int64_t parts = parts_of_head(shape), tiles = shape.query_tiles();
  for_each_item(shape.all_heads() * parts, shape.scores(), forward.room(), [&](int64_t i, Room &room) {
    const int64_t index = i / parts, part = i % parts;
    const Head head{index / shape.heads, index % shape.heads, index};
    forward.head_part(head, part * tiles / parts, (part + 1) * tiles / parts, room);
  });
}

template void attention_forward<float>(const AttentionShape &, const AttentionOptions &, const HeadRows &,
                                       const HeadRows &, const HeadRows &, const HeadRows &,
                                       const AttentionSums &);
template void attention_forward<uint16_t>(const AttentionShape &, const AttentionOptions &,
                                          const HeadRows &, const HeadRows &, const HeadRows &,
                                          const HeadRows &, const AttentionSums &);

void draw_kept(const AttentionShape &shape, uint64_t seed, uint32_t threshold, uint64_t *kept) {
  // Lanes are the numbers of a block.
  static_assert(TILE_QUERIES == RANDOM_BLOCK);
  constexpr int64_t at_a_time = 16;
  const int64_t blocks = shape.all_heads() * shape.query_tiles() * shape.keys;
  const int64_t pieces = (blocks + at_a_time - 1) / at_a_time;
  at::parallel_for(0, pieces, 16, [&](int64_t begin, int64_t end) {
    uint32_t words[at_a_time * RANDOM_BLOCK];
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * at_a_time, count = std::min(at_a_time, blocks - first);
      random_words(seed, static_cast<uint64_t>(first), words, count);
      bits_below(words, count, threshold, kept + first);
    }
  });
}

} // namespace trainyard
