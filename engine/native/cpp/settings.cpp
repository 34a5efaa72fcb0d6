#include "guard.h"
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Logging.h>

using namespace trainyard;

char *ty_set_deterministic(int on) {
  return guard([&] {
    // Deterministic mode would also fill every new tensor, which only guards against reading
    // memory that nothing wrote.
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    at::globalContext().setDeterministicAlgorithms(on != 0, false);
  });
}

char *ty_set_log_level(int level) {
  return guard([&] { FLAGS_caffe2_log_level = level; });
}

char *ty_set_flush_denormal(int on) {
  return guard([&] {
    TORCH_CHECK(at::globalContext().setFlushDenormal(on != 0),
                "this processor cannot flush denormal numbers to zero");
    // The setting is a thread's own; the workers that are there already need it too.
    at::parallel_for(0, at::get_num_threads(), 1, [on](int64_t, int64_t) {
      at::globalContext().setFlushDenormal(on != 0);
    });
  });
}
