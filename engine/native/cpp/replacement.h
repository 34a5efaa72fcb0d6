// Functions of libtorch that ours take the place of.
#pragma once
#include <c10/util/Exception.h>
#include <torch/library.h>

namespace trainyard {

// Takes the place of libtorch's function, before there are threads that could be calling it: a static of its
// file. It is never taken back: the process ends with it.
struct Replacement {
  template <typename F> Replacement(c10::DispatchKey key, const char *name, F function) {
    Silent silent;
    // libtorch warns of every function that is replaced.
    c10::WarningUtils::WarningHandlerGuard guard(&silent);
    auto *library = new torch::Library(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
    library->impl(name, function);
  }

private:
  struct Silent : c10::WarningHandler {
    void process(const c10::Warning &) override {}
  };
};

} // namespace trainyard
