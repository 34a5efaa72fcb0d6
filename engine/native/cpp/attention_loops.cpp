#include "attention_loops.h"
#include "vectorised.h"
#include <cstring>
#include <limits>

namespace trainyard {

namespace {

IN_LOOP uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

IN_LOOP float of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// exp of what is not above 0, to about one unit in the last place; 0 below -86.6, where normal numbers
// end; NaN of NaN. The polynomial is that of Cephes' expf (S. Moshier, https://www.netlib.org/cephes).
IN_LOOP float exponential(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f; // 1.5 * 2^23: the sum's last bits are an integer
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const float power = of_bits((bits_of(shifted) + 127) << 23);
  return x < -86.6f ? 0.0f : y * power;
}

// What is subtracted from scores: a query that may attend to nothing has no largest score.
IN_LOOP float base(float top) {
  return top == -std::numeric_limits<float>::infinity() ? 0.0f : top;
}

// row[i] *= bit i of `word`, times `kept_scale`.
IN_LOOP void keep(float *__restrict row, int64_t lanes, uint64_t word, float kept_scale) {
  for (int64_t from = 0; from < lanes; from += 32) {
    const auto half = static_cast<uint32_t>(word >> from);
    const int count = static_cast<int>(lanes - from < 32 ? lanes - from : 32);
#pragma omp simd
    for (int i = 0; i < count; ++i)
      row[from + i] *= static_cast<float>((half >> i) & 1) * kept_scale;
  }
}

} // namespace

#if defined(__GNUC__) && !defined(__clang__)
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int Places __attribute__((vector_size(32)));

IN_LOOP void transpose_eight(const float *in, int64_t in_stride, float *out, int64_t out_stride) {
  Eight a[8], b[8];
  for (int i = 0; i < 8; ++i)
    a[i] = *reinterpret_cast<const Eight *>(in + i * in_stride);
  for (int i = 0; i < 8; i += 2) {
    b[i] = __builtin_shuffle(a[i], a[i + 1], Places{0, 8, 1, 9, 4, 12, 5, 13});
    b[i + 1] = __builtin_shuffle(a[i], a[i + 1], Places{2, 10, 3, 11, 6, 14, 7, 15});
  }
  for (int i = 0; i < 8; i += 4)
    for (int k = 0; k < 2; ++k) {
      a[i + 2 * k] = __builtin_shuffle(b[i + k], b[i + k + 2], Places{0, 1, 8, 9, 4, 5, 12, 13});
      a[i + 2 * k + 1] = __builtin_shuffle(b[i + k], b[i + k + 2], Places{2, 3, 10, 11, 6, 7, 14, 15});
    }
  for (int i = 0; i < 4; ++i) {
    b[i] = __builtin_shuffle(a[i], a[i + 4], Places{0, 1, 2, 3, 8, 9, 10, 11});
    b[i + 4] = __builtin_shuffle(a[i], a[i + 4], Places{4, 5, 6, 7, 12, 13, 14, 15});
  }
  for (int i = 0; i < 8; ++i)
    *reinterpret_cast<Eight *>(out + i * out_stride) = b[i];
}
#else
IN_LOOP void transpose_eight(const float *in, int64_t in_stride, float *out, int64_t out_stride) {
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j)
      out[j * out_stride + i] = in[i * in_stride + j];
}
#endif

