// The calls of given modules in a script, and what they are called with.
#include "script_stream.h"
#include <limits>
#include <sstream>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <unordered_set>

using namespace trainyard;

namespace {

// Calls that a script may make of its modules, each counted each time.
constexpr size_t MOST_CALLS = 1000000;
// Calls that may be under way at one time.
constexpr size_t DEEPEST = 500;

using Objects = std::vector<jit::ObjectPtr>;

struct Found {
  size_t module, visit;
  jit::Node *node;
  jit::ObjectPtr object;
  std::string caller;
  bool looped, conditional, forked;
};

// Code outside of all the given modules.
constexpr size_t NOWHERE = std::numeric_limits<size_t>::max();

// An attribute that some code reads, and in the call of which of the given modules. No object where that cannot be
// told.
struct Read {
  const c10::ivalue::Object *object;
  const c10::ClassType *of;
  std::string attribute;
  size_t within;
  bool operator<(const Read &other) const {
    return std::tie(object, of, attribute, within) <
           std::tie(other.object, other.of, other.attribute, other.within);
  }
};

// Where the walk stands: a method of a module whose call is under way.
struct Frame {
  jit::ObjectPtr self;
  std::string path;
  // Modules by the values that are handed to a fork.
  std::unordered_map<const jit::Value *, Objects> handed;
  jit::Value *self_value;
  size_t visit, depth;
  bool looped, conditional, forked;
  // Which of the given modules is under way.
  size_t within;
};

class Walk {
public:
  Walk(const jit::Module &root, const void *const *modules, size_t count) {
    for (size_t i = 0; i < count; ++i)
      wanted.emplace(modules[i], i);
    method(root._ivalue(), "", root.get_method("forward").function(), 0, false, false, false, NOWHERE);
  }

  std::vector<Found> found;
  std::set<Read> reads;
  // Something outside of the given modules runs on a thread of its own, or waits for it.
  bool threads = false;

private:
  void method(const jit::ObjectPtr &self, const std::string &path, jit::Function &function, size_t depth,
              bool looped, bool conditional, bool forked, size_t within) {
    auto *graph = jit::tryToGraphFunction(function);
    if (graph == nullptr)
      return;
    TORCH_CHECK(++visits < MOST_CALLS, "the script calls modules more than ", MOST_CALLS, " times");
    TORCH_CHECK(depth < DEEPEST, "the script's calls are more than ", DEEPEST, " deep");
    graph->ensure_defined();
    Frame frame{self, path, {}, graph->graph()->inputs().at(0), visits, depth, looped,
                conditional, forked, within};
    block(graph->graph()->block(), frame);
  }

  void block(jit::Block *block, Frame &frame) {
    for (jit::Node *node : block->nodes()) {
      threads = threads || (frame.within == NOWHERE && waits(node));
      if (node->kind() == jit::prim::GetAttr)
        note(node, frame);
      if (node->kind() == jit::prim::CallMethod) {
        call(node, frame);
      } else if (node->hasAttribute(jit::attr::Subgraph)) {
        auto graph = node->g(jit::attr::Subgraph);
        for (size_t i = 0; i < graph->inputs().size() && i < node->inputs().size(); ++i)
          frame.handed.emplace(graph->inputs()[i], resolve(node->input(i), frame));
        const bool before = std::exchange(frame.forked, true);
        this->block(graph->block(), frame);
        frame.forked = before;
      } else {
        const bool loop = node->kind() == jit::prim::Loop;
        const bool looped = std::exchange(frame.looped, frame.looped || loop);
        const bool choice = node->kind() == jit::prim::If;
        const bool conditional = std::exchange(frame.conditional, frame.conditional || choice);
        for (jit::Block *inner : node->blocks())
          this->block(inner, frame);
        frame.looped = looped;
        frame.conditional = conditional;
      }
    }
  }

  void call(jit::Node *node, Frame &frame) {
    const auto objects = resolve(node->input(0), frame);
    // A loop over a container calls each of its modules once.
    const bool looped = frame.looped && objects.size() < 2;
    for (const auto &object : objects) {
      auto *callee = object->type()->findMethod(node->s(jit::attr::name));
      if (callee == nullptr)
        continue;
      auto place = wanted.find(object.get());
      if (place != wanted.end())
        found.push_back({place->second, frame.visit, node, object, frame.path, looped,
                         frame.conditional, frame.forked});
      const size_t within = place == wanted.end() ? frame.within : place->second;
      method(object, joined(frame.path, path_of(node->input(0))), *callee, frame.depth + 1, looped,
             frame.conditional, frame.forked, within);
    }
  }

