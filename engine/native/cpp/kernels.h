// The arithmetic of the optimizers on plain float32 arrays: loops that the compiler turns into vector
// instructions, once for each kind of processor.
#pragma once
#include <cstdint>

namespace trainyard {

// One update of one tensor by Adam or LAMB, with everything that is the same for all of its elements:
//   g = scale * g + l2 * w,  m += keep1 * (g - m),  v += keep2 * (g * g - v),
//   u = factor * m / (sqrt(v + inside) + outside) + decay * w,  w -= rate * u.
struct AdamRule {
  float scale, l2, keep1, keep2, factor, inside, outside, decay, rate;
};

// One update of one tensor by Lion: g = scale * g,
//   c = m + keep1 * (g - m), w -= rate * (sign(c) + decay * w), m += keep2 * (g - m).
struct LionRule {
  float scale, keep1, keep2, decay, rate;
};

struct LambNorms {
  double w, u; // sums of squares
};

// Reads w, g, m, v and writes w, m, v.
void adam_piece(const AdamRule &rule, float *w, const float *g, float *m, float *v, int64_t n);

// LAMB's first pass: reads w, g, m, v and writes m, v and the direction u; what w and u add to the squares
// of their norms.
LambNorms lamb_direction(const AdamRule &rule, const float *w, const float *g, float *m, float *v,
                         float *u, int64_t n);

// Its second: w -= rate * u.
void lamb_weights(const AdamRule &rule, float *w, const float *u, int64_t n);

// The second where u was not kept: reads m and v, for u once more.
void lamb_weights_anew(const AdamRule &rule, float *w, const float *m, const float *v, int64_t n);

// Reads w, g, m and writes w, m.
void lion_piece(const LionRule &rule, float *w, const float *g, float *m, int64_t n);

double sum_of_squares(const float *x, int64_t n);

bool all_finite(const float *x, int64_t n);
bool any_nan(const float *x, int64_t n);

} // namespace trainyard
