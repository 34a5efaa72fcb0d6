// What the forward and the backward of attention share: where a tile lies, its scores, and memory for it.
#pragma once
#include "attention.h"
#include "pieces.h"
#include <ATen/native/CPUBlas.h>
#include <c10/core/CPUAllocator.h>

namespace trainyard {

// One head of one sample.
struct Head {
  int64_t batch, head, index;
};

// Queries from `first` on, `count` of them in `lanes` lanes: a multiple of 16, for which the product has a
// kernel whatever the count.
struct QueryTile {
  int64_t first, count, lanes;

  QueryTile(const AttentionShape &shape, int64_t tile)
      : first(tile * TILE_QUERIES), count(std::min(TILE_QUERIES, shape.queries - first)),
        lanes((count + 15) / 16 * 16) {}

  // Keys before the first that none of the queries attends to.
  int64_t keys(const AttentionShape &shape, bool causal) const {
    return causal ? std::min(shape.keys, first + count) : shape.keys;
  }
};

// The words of a tile's keys, null without dropout.
inline const uint64_t *kept_of(const AttentionShape &shape, const AttentionOptions &how,
                               const Head &head, int64_t tile) {
  return how.kept ? how.kept + (head.index * shape.query_tiles() + tile) * shape.keys : nullptr;
}

// Memory of one thread, handed out in parts that begin at a cache line.
class Room {
public:
  explicit Room(int64_t floats) : memory(c10::GetCPUAllocator()->allocate(sizeof(float) * floats)) {}
  static int64_t padded(int64_t floats) { return (floats + 15) / 16 * 16; }
  float *take(int64_t floats) {
    float *part = static_cast<float *>(memory.get()) + used;
    used += padded(floats);
    return part;
  }
  void clear() { used = 0; }

private:
  c10::DataPtr memory;
  int64_t used = 0;
};

// c [m, n] = a [m, k] b [k, n], or what is there and this.
inline void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b,
                    int64_t b_stride, float *c, int64_t c_stride, bool add) {
  at::native::cpublas::brgemm(m, n, k, a_stride, b_stride, c_stride, add, a, b, c, false);
}

// Rows of float32 that are in memory already, or are widened into `room`.
struct FloatRows {
  const float *data;
  int64_t stride;

  FloatRows(const float *rows, int64_t row, int64_t, int64_t, float *) : data(rows), stride(row) {}
  FloatRows(const uint16_t *rows, int64_t row, int64_t count, int64_t width, float *room)
      : data(room), stride(width) {
    widen(rows, row, count, width, room);
  }
};

// Where rows of float32 are to be written, so that they need no more than be put in place: there, or in
// `room`, for bf16.
struct FloatTarget {
  float *data;
  int64_t stride;

  FloatTarget(float *rows, int64_t row, int64_t, float *) : data(rows), stride(row) {}
  FloatTarget(uint16_t *, int64_t, int64_t width, float *room) : data(room), stride(width) {}
};

inline void put(const FloatTarget &, int64_t, int64_t, float *, int64_t) {}
inline void put(const FloatTarget &from, int64_t rows, int64_t width, uint16_t *out, int64_t row) {
  narrow(from.data, rows, width, out, row);
}

// The stride of `keys` columns: rows that are a power of two apart fall on the same few lines of a cache.
inline int64_t stride_of_keys(int64_t keys) { return Room::padded(keys) + 16; }

// Floats of room that so many such rows take.
template <typename T> int64_t room_of_rows(int64_t count, int64_t width) {
  return std::is_same_v<T, float> ? 0 : Room::padded(count * width);
}

// The scores of a tile: the mask is added, where there is one, and what is left to multiply with returned.
// `room` holds two tiles.
float mask_scores(const AttentionOptions &how, const Head &head, const QueryTile &queries,
                  int64_t first_key, int64_t keys, float *scores, float *room);

// Calls `work(item, room)` for each item below `count`, on any of the threads; `floats` is the room it takes.
template <typename F>
void for_each_item(int64_t count, int64_t elements, int64_t floats, const F &work) {
  std::atomic<int64_t> next{0};
  in_parallel(std::min(workers(elements), count), [&] {
    Room room(floats);
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count; room.clear())
      work(i, room);
  });
}

} // namespace trainyard