  void note(jit::Node *node, Frame &frame) {
    const auto *of = node->input(0)->type()->castRaw<c10::ClassType>();
    if (of == nullptr || node->output()->type()->kind() == c10::TypeKind::ClassType)
      return;
    const auto objects = resolve(node->input(0), frame);
    for (const auto &object : objects)
      reads.insert({object.get(), of, node->s(jit::attr::name), frame.within});
    if (objects.empty())
      reads.insert({nullptr, of, node->s(jit::attr::name), frame.within});
  }

  // The modules that a value may be; none where that cannot be told.
  Objects resolve(jit::Value *value, Frame &frame) {
    if (value == frame.self_value)
      return {frame.self};
    auto handed = frame.handed.find(value);
    if (handed != frame.handed.end())
      return handed->second;
    const auto kind = value->type()->kind();
    if (kind != c10::TypeKind::ClassType && kind != c10::TypeKind::InterfaceType)
      return {};
    auto *node = value->node();
    Objects out;
    if (node->kind() == jit::prim::GetAttr) {
      for (const auto &object : resolve(node->input(0), frame)) {
        const auto slot = object->type()->findAttributeSlot(node->s(jit::attr::name));
        if (slot && object->getSlot(*slot).isObject())
          out.push_back(object->getSlot(*slot).toObject());
      }
    } else if (node->kind() == jit::prim::ModuleContainerIndex) {
      for (const auto &object : resolve(node->input(0), frame))
        for (const auto &child : jit::Module(object).children())
          out.push_back(child._ivalue());
    } else if (node->kind() == jit::prim::If || node->kind() == jit::prim::unchecked_cast) {
      for (auto *other : aliases(value))
        for (const auto &object : resolve(other, frame))
          out.push_back(object);
    }
    return out;
  }

  // Whether a node begins or awaits something on another thread, functions that it calls included.
  bool waits(jit::Node *node) {
    if (node->hasAttribute(jit::attr::Subgraph) || node->kind() == jit::aten::wait)
      return true;
    if (node->kind() != jit::prim::CallFunction)
      return false;
    auto *function = jit::tryToGraphFunction(*node->input(0)->type()->expectRef<c10::FunctionType>().function());
    if (function == nullptr)
      return false;
    const auto [entry, fresh] = functions.emplace(function, false);
    if (fresh) {
      function->ensure_defined();
      bool found = false;
      each_node(function->graph()->block(), [&](jit::Node *inner) { found = found || waits(inner); });
      functions[function] = found;
      return found;
    }
    return entry->second;
  }

  static std::string path_of(jit::Value *value) {
    auto *node = value->node();
    if (node->kind() == jit::prim::GetAttr)
      return joined(path_of(node->input(0)), node->s(jit::attr::name));
    return node->kind() == jit::prim::ModuleContainerIndex ? joined(path_of(node->input(0)), "*") : "";
  }

