// A process group on NCCL. Compiled into a library of its own, which alone is linked to libtorch_cuda.
#include "../c10d.h"
#include <cstdlib>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

using namespace trainyard;

char *ty_new_nccl_group(void *out, const void *store, int rank, int size, int64_t timeout_ms) {
  return guard([&] {
    // c10d's own answer to a lost peer, which torchrun asks for, is to end the process from another thread. Without it
    // who waits is told, by `wait` with a timeout. It is read as the group is made.
    setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", 1);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = milliseconds(timeout_ms);
    *static_cast<GroupPtr *>(out) = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        *static_cast<const StorePtr *>(store), rank, size, options);
  });
}
