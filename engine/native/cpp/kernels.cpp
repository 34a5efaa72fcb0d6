#include "kernels.h"
#include "vectorised.h"
#include <cmath>

namespace trainyard {

namespace {

IN_LOOP float direction(const AdamRule &r, float w, float m, float v) {
  return r.factor * m / (std::sqrt(v + r.inside) + r.outside) + r.decay * w;
}

IN_LOOP void moments(const AdamRule &r, float w, float g, float &m, float &v) {
  g = r.scale * g + r.l2 * w;
  m += r.keep1 * (g - m);
  v += r.keep2 * (g * g - v);
}

} // namespace

VECTORISED void adam_piece(const AdamRule &rule, float *__restrict w, const float *__restrict g,
                           float *__restrict m, float *__restrict v, int64_t n) {
  const AdamRule r = rule;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    moments(r, w[i], g[i], m[i], v[i]);
    w[i] -= r.rate * direction(r, w[i], m[i], v[i]);
  }
}

VECTORISED LambNorms lamb_direction(const AdamRule &rule, const float *__restrict w,
                                    const float *__restrict g, float *__restrict m,
                                    float *__restrict v, float *__restrict u, int64_t n) {
  const AdamRule r = rule;
  double ww = 0, uu = 0;
#pragma omp simd reduction(+ : ww, uu)
  for (int64_t i = 0; i < n; ++i) {
    moments(r, w[i], g[i], m[i], v[i]);
    u[i] = direction(r, w[i], m[i], v[i]);
    ww += static_cast<double>(w[i]) * w[i];
    uu += static_cast<double>(u[i]) * u[i];
  }
  return {ww, uu};
}

VECTORISED void lamb_weights(const AdamRule &rule, float *__restrict w, const float *__restrict u,
                             int64_t n) {
  const float rate = rule.rate;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i)
    w[i] -= rate * u[i];
}

VECTORISED void lamb_weights_anew(const AdamRule &rule, float *__restrict w,
                                  const float *__restrict m, const float *__restrict v, int64_t n) {
  const AdamRule r = rule;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i)
    w[i] -= r.rate * direction(r, w[i], m[i], v[i]);
}

VECTORISED void lion_piece(const LionRule &rule, float *__restrict w, const float *__restrict g,
                           float *__restrict m, int64_t n) {
  const LionRule r = rule;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float change = r.scale * g[i] - m[i], c = m[i] + r.keep1 * change;
    const float sign = c > 0 ? 1.0f : c < 0 ? -1.0f : c; // 0 stays 0, and what is no number shows
    w[i] -= r.rate * (sign + r.decay * w[i]);
    m[i] += r.keep2 * change;
  }
}

VECTORISED double sum_of_squares(const float *__restrict x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i)
    sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

VECTORISED bool all_finite(const float *__restrict x, int64_t n) {
  float sum = 0; // of zeros, but for what is not finite
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i)
    sum += x[i] * 0.0f;
  return sum == 0.0f;
}

VECTORISED bool any_nan(const float *__restrict x, int64_t n) {
  int found = 0;
#pragma omp simd reduction(| : found)
  for (int64_t i = 0; i < n; ++i)
    found |= x[i] != x[i];
  return found != 0;
}

} // namespace trainyard