IN_LOOP void transpose_loop(const float *in, int64_t in_stride, int64_t rows, int64_t columns,
                            float *out, int64_t out_stride) {
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  const auto block = [=](int64_t r, int64_t c) __attribute__((always_inline)) {
    transpose_eight(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
  };
  // Along the rows that lie farther apart: those of one column fall on the same few lines of the cache.
  if (in_stride < out_stride) {
    for (int64_t c = 0; c < whole_columns; c += 8)
      for (int64_t r = 0; r < whole_rows; r += 8)
        block(r, c);
  } else {
    for (int64_t r = 0; r < whole_rows; r += 8)
      for (int64_t c = 0; c < whole_columns; c += 8)
        block(r, c);
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      out[c * out_stride + r] = in[r * in_stride + c];
}
VECTORISED_FULLY(transpose,
                 (const float *in, int64_t in_stride, int64_t rows, int64_t columns, float *out,
                  int64_t out_stride),
                 (in, in_stride, rows, columns, out, out_stride))

IN_LOOP void widen_loop(const uint16_t *__restrict in, int64_t in_stride, int64_t rows, int64_t columns,
                        float *__restrict out) {
  for (int64_t r = 0; r < rows; ++r, in += in_stride, out += columns)
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c)
      out[c] = of_bits(static_cast<uint32_t>(in[c]) << 16);
}
VECTORISED_FULLY(widen,
                 (const uint16_t *in, int64_t in_stride, int64_t rows, int64_t columns, float *out),
                 (in, in_stride, rows, columns, out))

IN_LOOP void narrow_loop(const float *__restrict in, int64_t rows, int64_t columns,
                         uint16_t *__restrict out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r, in += columns, out += out_stride)
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      const uint32_t bits = bits_of(in[c]);
      const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16;
      out[c] = static_cast<uint16_t>(in[c] == in[c] ? rounded : 0x7FC0u);
    }
}
VECTORISED_FULLY(narrow,
                 (const float *in, int64_t rows, int64_t columns, uint16_t *out, int64_t out_stride),
                 (in, rows, columns, out, out_stride))

IN_LOOP void add_by_key_loop(float *__restrict tile, int64_t keys, int64_t lanes, float factor,
                             const float *__restrict mask_k) {
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES)
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i)
      tile[i] = factor * tile[i] + mask_k[j];
}
VECTORISED_FULLY(add_by_key,
                 (float *tile, int64_t keys, int64_t lanes, float factor, const float *mask_k),
                 (tile, keys, lanes, factor, mask_k))

IN_LOOP void add_tile_loop(float *__restrict tile, int64_t keys, int64_t lanes, float factor,
                           const float *__restrict mask) {
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES, mask += TILE_QUERIES)
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i)
      tile[i] = factor * tile[i] + mask[i];
}
VECTORISED_FULLY(add_tile,
                 (float *tile, int64_t keys, int64_t lanes, float factor, const float *mask),
                 (tile, keys, lanes, factor, mask))

IN_LOOP void add_causal_loop(float *__restrict tile, int64_t keys, int64_t lanes, float factor,
                             int64_t ahead) {
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES) {
    const int row = static_cast<int>(j - ahead), count = static_cast<int>(lanes);
#pragma omp simd
    for (int i = 0; i < count; ++i)
      tile[i] = i < row ? -std::numeric_limits<float>::infinity() : factor * tile[i];
  }
}
VECTORISED_FULLY(add_causal,
                 (float *tile, int64_t keys, int64_t lanes, float factor, int64_t ahead),
                 (tile, keys, lanes, factor, ahead))

IN_LOOP void raise_top_loop(const float *__restrict tile, int64_t keys, int64_t lanes, float factor,
                            float *__restrict top) {
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES)
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i)
      top[i] = factor * tile[i] > top[i] ? factor * tile[i] : top[i];
}
VECTORISED_FULLY(raise_top,
                 (const float *tile, int64_t keys, int64_t lanes, float factor, float *top),
                 (tile, keys, lanes, factor, top))

IN_LOOP void weigh_loop(float *__restrict tile, int64_t keys, int64_t lanes, float factor,
                        const float *__restrict top, const uint64_t *kept, float *__restrict sums) {
  float bases[TILE_QUERIES];
#pragma omp simd
  for (int64_t i = 0; i < lanes; ++i)
    bases[i] = base(top[i]);
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES) {
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i) {
      tile[i] = exponential(factor * tile[i] - bases[i]);
      sums[i] += tile[i];
    }
    if (kept)
      keep(tile, lanes, kept[j], 1);
  }
}
VECTORISED_FULLY(weigh,
                 (float *tile, int64_t keys, int64_t lanes, float factor, const float *top,
                  const uint64_t *kept, float *sums),
                 (tile, keys, lanes, factor, top, kept, sums))