  std::unordered_map<const void *, size_t> wanted;
  // Functions that were met, with whether they wait.
  std::unordered_map<jit::Function *, bool> functions;
  size_t visits = 0;
};

// The object and all that its attributes hold.
void add_objects(const jit::ObjectPtr &object, std::unordered_set<const c10::ivalue::Object *> &found) {
  if (!found.insert(object.get()).second)
    return;
  for (size_t i = 0; i < object->type()->numAttributes(); ++i)
    if (const auto &value = object->getSlot(i); value.isObject())
      add_objects(value.toObject(), found);
}

// An attribute in `changed`, which a call of the module leaves changed, that code outside of it reads; empty if there
// is none.
std::string read_outside(const Found &call, const Attributes &changed, const std::set<Read> &reads) {
  if (changed.empty())
    return "";
  std::unordered_set<const c10::ivalue::Object *> inside;
  add_objects(call.object, inside);
  for (const auto &read : reads)
    if (read.within != call.module && changed.count({read.of, read.attribute}) != 0 &&
        (read.object == nullptr || inside.count(read.object) != 0))
      return read.attribute;
  return "";
}

// How a call's output is used behind its first item.
struct Rest {
  bool streams, used, optional;
};

Rest rest_of(jit::Value *output) {
  if (is_tensor(output->type()))
    return {true, false, true};
  const auto type = output->type()->cast<c10::TupleType>();
  if (!type || type->elements().empty() || !is_tensor(type->elements()[0]))
    return {false, false, false};
  Rest rest{true, false, true};
  for (size_t i = 1; i < type->elements().size(); ++i)
    rest.optional = rest.optional && type->elements()[i]->kind() == c10::TypeKind::OptionalType;
  for (const auto &use : output->uses()) {
    auto *node = use.user;
    if (node->kind() == jit::prim::TupleIndex) {
      rest.used = rest.used || jit::constant_as<int64_t>(node->input(1)) != 0;
    } else if (node->kind() == jit::prim::TupleUnpack) {
      for (auto *item : node->outputs().slice(1))
        rest.used = rest.used || item->hasUses();
    } else {
      rest.used = rest.used || type->elements().size() > 1;
    }
  }
  return rest;
}

std::string place_of(const jit::Node *node) {
  const auto place = node->sourceRange().file_line_col();
  if (!place)
    return "";
  std::ostringstream text;
  text << std::get<0>(*place) << ":" << std::get<1>(*place);
  return text.str();
}

// The flags of tensors as C has them.
struct Flags {
  std::unique_ptr<bool[]> data;
  explicit Flags(const std::vector<bool> &from) : data(new bool[from.size() + 1]) {
    std::copy(from.begin(), from.end(), data.get());
  }
};

} // namespace

char *ty_script_calls(void *s, const void *const *modules, size_t count, TyCalls take,
                      void *context) {
  return guard([&] {
    Walk walk(script(s).running, modules, count);
    const auto assigned = assigned_attributes(script(s).running);
    // A class's method with all it calls, and what it leaves changed.
    struct Inside {
      std::shared_ptr<jit::Graph> graph;
      Effects effects;
    };
    std::unordered_map<jit::Function *, Inside> known;
    // Only calls of one visit of a method meet as values.
    std::unordered_map<size_t, std::unordered_map<const jit::Node *, size_t>> by_visit;
    for (size_t i = 0; i < walk.found.size(); ++i) {
      const auto &call = walk.found[i];
      auto &before = by_visit[call.visit];
      auto &method = jit::toGraphFunction(call.object->type()->getMethod(call.node->s(jit::attr::name)));
      auto inside = known.find(&method);
      if (inside == known.end()) {
        auto graph = inlined(method);
        auto effects = effects_of(*graph);
        inside = known.emplace(&method, Inside{std::move(graph), std::move(effects)}).first;
      }
      auto &graph = *inside->second.graph;
      std::vector<bool> tensors;
      std::vector<int64_t> from;
      for (auto *input : call.node->inputs().slice(1)) {
        tensors.push_back(is_tensor(input->type()));
        const auto sources = streams_behind(input, before);
        from.push_back(sources.empty() ? -1 : static_cast<int64_t>(*sources.rbegin()));
      }
      before[call.node] = i;
      const auto &effects = inside->second.effects;
      const Flags tensor(tensors), residual(residual_inputs(graph, call.object, assigned)), written(effects.inputs);
      const auto assigns = read_outside(call, effects.attributes, walk.reads);
      const auto rest = rest_of(call.node->output());
      const auto place = place_of(call.node), output = call.node->output()->type()->str();
      TyCall out{call.module,
                 call.visit,
                 tensors.size(),
                 call.caller.c_str(),
                 call.node->s(jit::attr::name).c_str(),
                 place.c_str(),
                 output.c_str(),
                 assigns.c_str(),
                 call.looped,
                 call.conditional,
                 call.forked,
                 walk.threads,
                 rest.streams,
                 rest.used,
                 rest.optional,
                 tensor.data.get(),
                 residual.data.get(),
                 written.data.get(),
                 from.data()};
      take(context, &out);
    }
    each_method(script(s).running, [](const c10::ClassTypePtr &, jit::GraphFunction &method) {
      method.clear_optimized_graphs();
    });
  });
}
