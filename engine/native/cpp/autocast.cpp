#include "guard.h"
#include <ATen/autocast_mode.h>

using namespace trainyard;

// The cache goes by the tensor alone: inside another kind's scope its casts would be taken for ours.
static void separate(bool outer, at::ScalarType outer_kind, at::ScalarType kind) {
  if (outer && outer_kind != kind)
    at::autocast::clear_cache();
}

static at::DeviceType standing(int cuda, TyAutocast *before) {
  auto device = cuda ? at::kCUDA : at::kCPU;
  before->cuda = cuda;
  before->kind = static_cast<int>(at::autocast::get_autocast_dtype(device));
  before->enabled = at::autocast::is_autocast_enabled(device);
  before->cache = at::autocast::is_autocast_cache_enabled();
  return device;
}

char *ty_autocast_pause(int cuda, TyAutocast *before) {
  return guard([&] {
    at::autocast::set_autocast_enabled(standing(cuda, before), false);
    at::autocast::increment_nesting();
  });
}

char *ty_autocast_enter(int cuda, int half, TyAutocast *before) {
  return guard([&] {
    auto device = standing(cuda, before);
    auto kind = half ? at::kHalf : at::kBFloat16;
    separate(before->enabled, static_cast<at::ScalarType>(before->kind), kind);
    at::autocast::set_autocast_dtype(device, kind);
    at::autocast::set_autocast_enabled(device, true);
    at::autocast::set_autocast_cache_enabled(true);
    at::autocast::increment_nesting();
  });
}

char *ty_autocast_leave(const TyAutocast *before) {
  return guard([&] {
    auto device = before->cuda ? at::kCUDA : at::kCPU;
    auto kind = static_cast<at::ScalarType>(before->kind);
    separate(before->enabled, kind, at::autocast::get_autocast_dtype(device));
    at::autocast::decrement_nesting();
    at::autocast::set_autocast_cache_enabled(before->cache != 0);
    at::autocast::set_autocast_enabled(device, before->enabled != 0);
    at::autocast::set_autocast_dtype(device, kind);
  });
}

char *ty_clear_autocast_cache() {
  return guard([] { at::autocast::clear_cache(); });
}
