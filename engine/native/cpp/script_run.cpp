// Gated calls of a TorchScript module: an operator of ours in place of the call, which asks the layer callback.
#include "script_stream.h"
#include <ATen/autocast_mode.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/operator.h>
#include <unordered_set>

using namespace trainyard;

namespace {

// The forward that runs on this thread.
struct Forward {
  Script *script;
  TyLayer layer;
  void *context;
};
thread_local Forward *current = nullptr;

// One call of a gated module.
struct Call {
  jit::Function &method;
  const jit::Stack &inputs;
  size_t stream;
  // What the module returned behind the stream; none before it ran.
  std::vector<c10::IValue> rest;
};

// What stops the interpreter; the layer callback knows why.
struct Stopped : std::exception {
  const char *what() const noexcept override { return "the layer callback stopped the forward"; }
};

jit::Symbol layer_symbol() { return jit::Symbol::fromQualString("trainyard::layer"); }

// A trace has a method of its own for each further call of a module: `forward1`.
bool is_forward(const std::string &method) {
  return method.rfind("forward", 0) == 0 && method.find_first_not_of("0123456789", 7) == std::string::npos;
}

// Runs a method of the module that comes first in `inputs`.
c10::IValue run(jit::Function &method, jit::Stack inputs) {
  method.run(inputs);
  return jit::pop(inputs);
}

c10::IValue layer(const std::string &name, jit::Stack inputs) {
  const auto object = inputs.at(0).toObject();
  auto &method = object->type()->getMethod(name);
  const auto *gated = [&]() -> const Gated * {
    if (current == nullptr)
      return nullptr;
    auto found = current->script->gated.find(object.get());
    return found == current->script->gated.end() ? nullptr : &found->second;
  }();
  if (gated == nullptr)
    return run(method, std::move(inputs));
  auto x = inputs.at(gated->stream + 1).toTensor();
  Call call{method, inputs, gated->stream, {}};
  Tensor out = nullptr;
  if (!current->layer(current->context, gated->site, &x, &call, &out))
    throw Stopped();
  at::Tensor stream = std::move(tensor(out));
  delete static_cast<at::Tensor *>(out);
  // A layer that was skipped gives back what it was given, and not a copy as every layer does.
  if (current->script->writes && stream.is_same(x))
    stream = x.clone();
  const auto &type = method.getSchema().returns().at(0).type();
  if (is_tensor(type))
    return stream;
  auto items = std::move(call.rest);
  items.resize(type->expectRef<c10::TupleType>().elements().size() - 1);
  items.insert(items.begin(), stream);
  return c10::ivalue::Tuple::create(std::move(items));
}

// A skipped layer would hand on another kind than one that ran. Under autocast operations take either.
void check_kind(const at::Tensor &x, const at::Tensor &output) {
  TORCH_CHECK(x.scalar_type() == output.scalar_type() || at::autocast::is_autocast_enabled(x.device().type()),
              "a layer returns what has the type of its input: ", x.scalar_type(), " went in and ",
              output.scalar_type(), " came out");
}

void register_operator() {
  static const bool done = [] {
    jit::registerOperator(jit::Operator(
        layer_symbol(),
        [](const jit::Node *node) -> jit::Operation {
          return [count = node->inputs().size(), name = node->s(jit::attr::name)](jit::Stack &stack) {
            jit::Stack inputs(std::make_move_iterator(stack.end() - count),
                              std::make_move_iterator(stack.end()));
            jit::drop(stack, count);
            stack.push_back(layer(name, std::move(inputs)));
          };
        },
        c10::AliasAnalysisKind::CONSERVATIVE));
    return true;
  }();
  (void)done;
}

void switch_modes(Script &s, bool train) {
  if (s.train == train)
    return;
  for (const auto &[object, slot] : s.modes)
    object->setSlot(slot, train);
  s.train = train;
}

// Hands out the tensors in `value`, in order, with the names that dictionaries and named tuples give them.
void outputs(const std::string &name, const c10::IValue &value, TyOutputs take, void *context) {
  if (value.isTensor()) {
    take(context, name.c_str(), give(value.toTensor()));
  } else if (value.isTuple()) {
    const auto tuple = value.toTuple();
    const auto schema = tuple->type()->expectRef<c10::TupleType>().schema();
    for (size_t i = 0; i < tuple->elements().size(); ++i)
      outputs(schema ? joined(name, schema->arguments()[i].name()) : name, tuple->elements()[i], take,
              context);
  } else if (value.isTensorList()) {
    for (const at::Tensor &item : value.toTensorVector())
      outputs(name, item, take, context);
  } else if (value.isList()) {
    for (const auto &item : value.toListRef())
      outputs(name, item, take, context);
  } else if (value.isGenericDict()) {
    for (const auto &item : value.toGenericDict())
      outputs(item.key().isString() ? joined(name, item.key().toStringRef()) : name, item.value(),
              take, context);
  }
}

} // namespace

