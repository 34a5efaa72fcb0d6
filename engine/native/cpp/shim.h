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

// Hears the index of a parameter whose gradient is complete, on the thread of the backward pass.
typedef void (*TyListener)(void *context, size_t index);
// Frees what a listener was given, once no hook holds it any more.
typedef void (*TyRelease)(void *context);

// A place in a TorchScript module: a tensor, or where `tensor` is null a module of type `type`. `identity` is the
// same wherever the same thing lies.
struct TyPlace {
  const char *name, *type;
  const void *identity;
  Tensor tensor;
  bool parameter, forward;
};
// An argument of a script's forward; `tensor`: a tensor or none.
struct TyArgument {
  const char *name, *type;
  bool tensor, optional;
};
// A call of one of the modules that were asked for, `module`, in a method of the module `caller`, which is called
// as a whole for the `visit`th time. The arrays have an item for each of the `inputs` that the module is called with.
struct TyCall {
  size_t module, visit, inputs;
  const char *caller, *method, *place, *output;
  // An attribute that the module assigns and code outside of it reads; empty if there is none.
  const char *assigned;
  // `threads`: the script begins or awaits something on other threads outside of the modules.
  bool looped, conditional, forked, threads;
  // The output is a tensor, or a tuple whose first item is one; the other items are used, may be none.
  bool streams, rest_used, rest_optional;
  const bool *tensor;
  // A sum leads from the input to the output; the module writes to the input.
  const bool *residual, *written;
  // The latest call before, by its place in the list, whose stream this input is; -1 for none.
  const int64_t *from;
};
// A file beside the module in its archive. The name ends with NUL.
struct TyExtra {
  const char *name, *content;
  size_t size;
};

typedef void (*TyWrite)(void *context, const void *bytes, size_t size);

// How a script's operations know whether they train: by a constant, on or off, or by `training`; `freed`: those
// whose constant gave way to it when the script was loaded; `random`: draws under no condition, besides.
struct TyModes {
  size_t on, off, switched, freed, random;
};

typedef void (*TyPlaces)(void *context, const TyPlace *place);
typedef void (*TyArguments)(void *context, const TyArgument *argument);
typedef void (*TyCalls)(void *context, const TyCall *call);
// Takes a tensor that a forward returned, with its name if it has one.
typedef void (*TyOutputs)(void *context, const char *name, Tensor tensor);
// Runs the gated call `site` on `x`: `call` runs the module itself. False stops the forward.
typedef bool (*TyLayer)(void *context, size_t site, Tensor x, void *call, Tensor *out);

// What an operator takes or returns. TY_TENSOR: `items` is the tensor; lists: `count` of Tensor, int64_t, double, bool
// at `items`; TY_TEXT: so many bytes; TY_INT and TY_BOOL are in `whole`, TY_FLOAT in `real`.
enum TyKind {
  TY_DEFAULT, TY_NONE, TY_TENSOR, TY_TENSORS, TY_INT, TY_INTS, TY_FLOAT, TY_FLOATS, TY_BOOL, TY_BOOLS, TY_TEXT
};
struct TyValue {
  int kind;
  size_t count;
  int64_t whole;
  double real;
  const void *items;
};
// An argument of an operator, or what it returns; `sets`: names, with spaces between, that it shares with what may
// have the same memory; `written`: the operator writes to it.
struct TyParameter {
  const char *name, *type, *sets;
  bool result, optional, written;
};
typedef void (*TyParameters)(void *context, const TyParameter *parameter);
// Takes what an operator returned, one after the other: tensors are the receiver's.
typedef void (*TyResults)(void *context, const TyValue *value);

