// The C interface of the shim. Every function returns null on success, or a message that the caller
// releases with ty_free_message. A `Tensor` is an at::Tensor*, as tch and torch-sys have it.
#pragma once
#include <cstddef>
#include <cstdint>

typedef void *Tensor;

extern "C" {
void ty_free_message(char *message);

char *ty_clear_gradients(const Tensor *tensors, size_t count);

char *ty_add_scaled(Tensor *out, Tensor x, Tensor y, double scale);
char *ty_norm_of(Tensor *out, const Tensor *tensors, size_t count);
char *ty_scale_all(const Tensor *tensors, size_t count, Tensor factor);

char *ty_fused_adam(const Tensor *params, const Tensor *grads, const Tensor *exp_avgs,
                    const Tensor *exp_avg_sqs, const int64_t *steps, size_t count, int decoupled,
                    double lr, double beta1, double beta2, double weight_decay, double eps);
char *ty_fused_sgd(const Tensor *params, const Tensor *grads, const Tensor *momenta, size_t count,
                   double lr, double momentum, double dampening, double weight_decay, int nesterov,
                   int first);

char *ty_set_deterministic(int on);
char *ty_set_flush_denormal(int on);
}
