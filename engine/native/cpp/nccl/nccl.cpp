// A process group on NCCL. Compiled into a library of its own, which alone is linked to libtorch_cuda.
#include "../c10d.h"
#include "../switches.h"
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/debug.h>

using namespace trainyard;

char *ty_new_nccl_group(void *out, const void *store, int rank, int size, int64_t timeout_ms) {
  return guard([&] {
    // As a rule done already, as CUDA was loaded.
    switch_nccl();
    // Details switch the first one on again.
    if (c10d::debug_level() == c10d::DebugLevel::Detail)
      c10d::setDebugLevel(c10d::DebugLevel::Info);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = milliseconds(timeout_ms);
    *static_cast<GroupPtr *>(out) = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        *static_cast<const StorePtr *>(store), rank, size, options);
  });
}