IN_LOOP void rescale_loop(float *__restrict rows, int64_t count, int64_t lanes,
                          const float *__restrict factor) {
  for (int64_t r = 0; r < count; ++r, rows += TILE_QUERIES)
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i)
      rows[i] *= factor[i];
}
VECTORISED_FULLY(rescale, (float *rows, int64_t count, int64_t lanes, const float *factor),
                 (rows, count, lanes, factor))

IN_LOOP void outdate_loop(float *__restrict previous, const float *__restrict top, int64_t lanes) {
#pragma omp simd
  for (int64_t i = 0; i < lanes; ++i)
    previous[i] = exponential(previous[i] - base(top[i]));
}
VECTORISED_FULLY(outdate, (float *previous, const float *top, int64_t lanes), (previous, top, lanes))

IN_LOOP void weigh_again_loop(float *__restrict tile, float *__restrict gradients, int64_t keys,
                              int64_t lanes, float factor, const float *__restrict top,
                              const float *__restrict inverse, const uint64_t *kept, float kept_scale,
                              float *__restrict delta) {
  float bases[TILE_QUERIES];
#pragma omp simd
  for (int64_t i = 0; i < lanes; ++i)
    bases[i] = base(top[i]);
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES, gradients += TILE_QUERIES) {
    if (kept)
      keep(gradients, lanes, kept[j], kept_scale);
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i) {
      tile[i] = exponential(factor * tile[i] - bases[i]) * inverse[i];
      delta[i] += tile[i] * gradients[i];
    }
  }
}
VECTORISED_FULLY(weigh_again,
                 (float *tile, float *gradients, int64_t keys, int64_t lanes, float factor,
                  const float *top, const float *inverse, const uint64_t *kept, float kept_scale,
                  float *delta),
                 (tile, gradients, keys, lanes, factor, top, inverse, kept, kept_scale, delta))

IN_LOOP void unweigh_loop(float *__restrict tile, float *__restrict gradients, int64_t keys,
                          int64_t lanes, float scale, const float *__restrict delta,
                          const uint64_t *kept, float kept_scale) {
  for (int64_t j = 0; j < keys; ++j, tile += TILE_QUERIES, gradients += TILE_QUERIES) {
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i)
      gradients[i] = scale * tile[i] * (gradients[i] - delta[i]);
    if (kept)
      keep(tile, lanes, kept[j], kept_scale);
  }
}
VECTORISED_FULLY(unweigh,
                 (float *tile, float *gradients, int64_t keys, int64_t lanes, float scale,
                  const float *delta, const uint64_t *kept, float kept_scale),
                 (tile, gradients, keys, lanes, scale, delta, kept, kept_scale))

IN_LOOP void bits_below_loop(const uint32_t *__restrict words, int64_t blocks, uint32_t threshold,
                             uint64_t *__restrict bits) {
  for (int64_t b = 0; b < blocks; ++b, words += 64) {
    uint32_t low = 0, high = 0;
#pragma omp simd reduction(| : low, high)
    for (int i = 0; i < 32; ++i) {
      low |= static_cast<uint32_t>(words[i] < threshold) << i;
      high |= static_cast<uint32_t>(words[32 + i] < threshold) << i;
    }
    bits[b] = low | static_cast<uint64_t>(high) << 32;
  }
}
VECTORISED_FULLY(bits_below,
                 (const uint32_t *words, int64_t blocks, uint32_t threshold, uint64_t *bits),
                 (words, blocks, threshold, bits))

} // namespace trainyard
