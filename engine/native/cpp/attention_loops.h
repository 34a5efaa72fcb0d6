// What attention does to its tiles between the products of matrices: loops that the compiler turns into
// vector instructions.
#pragma once
#include <cstdint>

namespace trainyard {

// A tile holds the scores of up to 64 keys, a row each, for up to 64 queries, a lane each. Rows are 64 apart
// whatever the number of lanes that count, which is a multiple of 16.
constexpr int64_t TILE_QUERIES = 64;
constexpr int64_t TILE_KEYS = 64;

// out[c][r] = in[r][c].
void transpose(const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out,
               int64_t out_stride);

// Rows of bf16, given by its bits, to rows of float32 that lie side by side, and back, rounded to nearest
// even.
void widen(const uint16_t *in, int64_t in_stride, int64_t rows, int64_t columns, float *out);
void narrow(const float *in, int64_t rows, int64_t columns, uint16_t *out, int64_t out_stride);

// tile = factor * tile + mask, where the mask has one number for each key, or a tile like this one.
void add_by_key(float *tile, int64_t keys, int64_t lanes, float factor, const float *mask_k);
void add_tile(float *tile, int64_t keys, int64_t lanes, float factor, const float *mask);

// tile = factor * tile, and minus infinity where the lane plus `ahead` is below the row.
void add_causal(float *tile, int64_t keys, int64_t lanes, float factor, int64_t ahead);

// top = the larger of top and factor * tile, by lane.
void raise_top(const float *tile, int64_t keys, int64_t lanes, float factor, float *top);

// tile = exp(factor * tile - top), whose sums by lane are added to `sums`; what `kept` lacks is then 0: a
// word for each key, a bit for each lane; null keeps all.
void weigh(float *tile, int64_t keys, int64_t lanes, float factor, const float *top,
           const uint64_t *kept, float *sums);

// rows[r][i] *= factor[i].
void rescale(float *rows, int64_t count, int64_t lanes, const float *factor);

// previous = exp(previous - top): what sums that were taken under another top are to be multiplied by.
void outdate(float *previous, const float *top, int64_t lanes);

// The same weights again, p = exp(factor * tile - top) * inverse, and with k the factor of dropout,
// `kept_scale` or 0: gradients *= k, and to delta, by lane, the sum of p * gradients is added.
void weigh_again(float *tile, float *gradients, int64_t keys, int64_t lanes, float factor,
                 const float *top, const float *inverse, const uint64_t *kept, float kept_scale,
                 float *delta);

// From there to what came before the softmax and its scale, gradients = scale * p * (gradients - delta), and
// to the weights as dropout left them, tile = p * k.
void unweigh(float *tile, float *gradients, int64_t keys, int64_t lanes, float scale, const float *delta,
             const uint64_t *kept, float kept_scale);

// A word for each block of random words: bit i is set where word i is below the threshold.
void bits_below(const uint32_t *words, int64_t blocks, uint32_t threshold, uint64_t *bits);

} // namespace trainyard