char *ty_script_gate(void *s, const void *const *modules, const size_t *streams, size_t count) {
  return guard([&] {
    register_operator();
    auto &gated = script(s);
    for (size_t i = 0; i < count; ++i)
      gated.gated.emplace(static_cast<const c10::ivalue::Object *>(modules[i]),
                          Gated{i, streams[i]});
    std::unordered_set<const c10::Type *> classes;
    each_module(gated.running, [&](const std::string &, const jit::Module &module) {
      if (gated.gated.count(module._ivalue().get()) != 0)
        classes.insert(module.type().get());
    });
    each_method(gated.running, [&](const c10::ClassTypePtr &, jit::GraphFunction &method) {
      each_node(method.graph()->block(), [&](jit::Node *node) {
        for (const auto *value : written_by(node))
          gated.writes = gated.writes ||
                         (is_tensor(value->type()) && value->node()->kind() != jit::prim::GetAttr);
      });
    });
    // A class's graph serves all its modules, so a call may meet modules that are not gated: they just run.
    each_method(gated.running, [&](const c10::ClassTypePtr &, jit::GraphFunction &method) {
      const auto graph = method.graph();
      std::vector<jit::Node *> calls;
      each_node(graph->block(), [&](jit::Node *node) {
        if (node->kind() != jit::prim::CallMethod || !is_forward(node->s(jit::attr::name)))
          return;
        const auto &type = node->input(0)->type();
        if (type->kind() == c10::TypeKind::InterfaceType || classes.count(type.get()) != 0)
          calls.push_back(node);
      });
      for (jit::Node *call : calls) {
        auto *ours = call->owningGraph()->create(layer_symbol(), call->inputs(), 1);
        ours->s_(jit::attr::name, call->s(jit::attr::name));
        ours->setSourceRange(call->sourceRange());
        ours->output()->copyMetadata(call->output());
        ours->insertBefore(call);
        call->output()->replaceAllUsesWith(ours->output());
        call->destroy();
      }
      method.clear_optimized_graphs();
    });
  });
}

char *ty_script_forward(void *s, const Tensor *inputs, size_t count, bool train, TyLayer layer,
                        TyOutputs take, void *context) {
  return guard([&] {
    auto &running = script(s);
    settle(running);
    switch_modes(running, train);
    auto &method = running.running.get_method("forward").function();
    const auto &arguments = method.getSchema().arguments();
    TORCH_CHECK(count + 1 == arguments.size(), "forward takes ", arguments.size() - 1, " inputs, not ",
                count);
    jit::Stack stack{running.running._ivalue()};
    for (size_t i = 0; i < count; ++i)
      if (inputs[i] != nullptr)
        stack.emplace_back(tensor(inputs[i]));
      else
        stack.push_back(arguments[i + 1].default_value().value_or(c10::IValue()));
    Forward forward{&running, layer, context};
    struct Current {
      Forward *before;
      ~Current() { current = before; }
    } restore{std::exchange(current, &forward)};
    // Without it the interpreter runs libtorch's operations one by one, as a program would, and never recompiles.
    jit::GraphOptimizerEnabledGuard plain(false);
    outputs("", run(method, std::move(stack)), take, context);
  });
}

char *ty_script_layer(void *c, Tensor x, Tensor *out) {
  return guard([&] {
    auto &call = *static_cast<Call *>(c);
    auto inputs = call.inputs;
    inputs.at(call.stream + 1) = tensor(x);
    auto value = run(call.method, std::move(inputs));
    if (value.isTensor()) {
      check_kind(tensor(x), value.toTensor());
      *out = give(value.toTensor());
      return;
    }
    const auto tuple = value.toTuple();
    const auto &items = tuple->elements();
    call.rest.clear();
    for (size_t i = 1; i < items.size(); ++i)
      call.rest.push_back(items[i]);
    check_kind(tensor(x), items.at(0).toTensor());
    *out = give(items.at(0).toTensor());
  });
}