extern "C" {
void ty_free_message(char *message);

char *ty_clear_gradients(const Tensor *tensors, size_t count);
char *ty_set_gradient(Tensor t, Tensor gradient);
char *ty_reached(bool *reached, Tensor loss, const Tensor *tensors, size_t count);
char *ty_listen(const Tensor *tensors, size_t count, TyListener listener, TyRelease release,
                void *context);
char *ty_stop_listening(const Tensor *tensors, size_t count, const void *context);

char *ty_autocast_enter(int cuda, int half, TyAutocast *before);
char *ty_autocast_pause(int cuda, TyAutocast *before);
char *ty_autocast_leave(const TyAutocast *before);
char *ty_clear_autocast_cache();

char *ty_first_non_finite(int64_t *index, const Tensor *tensors, size_t count);
char *ty_blemished(Tensor *out, const Tensor *tensors, size_t count, bool nan_only);

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
char *ty_set_parallel_dropout(int on);
char *ty_set_own_attention(int on);
char *ty_own_attentions(uint64_t *forwards, uint64_t *backwards);
char *ty_set_log_level(int level);
char *ty_skip_teardown();
char *ty_keep_freed_memory();

// Stores, groups and works are made here and released with their `_free`.
// `listener`: a socket that listens at the port, which the store takes over; below 0: somebody else keeps it.
char *ty_store_connect(void **out, const char *host, uint16_t port, int listener,
                       int64_t timeout_ms);
char *ty_store_set_timeout(void *store, int64_t timeout_ms);
char *ty_store_prefixed(void **out, void *inner, const char *prefix);
void ty_store_free(void *store);
char *ty_store_set(void *store, const char *key, const uint8_t *data, size_t length);
char *ty_store_check(void *store, const char *key, bool *there);
char *ty_store_get(void *store, const char *key, int64_t timeout_ms, uint8_t **data,
                   size_t *length);
char *ty_store_compare_set(void *store, const char *key, const uint8_t *data, size_t data_length,
                           uint8_t **found, size_t *found_length);
void ty_free_bytes(uint8_t *data);

char *ty_group_gloo(void **out, void *store, const char *address, const char *interface, int rank,
                    int size, int64_t timeout_ms);
char *ty_group_nccl(void **out, void *store, const uint8_t *image, size_t length, int rank,
                    int size, int64_t timeout_ms);
void ty_group_free(void *group);
char *ty_group_abort(void *group);
char *ty_all_reduce(void **work, void *group, Tensor tensor, int op);
char *ty_broadcast(void **work, void *group, Tensor tensor, int root);
char *ty_all_gather(void **work, void *group, Tensor gathered, Tensor own);
char *ty_reduce_scatter(void **work, void *group, Tensor own, Tensor whole, int op);
char *ty_barrier(void **work, void *group);
void ty_work_free(void *work);
char *ty_work_done(void *work, bool *done);
// `timeout_ms`: the host waits too, so long at most; -1: as the backend does.
char *ty_work_wait(void *work, int64_t timeout_ms);

// Scripts are made by `ty_script_load` and released with `ty_script_free`. Names end with NUL.
char *ty_script_load(void **out, const char *path, int device, int index);
void ty_script_free(void *script);
char *ty_script_places(void *script, TyPlaces take, void *context);
char *ty_script_arguments(void *script, TyArguments take, void *context);
char *ty_script_modes(void *script, TyModes *out);
char *ty_script_calls(void *script, const void *const *modules, size_t count, TyCalls take,
                      void *context);
char *ty_script_gate(void *script, const void *const *modules, const size_t *streams, size_t count);
char *ty_script_forward(void *script, const Tensor *inputs, size_t count, bool train, TyLayer layer,
                        TyOutputs take, void *context);
char *ty_script_layer(void *call, Tensor x, Tensor *out);
char *ty_script_settle(void *script);
// Hands the archive to `write` as it is made, which takes it whatever becomes of it.
char *ty_script_save(void *script, const TyExtra *extra, size_t count, TyWrite write, void *context);

// Operators are found by `ty_operator_find`, which gives null for one that libtorch does not have, and released with
// `ty_operator_free`; calls likewise. `later`: of each argument whether it is given with each run; the others have
// their values here.
char *ty_operator_find(void **out, const char *name, const char *overload);
void ty_operator_free(void *op);
char *ty_operator_describe(void *op, bool *random, TyParameters take, void *context);
char *ty_operator_fill(void **call, void *op, const TyValue *values, const bool *later, size_t count);
void ty_call_free(void *call);
char *ty_call_run(void *call, const size_t *places, const TyValue *values, size_t count, TyResults take,
                  void *context);
}
