// A process group on NCCL. Compiled into a library of its own, which alone is linked to libtorch_cuda.
#include "../c10d.h"
#include <cstdlib>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/debug.h>

using namespace trainyard;

char *ty_new_nccl_group(void *out, const void *store, int rank, int size, int64_t timeout_ms) {
  return guard([&] {
    // c10d's own answers to a lost peer or an error of CUDA end the process from another thread: the first of these is
    // one that torchrun asks for, the second needs it, the third throws where nobody catches, and the last two look for
    // what an earlier run of ranks left in the launcher's store. Without them who waits is told, by `wait` with a
    // timeout. They are read as the group is made.
    for (const char *name : {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_DESYNC_DEBUG", "TORCH_NCCL_RETHROW_CUDA_ERRORS",
                             "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_ENABLE_MONITORING"})
      setenv(name, "0", 1);
    // Details switch the first one on again.
    if (c10d::debug_level() == c10d::DebugLevel::Detail)
      c10d::setDebugLevel(c10d::DebugLevel::Info);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = milliseconds(timeout_ms);
    *static_cast<GroupPtr *>(out) = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        *static_cast<const StorePtr *>(store), rank, size, options);
  });
}
