// What every function of the shim shares: exceptions become messages, pointers become tensor lists.
#pragma once
#include "shim.h"
#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <cstring>
#include <exception>
#include <vector>

namespace trainyard {

template <typename F> char *guard(F &&body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

inline at::Tensor &tensor(Tensor t) { return *static_cast<at::Tensor *>(t); }

inline Tensor give(at::Tensor t) { return new at::Tensor(std::move(t)); }

inline std::vector<at::Tensor> list(const Tensor *tensors, size_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i)
    out.push_back(tensor(tensors[i]));
  return out;
}

} // namespace trainyard
