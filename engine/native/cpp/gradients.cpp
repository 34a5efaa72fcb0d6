#include "guard.h"
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>
#include <unordered_map>
#include <unordered_set>

using namespace trainyard;
namespace autograd = torch::autograd;

namespace {

// Tells a listener the index of the parameter whose gradient is complete.
struct Told : autograd::PostAccumulateGradHook {
  TyListener listener;
  std::shared_ptr<void> context;
  size_t index;

  Told(TyListener listener, std::shared_ptr<void> context, size_t index)
      : listener(listener), context(std::move(context)), index(index) {}
  void operator()(const at::Tensor &) override { listener(context.get(), index); }
};

} // namespace

char *ty_clear_gradients(const Tensor *tensors, size_t count) {
  return guard([&] {
    for (size_t i = 0; i < count; ++i)
      tensor(tensors[i]).mutable_grad().reset();
  });
}

char *ty_set_gradient(Tensor t, Tensor gradient) {
  return guard([&] { tensor(t).mutable_grad() = tensor(gradient); });
}

char *ty_reached(bool *reached, Tensor loss, const Tensor *tensors, size_t count) {
  return guard([&] {
    std::unordered_map<const c10::TensorImpl *, size_t> index;
    for (size_t i = 0; i < count; ++i)
      index.emplace(tensor(tensors[i]).unsafeGetTensorImpl(), i);
    auto mark = [&](const at::Tensor &leaf) {
      auto found = index.find(leaf.unsafeGetTensorImpl());
      if (found != index.end())
        reached[found->second] = true;
    };
    std::unordered_set<const autograd::Node *> seen;
    std::vector<autograd::Node *> open;
    auto meet = [&](autograd::Node *node) {
      if (node != nullptr && seen.insert(node).second)
        open.push_back(node);
    };
    const auto start = autograd::impl::gradient_edge(tensor(loss));
    meet(start.function.get());
    while (!open.empty()) {
      autograd::Node *node = open.back();
      open.pop_back();
      // A leaf's gradient is gathered by a node without edges, which knows its variable.
      if (auto *leaf = dynamic_cast<autograd::AccumulateGrad *>(node))
        mark(leaf->variable);
      for (const auto &edge : node->next_edges())
        meet(edge.function.get());
    }
  });
}

char *ty_listen(const Tensor *tensors, size_t count, TyListener listener, TyRelease release,
                void *context) {
  return guard([&] {
    std::shared_ptr<void> shared(context, release);
    for (size_t i = 0; i < count; ++i)
      TORCH_CHECK(tensor(tensors[i]).is_leaf(), "tensor ", i, " is no leaf");
    for (size_t i = 0; i < count; ++i)
      autograd::impl::set_post_acc_grad_hooks(tensor(tensors[i]),
                                              std::make_unique<Told>(listener, shared, i));
  });
}

char *ty_stop_listening(const Tensor *tensors, size_t count, const void *context) {
  return guard([&] {
    for (size_t i = 0; i < count; ++i) {
      const at::Tensor &leaf = tensor(tensors[i]);
      auto *told = dynamic_cast<Told *>(autograd::impl::post_acc_grad_hooks(leaf).get());
      // A later listener may have taken the place.
      if (told != nullptr && told->context.get() == context)
        autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
    }
  });
}
