// Memory of CPU tensors that stays with the process when it is freed.
#include "guard.h"
#include <algorithm>
#include <array>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <cstdlib>
#include <mutex>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace trainyard;

namespace {

// In front of each block's data; as long as a cache line, so that the data is aligned to one.
struct alignas(64) Header {
  size_t klass;
};

constexpr size_t HUGE_PAGE = size_t(2) << 20;

// Sizes are rounded up to eighths between powers of two: at most an eighth is wasted, and blocks of
// nearly the same size replace each other.
size_t klass_of(size_t size) {
  size_t octave = 6;
  while ((size - 1) >> (octave + 4))
    ++octave;
  return (octave - 6) * 16 + ((size - 1) >> octave);
}

size_t size_of(size_t klass) { return (klass % 16 + 1) << (klass / 16 + 6); }

class Keeping final : public c10::Allocator {
public:
  c10::DataPtr allocate(size_t n) override {
    void *data = n == 0 ? nullptr : take(n);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void *to, const void *from, size_t n) const override {
    default_copy_data(to, from, n);
  }

private:
  std::mutex mutex;
  std::array<std::vector<Header *>, 16 * 40> free;
  // Bytes: in tensors, the most that ever were, and in `free`.
  size_t used = 0, peak = 0, kept = 0;

  void *take(size_t n) {
    TORCH_CHECK(n < size_t(1) << 48, "a tensor of ", n, " bytes is beyond any memory");
    size_t klass = klass_of(n + sizeof(Header)), size = size_of(klass);
    std::lock_guard<std::mutex> lock(mutex);
    Header *block;
    if (free[klass].empty()) {
      make_room(size);
      block = fresh(size);
    } else {
      block = free[klass].back();
      free[klass].pop_back();
      kept -= size;
    }
    used += size;
    peak = std::max(peak, used);
    block->klass = klass;
    return block + 1;
  }

  // Blocks of sizes that no longer come are not kept for good: all that is held is at most half as much
  // again as was ever in use at once.
  void make_room(size_t size) {
    size_t most = std::max(peak, used + size), klass = free.size();
    most += most / 2;
    while (klass > 0 && used + kept + size > most) {
      auto &blocks = free[klass - 1];
      if (blocks.empty()) {
        --klass;
        continue;
      }
      std::free(blocks.back());
      blocks.pop_back();
      kept -= size_of(klass - 1);
    }
  }

  Header *fresh(size_t size) {
    bool huge = size >= HUGE_PAGE;
    size_t alignment = huge ? HUGE_PAGE : sizeof(Header);
    void *block = nullptr;
    if (posix_memalign(&block, alignment, size) != 0) {
      drop();
      TORCH_CHECK(posix_memalign(&block, alignment, size) == 0, "out of memory: ", size,
                  " bytes more than the ", used, " in tensors");
    }
#ifdef __linux__
    if (huge)
      madvise(block, size, MADV_HUGEPAGE); // advice only: without it the memory is the same
#endif
    return static_cast<Header *>(block);
  }

  void drop() {
    for (auto &blocks : free) {
      for (Header *block : blocks)
        std::free(block);
      blocks.clear();
    }
    kept = 0;
  }

  void give_back(void *data) {
    Header *block = static_cast<Header *>(data) - 1;
    size_t size = size_of(block->klass);
    std::lock_guard<std::mutex> lock(mutex);
    used -= size;
    try {
      free[block->klass].push_back(block);
      kept += size;
    } catch (const std::bad_alloc &) {
      std::free(block);
    }
  }

  static void release(void *data);
};

// Never destroyed: tensors may outlive everything static.
Keeping &keeping() {
  static auto *allocator = new Keeping;
  return *allocator;
}

void Keeping::release(void *data) {
  if (data)
    keeping().give_back(data);
}

} // namespace

char *ty_keep_freed_memory() {
  return guard([] {
    static std::once_flag once;
    std::call_once(once, [] {
      c10::SetCPUAllocator(&keeping());
#ifdef __GLIBC__
      // Work areas of oneDNN and MKL come from malloc: no mapping for each, and no giving back.
      mallopt(M_MMAP_MAX, 0);
      mallopt(M_TRIM_THRESHOLD, -1);
      mallopt(M_TOP_PAD, 64 << 20);
#endif
    });
  });
}
