#include "guard.h"

using namespace trainyard;

char *ty_clear_gradients(const Tensor *tensors, size_t count) {
  return guard([&] {
    for (size_t i = 0; i < count; ++i)
      tensor(tensors[i]).mutable_grad().reset();
  });
}
