// Loading, describing and saving TorchScript modules.
#include "script.h"
#include <ATen/MemoryOverlap.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unordered_set>

using namespace trainyard;

namespace {

// Names of modules that a file may have: shared modules can give it exponentially many.
constexpr size_t MOST_NAMES = 100000;

void visit_modules(const std::string &path, const jit::Module &module, size_t &left,
                   const std::function<void(const std::string &, const jit::Module &)> &visit) {
  TORCH_CHECK(left-- > 0, "the script has more than ", MOST_NAMES, " names for its modules");
  visit(path, module);
  const auto type = module.type();
  for (size_t i = 0; i < type->numAttributes(); ++i) {
    const auto &value = module._ivalue()->getSlot(i);
    if (type->getAttribute(i)->is_module() && value.isObject())
      visit_modules(joined(path, type->getAttributeName(i)), jit::Module(value.toObject()), left,
                    visit);
  }
}

// Makes one tensor of those that are the same part of the same memory.
void tie(const jit::Module &root) {
  std::unordered_map<const void *, std::vector<at::Tensor>> known;
  each_module(root, [&](const std::string &, const jit::Module &module) {
    for (size_t i = 0; i < module.type()->numAttributes(); ++i) {
      const auto value = module._ivalue()->getSlot(i);
      if (!value.isTensor() || !value.toTensor().defined() || value.toTensor().numel() == 0)
        continue;
      const auto tensor = value.toTensor();
      auto &same = known[tensor.data_ptr()];
      auto found = std::find_if(same.begin(), same.end(), [&](const at::Tensor &other) {
        return other.sizes() == tensor.sizes() && other.strides() == tensor.strides() &&
               other.dtype() == tensor.dtype() && other.requires_grad() == tensor.requires_grad();
      });
      if (found == same.end())
        same.push_back(tensor);
      else if (!found->is_same(tensor))
        module._ivalue()->setSlot(i, *found);
    }
  });
}

} // namespace

void trainyard::each_module(
    const jit::Module &root,
    const std::function<void(const std::string &, const jit::Module &)> &visit) {
  size_t left = MOST_NAMES;
  visit_modules("", root, left, visit);
}

void trainyard::each_node(jit::Block *block, const std::function<void(jit::Node *)> &visit) {
  for (jit::Node *node : block->nodes()) {
    visit(node);
    for (jit::Block *inner : node->blocks())
      each_node(inner, visit);
    if (node->hasAttribute(jit::attr::Subgraph))
      each_node(node->g(jit::attr::Subgraph)->block(), visit);
  }
}

void trainyard::each_method(
    const jit::Module &root,
    const std::function<void(const c10::ClassTypePtr &, jit::GraphFunction &)> &visit) {
  std::unordered_set<const void *> seen;
  std::vector<std::pair<c10::ClassTypePtr, jit::Function *>> open;
  const auto add = [&](const c10::ClassTypePtr &type, jit::Function *function) {
    if (seen.insert(function).second)
      open.emplace_back(type, function);
  };
  each_module(root, [&](const std::string &, const jit::Module &module) {
    const auto type = module.type();
    if (seen.insert(type.get()).second)
      for (auto *method : type->methods())
        add(type, method);
  });
  while (!open.empty()) {
    const auto [type, function] = open.back();
    open.pop_back();
    auto *graph = jit::tryToGraphFunction(*function);
    if (graph == nullptr)
      continue;
    graph->ensure_defined();
    each_node(graph->graph()->block(), [&](jit::Node *node) {
      if (node->kind() == jit::prim::CallFunction)
        add(nullptr, node->input(0)->type()->expectRef<c10::FunctionType>().function());
      if (node->kind() != jit::prim::CallMethod)
        return;
      const auto of = node->input(0)->type()->cast<c10::ClassType>();
      if (auto *callee = of && !of->is_module() ? of->findMethod(node->s(jit::attr::name)) : nullptr)
        add(nullptr, callee);
    });
    visit(type, *graph);
  }
}

void trainyard::settle(Script &s) {
  at::NoGradGuard plain;
  for (const auto &[object, slot, tensor] : s.tensors) {
    const auto &value = object->getSlot(slot);
    if (!value.isTensor() || tensor.is_same(value.toTensor()))
      continue;
    const auto now = value.toTensor();
    TORCH_CHECK(now.defined() && now.sizes() == tensor.sizes(), "`", object->type()->getAttributeName(slot), "` of ",
                object->type()->repr_str(), " was ", tensor.sizes(),
                " when the script was loaded, and a forward gave it another shape");
    TORCH_CHECK(at::has_internal_overlap(tensor) != at::MemOverlap::Yes, "`", object->type()->getAttributeName(slot),
                "` of ", object->type()->repr_str(), " has several elements at one place of memory, as `expand` makes "
                "them, and a forward assigns it: make it with `.clone()`");
    tensor.copy_(now);
    object->setSlot(slot, tensor);
  }
}

