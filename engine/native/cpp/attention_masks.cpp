#include "attention_tiles.h"
#include <limits>

namespace trainyard {

namespace {

// The mask's numbers for `keys` keys of one query.
void mask_row(const ScoreMask &mask, int64_t offset, int64_t keys, float *out) {
  switch (mask.kind) {
  case at::kBool: {
    const auto *from = static_cast<const bool *>(mask.data) + offset;
    for (int64_t j = 0; j < keys; ++j)
      out[j] = from[j * mask.key] ? 0.0f : -std::numeric_limits<float>::infinity();
    break;
  }
  case at::kBFloat16: {
    const auto *from = static_cast<const c10::BFloat16 *>(mask.data) + offset;
    for (int64_t j = 0; j < keys; ++j)
      out[j] = static_cast<float>(from[j * mask.key]);
    break;
  }
  default: {
    const auto *from = static_cast<const float *>(mask.data) + offset;
    for (int64_t j = 0; j < keys; ++j)
      out[j] = from[j * mask.key];
  }
  }
}

} // namespace

float mask_scores(const AttentionOptions &how, const Head &head, const QueryTile &queries,
                  int64_t first_key, int64_t keys, float *scores, float *room) {
  if (how.causal) {
    if (first_key + keys <= queries.first + 1) // All of these keys, every query attends to.
      return how.scale;
    add_causal(scores, keys, queries.lanes, how.scale, queries.first - first_key);
    return 1;
  }
  const ScoreMask &mask = how.mask;
  if (!mask.data)
    return how.scale;
  const int64_t from = head.batch * mask.batch + head.head * mask.head + first_key * mask.key;
  if (mask.query == 0) {
    mask_row(mask, from, keys, room);
    add_by_key(scores, keys, queries.lanes, how.scale, room);
    return 1;
  }
  float *rows = room, *tile = room + TILE_QUERIES * TILE_KEYS;
  for (int64_t i = 0; i < queries.count; ++i)
    mask_row(mask, from + (queries.first + i) * mask.query, keys, rows + i * TILE_KEYS);
  // Lanes without a query are computed with, too.
  std::fill(rows + queries.count * TILE_KEYS, rows + queries.lanes * TILE_KEYS, 0.0f);
  transpose(rows, TILE_KEYS, queries.lanes, keys, tile, TILE_QUERIES);
  add_tile(scores, keys, queries.lanes, how.scale, tile);
  return 1;
}

} // namespace trainyard
