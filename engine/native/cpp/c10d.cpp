// libtorch's c10d: the store that ranks meet in, process groups, and the handles of what they do.
#include "c10d.h"
#include <cstdlib>
#include <dlfcn.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

using namespace trainyard;

namespace {

template <typename T> T &at_pointer(void *p) { return *static_cast<T *>(p); }

StorePtr &store(void *p) { return at_pointer<StorePtr>(p); }
GroupPtr &group(void *p) { return at_pointer<GroupPtr>(p); }
WorkPtr &work(void *p) { return at_pointer<WorkPtr>(p); }

// c10d's own gives up nothing: here the peers' waits for this rank end with an error at once.
struct Gloo : c10d::ProcessGroupGloo {
  using ProcessGroupGloo::ProcessGroupGloo;
  void abort() override {
    for (const auto &context : contexts_)
      context->closeConnections();
  }
};

void give(void **out, WorkPtr &&work) { *out = new WorkPtr(std::move(work)); }

std::vector<uint8_t> bytes(const uint8_t *data, size_t length) { return {data, data + length}; }

void give(uint8_t **data, size_t *length, const std::vector<uint8_t> &bytes) {
  *length = bytes.size();
  *data = static_cast<uint8_t *>(malloc(bytes.size() + 1));
  TORCH_CHECK(*data != nullptr, "no memory for ", bytes.size(), " bytes");
  std::copy(bytes.begin(), bytes.end(), *data);
}

#ifdef __linux__
// NCCL's part is a library of its own, linked to libtorch_cuda, whose image is a part of this program: so
// one program runs with CUDA and without.
auto load_nccl(const uint8_t *image, size_t length) {
  int file = memfd_create("libtrainyard_nccl.so", MFD_CLOEXEC);
  TORCH_CHECK(file >= 0 && write(file, image, length) == static_cast<ssize_t>(length),
              "the library that speaks to NCCL cannot be laid into memory: ", strerror(errno));
  std::string path = "/proc/self/fd/" + std::to_string(file);
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  close(file);
  TORCH_CHECK(library != nullptr, "NCCL does not load: ", dlerror());
  auto *make = reinterpret_cast<decltype(&ty_new_nccl_group)>(dlsym(library, "ty_new_nccl_group"));
  TORCH_CHECK(make != nullptr, "NCCL's library lacks its function: ", dlerror());
  return make;
}
#else
decltype(&ty_new_nccl_group) load_nccl(const uint8_t *, size_t) {
  TORCH_CHECK(false, "NCCL is for Linux");
}
#endif

} // namespace

char *ty_store_connect(void **out, const char *host, uint16_t port, int listener,
                       int64_t timeout_ms) {
  return guard([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = listener >= 0;
    if (options.isServer)
      options.masterListenFd = listener;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    *out = new StorePtr(c10::make_intrusive<c10d::TCPStore>(host, options));
  });
}

char *ty_store_set_timeout(void *p, int64_t timeout_ms) {
  return guard([&] { store(p)->setTimeout(milliseconds(timeout_ms)); });
}

char *ty_store_prefixed(void **out, void *inner, const char *prefix) {
  return guard([&] {
    *out = new StorePtr(c10::make_intrusive<c10d::PrefixStore>(prefix, store(inner)));
  });
}

void ty_store_free(void *p) { delete static_cast<StorePtr *>(p); }

char *ty_store_set(void *p, const char *key, const uint8_t *data, size_t length) {
  return guard([&] { store(p)->set(key, bytes(data, length)); });
}

char *ty_store_check(void *p, const char *key, bool *there) {
  return guard([&] { *there = store(p)->check({key}); });
}

char *ty_store_get(void *p, const char *key, int64_t timeout_ms, uint8_t **data, size_t *length) {
  return guard([&] {
    store(p)->wait({key}, milliseconds(timeout_ms));
    give(data, length, store(p)->get(key));
  });
}

char *ty_store_compare_set(void *p, const char *key, const uint8_t *data, size_t data_length,
                           uint8_t **found, size_t *found_length) {
  return guard([&] {
    give(found, found_length, store(p)->compareSet(key, {}, bytes(data, data_length)));
  });
}

void ty_free_bytes(uint8_t *data) { free(data); }

char *ty_group_gloo(void **out, void *at, const char *address, const char *interface, int rank,
                    int size, int64_t timeout_ms) {
  return guard([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout_ms));
    options->devices.push_back(
        interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                  : c10d::ProcessGroupGloo::createDeviceForHostname(address));
    *out = new GroupPtr(c10::make_intrusive<Gloo>(store(at), rank, size, options));
  });
}

char *ty_group_nccl(void **out, void *at, const uint8_t *image, size_t length, int rank, int size,
                    int64_t timeout_ms) {
  return guard([&] {
    static const auto make = load_nccl(image, length);
    GroupPtr made;
    std::unique_ptr<char, decltype(&free)> message(
        make(&made, &store(at), rank, size, timeout_ms), free);
    if (message)
      throw std::runtime_error(message.get());
    *out = new GroupPtr(std::move(made));
  });
}

void ty_group_free(void *p) {
  // NCCL warns of a group that ends without; what it throws is of no use any more.
  free(guard([&] { group(p)->shutdown(); }));
  delete static_cast<GroupPtr *>(p);
}

char *ty_group_abort(void *p) {
  return guard([&] { group(p)->abort(); });
}

char *ty_all_reduce(void **out, void *p, Tensor t, int op) {
  return guard([&] {
    std::vector<at::Tensor> tensors{tensor(t)};
    c10d::AllreduceOptions options;
    options.reduceOp = static_cast<c10d::ReduceOp::RedOpType>(op);
    give(out, group(p)->allreduce(tensors, options));
  });
}

char *ty_broadcast(void **out, void *p, Tensor t, int root) {
  return guard([&] {
    std::vector<at::Tensor> tensors{tensor(t)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    give(out, group(p)->broadcast(tensors, options));
  });
}

char *ty_all_gather(void **out, void *p, Tensor gathered, Tensor own) {
  return guard([&] {
    give(out, group(p)->_allgather_base(tensor(gathered), tensor(own)));
  });
}

char *ty_reduce_scatter(void **out, void *p, Tensor own, Tensor whole, int op) {
  return guard([&] {
    c10d::ReduceScatterOptions options;
    options.reduceOp = static_cast<c10d::ReduceOp::RedOpType>(op);
    give(out, group(p)->_reduce_scatter_base(tensor(own), tensor(whole), options));
  });
}

char *ty_barrier(void **out, void *p) {
  return guard([&] { give(out, group(p)->barrier()); });
}

void ty_work_free(void *p) { delete static_cast<WorkPtr *>(p); }

char *ty_work_done(void *p, bool *done) {
  return guard([&] { *done = work(p)->isCompleted(); });
}

char *ty_work_wait(void *p, int64_t timeout_ms) {
  return guard([&] {
    const auto timeout = timeout_ms < 0 ? kNoTimeout : milliseconds(timeout_ms);
    TORCH_CHECK(work(p)->wait(timeout), "the operation was aborted");
  });
}