char *ty_script_load(void **out, const char *path, int device, int index) {
  return guard([&] {
    const auto target = device < 0 ? at::Device(at::kCPU)
                                   : at::Device(static_cast<at::DeviceType>(device),
                                                static_cast<c10::DeviceIndex>(index));
    auto made = std::make_unique<Script>();
    made->running = jit::load(path, target);
    check_fits(made->running);
    each_module(made->running, [](const std::string &, const jit::Module &) {});
    tie(made->running);
    made->freed = free_modes(made->running);
    made->kept = made->running.clone(/*inplace=*/true);
    place_constants(*made, target);
    each_module(made->running, [&](const std::string &, const jit::Module &module) {
      auto slot = module.type()->findAttributeSlot("training");
      if (slot && module._ivalue()->getSlot(*slot).isBool())
        made->modes.emplace_back(module._ivalue(), *slot);
      for (size_t i = 0; i < module.type()->numAttributes(); ++i) {
        const auto &value = module._ivalue()->getSlot(i);
        if (value.isTensor() && value.toTensor().defined())
          made->tensors.push_back({module._ivalue(), i, value.toTensor()});
      }
    });
    *out = made.release();
  });
}

void ty_script_free(void *s) { delete &script(s); }

char *ty_script_places(void *s, TyPlaces take, void *context) {
  return guard([&] {
    each_module(script(s).running, [&](const std::string &path, const jit::Module &module) {
      const auto type = module.type();
      const auto type_name = type->name() ? type->name()->qualifiedName() : std::string();
      TyPlace place{path.c_str(), type_name.c_str(), module._ivalue().get(), nullptr, false,
                    type->findMethod("forward") != nullptr};
      take(context, &place);
      for (size_t i = 0; i < type->numAttributes(); ++i) {
        const auto &value = module._ivalue()->getSlot(i);
        if (!value.isTensor() || !value.toTensor().defined())
          continue;
        const auto name = joined(path, type->getAttributeName(i));
        auto tensor = value.toTensor();
        const void *identity = tensor.unsafeGetTensorImpl();
        TyPlace inner{name.c_str(), "", identity, give(std::move(tensor)), type->is_parameter(i),
                      false};
        take(context, &inner);
      }
    });
  });
}

char *ty_script_arguments(void *s, TyArguments take, void *context) {
  return guard([&] {
    const auto forward = script(s).running.find_method("forward");
    TORCH_CHECK(forward.has_value(), "it has no `forward`, which is what is trained: export a module that has one, whatever "
                "else it has");
    const auto schema = forward->function().getSchema();
    const auto &arguments = schema.arguments();
    for (size_t i = 1; i < arguments.size(); ++i) {
      auto type = arguments[i].type();
      const auto text = type->str();
      bool none = type->kind() == c10::TypeKind::OptionalType;
      if (none)
        type = type->expectRef<c10::OptionalType>().getElementType();
      TyArgument argument{arguments[i].name().c_str(), text.c_str(), is_tensor(type),
                          none || arguments[i].default_value().has_value()};
      take(context, &argument);
    }
  });
}

char *ty_script_settle(void *s) {
  return guard([&] { settle(script(s)); });
}

char *ty_script_save(void *s, const TyExtra *extra, size_t count, TyWrite write, void *context) {
  return guard([&] {
    auto &saved = script(s);
    settle(saved);
    std::unordered_map<std::string, jit::ObjectPtr> kept;
    each_module(saved.kept, [&](const std::string &name, const jit::Module &module) {
      kept.emplace(name, module._ivalue());
    });
    const auto put = [&](const std::function<c10::IValue(const c10::IValue &)> &of) {
      each_module(saved.running, [&](const std::string &name, const jit::Module &module) {
        const auto type = module.type();
        const auto &target = kept.at(name);
        for (size_t i = 0; i < type->numAttributes(); ++i) {
          const auto &value = module._ivalue()->getSlot(i);
          const auto &attribute = type->getAttributeName(i);
          // What is this machine's own stays as the file had it.
          if (type->getAttribute(i)->is_module() || attribute == "training" || value.isDevice())
            continue;
          target->setAttr(attribute, of(value));
        }
      });
    };
    // A file opens on machines without this one's devices. What the clone holds between saves takes no memory.
    OnCpu on_cpu;
    const auto put_back = [&] {
      set_common(saved, false);
      put([](const c10::IValue &value) { return value; });
    };
    jit::ExtraFilesMap extra_files;
    for (size_t i = 0; i < count; ++i)
      extra_files[extra[i].name] = std::string(extra[i].content, extra[i].size);
    // It never fails here, for libtorch's writer ends its archive as it is destroyed, and ends the process where that
    // fails.
    const auto writer = [&](const void *bytes, size_t size) {
      write(context, bytes, size);
      return size;
    };
    try {
      set_common(saved, true);
      put([&](const c10::IValue &value) { return on_cpu.of(value); });
      jit::ExportModule(saved.kept, writer, extra_files);
    } catch (...) {
      put_back();
      throw;
    }
    put_back();
  });
}
