// The C interface of the shim. Every function returns null on success, or a message that the caller
// releases with ty_free_message. A `Tensor` is an at::Tensor*, as tch and torch-sys have it.
#pragma once
#include <cstddef>
#include <cstdint>

typedef void *Tensor;

// How autocast stood before a scope.
struct TyAutocast {
  int cuda, kind, enabled, cache;
};

// One step of an optimizer: the structs of the same fields in src/.
struct TyAdam {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
};
struct TyLamb {
  double lr, beta1, beta2, eps, weight_decay, min_coeff, max_coeff;
  bool eps_inside_sqrt, correct_rate, adapt;
};
struct TyLion {
  double lr, beta1, beta2, weight_decay;
};

extern "C" {
void ty_free_message(char *message);

char *ty_clear_gradients(const Tensor *tensors, size_t count);

char *ty_autocast_enter(int cuda, int half, TyAutocast *before);
char *ty_autocast_leave(const TyAutocast *before);
char *ty_clear_autocast_cache();

char *ty_first_non_finite(int64_t *index, const Tensor *tensors, size_t count);

char *ty_add_scaled(Tensor *out, Tensor x, Tensor y, double scale);
char *ty_norm_of(Tensor *out, const Tensor *tensors, size_t count);
char *ty_scale_all(const Tensor *tensors, size_t count, Tensor factor);

char *ty_fused_adam(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, Tensor scale,
                    const TyAdam *how);
char *ty_fused_lamb(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, Tensor scale,
                    const TyLamb *how);
char *ty_fused_lion(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs, size_t count,
                    Tensor scale, const TyLion *how);
char *ty_fused_sgd(const Tensor *params, const Tensor *grads, const Tensor *momenta, size_t count,
                   double lr, double momentum, double dampening, double weight_decay, int nesterov,
                   int first);

char *ty_lerp_all(const Tensor *starts, const Tensor *ends, size_t count, double weight);
char *ty_shrink_and_add(const Tensor *tensors, const Tensor *others, size_t count, double kept);

char *ty_fused_adagrad(const Tensor *params, const Tensor *grads, const Tensor *sums,
                       const int64_t *steps, size_t count, double lr, double lr_decay,
                       double weight_decay, double eps);

char *ty_load_cuda();
char *ty_begin_counting_waits();
char *ty_end_counting_waits(uint64_t *count);

char *ty_set_deterministic(int on);
char *ty_set_flush_denormal(int on);
char *ty_keep_freed_memory();
}
