// What c10d.cpp and nccl.cpp share.
#pragma once
#include "guard.h"
#include <chrono>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace trainyard {

using StorePtr = c10::intrusive_ptr<c10d::Store>;
using GroupPtr = c10::intrusive_ptr<c10d::Backend>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;

inline std::chrono::milliseconds milliseconds(int64_t ms) { return std::chrono::milliseconds(ms); }

} // namespace trainyard

// What libtrainyard_nccl.so exports.
extern "C" char *ty_new_nccl_group(void *out, const void *store, int rank, int size,
                                   int64_t timeout_ms);
