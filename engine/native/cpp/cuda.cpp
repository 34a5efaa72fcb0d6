// CUDA, loaded when a program asks for it: nothing here links libtorch_cuda.
#include "guard.h"
#include "switches.h"
#include <ATen/Context.h>
#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <string>

using namespace trainyard;

namespace {

template <typename F> F *symbol(const char *name) {
  return reinterpret_cast<F *>(dlsym(RTLD_DEFAULT, name));
}

bool open(const std::string &library) {
  return dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr;
}

// The folder of the libtorch in use, with a slash: its CUDA part lies beside it, and may be another
// one's where the system would look first.
std::string folder() {
  Dl_info info;
  if (dladdr(dlsym(RTLD_DEFAULT, "_ZN2at13globalContextEv"), &info) == 0)
    return "";
  char *path = realpath(info.dli_fname, nullptr);
  std::string folder(path == nullptr ? "" : path);
  std::free(path);
  return folder.substr(0, folder.rfind('/') + 1);
}

// libtorch's own switch, an int: 0 where nothing is said, 1 where it warns of each wait. It is a
// variable of an inline function, by the name that all compilers for Linux give it.
std::atomic<int> *mode() {
  auto *mode = symbol<std::atomic<int>>("_ZZN3c104cuda13warning_stateEvE14warning_state_");
  TORCH_CHECK(mode != nullptr, "waits are counted on CUDA alone, which is not loaded");
  return mode;
}

// Counts libtorch's warnings of a wait in place of printing them. Those of a backward pass come to the
// thread that called it, after it.
struct Waits : c10::WarningHandler {
  uint64_t count = 0;
  c10::WarningHandler *before = nullptr;

  void process(const c10::Warning &warning) override {
    if (warning.msg().find("synchronizing CUDA operation") != std::string::npos)
      ++count;
    else
      before->process(warning);
  }
};

thread_local Waits waits;

} // namespace

char *ty_load_cuda() {
  return guard([] {
    TORCH_CHECK(open("libcuda.so.1"), "no CUDA device: the driver's libcuda.so.1 is not on this machine");
    switch_nccl();
    const char *name = "libtorch_cuda.so";
    std::string why;
    if (!open(folder() + name)) {
      why = dlerror();
      TORCH_CHECK(open(name), "libtorch's CUDA part does not load: ", why);
    }
    auto *count = symbol<int(int *)>("cudaGetDeviceCount");
    auto *text = symbol<const char *(int)>("cudaGetErrorString");
    TORCH_CHECK(count != nullptr && text != nullptr, "no CUDA device: libcudart is not loaded");
    int devices = 0;
    int error = count(&devices);
    TORCH_CHECK(error == 0 && devices > 0, "no CUDA device: ", text(error));
    TORCH_CHECK(at::hasCUDA(),
                "CUDA is loaded too late: libtorch has looked for it already, so load it first");
  });
}

char *ty_begin_counting_waits() {
  return guard([] {
    *mode() = 1;
    waits.count = 0;
    waits.before = c10::WarningUtils::get_warning_handler();
    c10::WarningUtils::set_warning_handler(&waits);
  });
}

char *ty_end_counting_waits(uint64_t *count) {
  return guard([&] {
    *mode() = 0;
    c10::WarningUtils::set_warning_handler(waits.before);
    *count = waits.count;
  });
}
