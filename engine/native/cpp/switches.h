// c10d's switches for NCCL, which are variables of the environment.
#pragma once
#include <cstdlib>
#include <cstring>

namespace trainyard {

// c10d's own answers to a lost peer or an error of CUDA end the process from another thread: the first of these is one
// that torchrun asks for, the second needs it, the third throws where nobody catches, and the last two look for what an
// earlier run of ranks left in the launcher's store. Without them who waits is told, by `wait` with a timeout. They are
// read as a group is made, and are best set while a program has one thread: others may read the environment.
inline void switch_nccl() {
  for (const char *name : {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_DESYNC_DEBUG", "TORCH_NCCL_RETHROW_CUDA_ERRORS",
                           "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_ENABLE_MONITORING"}) {
    const char *value = std::getenv(name);
    if (value == nullptr || std::strcmp(value, "0") != 0)
      setenv(name, "0", 1);
  }
}

} // namespace trainyard
