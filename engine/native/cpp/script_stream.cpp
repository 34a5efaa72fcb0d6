#include "script_stream.h"
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

using namespace trainyard;

namespace {

// Nodes that one method may have with all it calls put in its place.
constexpr size_t MOST_NODES = 2000000;
// Calls inside of calls that are followed.
constexpr size_t DEEPEST_FOLLOWED = 500;

// Nodes of `function` with what it calls in place.
size_t size_of(jit::Function &function, std::unordered_map<jit::Function *, size_t> &known) {
  auto *method = jit::tryToGraphFunction(function);
  if (method == nullptr)
    return 1;
  auto [entry, fresh] = known.emplace(&function, MOST_NODES);
  if (!fresh)
    return entry->second;
  method->ensure_defined();
  size_t size = 0;
  each_node(method->graph()->block(), [&](jit::Node *node) {
    size += 1;
    if (node->kind() == jit::prim::CallMethod) {
      if (auto type = node->input(0)->type()->cast<c10::ClassType>())
        if (auto *callee = type->findMethod(node->s(jit::attr::name)))
          size += size_of(*callee, known);
    } else if (node->kind() == jit::prim::CallFunction) {
      if (auto type = node->input(0)->type()->cast<c10::FunctionType>())
        size += size_of(*type->function(), known);
    }
    size = std::min(size, MOST_NODES);
  });
  return known[&function] = size;
}

// Whether `graph` still calls what could be put in its place.
bool calls(jit::Graph &graph) {
  bool found = false;
  each_node(graph.block(), [&](jit::Node *node) {
    found = found || node->kind() == jit::prim::CallMethod || node->kind() == jit::prim::CallFunction;
  });
  return found;
}

} // namespace

std::vector<jit::Value *> trainyard::aliases(jit::Value *value) {
  auto *node = value->node();
  const auto offset = value->offset();
  const auto kind = node->kind();
  if (kind == jit::prim::If)
    return {node->blocks().at(0)->outputs().at(offset), node->blocks().at(1)->outputs().at(offset)};
  if (kind == jit::prim::Loop)
    return {node->input(offset + 2), node->blocks().at(0)->outputs().at(offset + 1)};
  if (kind == jit::prim::Param) {
    auto *loop = node->owningBlock()->owningNode();
    if (loop != nullptr && loop->kind() == jit::prim::Loop && offset > 0)
      return {loop->input(offset + 1), loop->blocks().at(0)->outputs().at(offset)};
    return {};
  }
  if (kind == jit::prim::unchecked_cast || kind == jit::aten::_unwrap_optional)
    return {node->input(0)};
  if (kind == jit::prim::TupleUnpack && node->input(0)->node()->kind() == jit::prim::TupleConstruct)
    return {node->input(0)->node()->input(offset)};
  if (kind == jit::prim::TupleIndex && node->input(0)->node()->kind() == jit::prim::TupleConstruct) {
    const auto index = jit::constant_as<int64_t>(node->input(1));
    auto *tuple = node->input(0)->node();
    if (index && *index >= 0 && static_cast<size_t>(*index) < tuple->inputs().size())
      return {tuple->input(*index)};
  }
  return {};
}

std::shared_ptr<jit::Graph> trainyard::inlined(jit::GraphFunction &method) {
  method.ensure_defined();
  std::unordered_map<jit::Function *, size_t> known;
  TORCH_CHECK(size_of(method, known) < MOST_NODES, method.qualname().qualifiedName(),
              " has more than ", MOST_NODES, " operations, all calls included");
  jit::GraphOptimizerEnabledGuard plain(false);
  auto graph = method.graph()->copy();
  // Without the optimiser each pass goes one call deeper.
  for (size_t deeper = 0; calls(*graph) && deeper < DEEPEST_FOLLOWED; ++deeper)
    jit::Inline(*graph);
  return graph;
}

std::set<size_t>
trainyard::streams_behind(jit::Value *value,
                          const std::unordered_map<const jit::Node *, size_t> &calls) {
  std::set<size_t> found;
  std::set<jit::Value *> seen;
  std::vector<jit::Value *> open{value};
  while (!open.empty()) {
    auto *next = open.back();
    open.pop_back();
    if (!seen.insert(next).second)
      continue;
    for (auto *other : aliases(next))
      open.push_back(other);
    auto *node = next->node();
    auto call = calls.find(node);
    if (call != calls.end()) {
      found.insert(call->second);
    } else if ((node->kind() == jit::prim::TupleUnpack && next->offset() == 0) ||
               (node->kind() == jit::prim::TupleIndex &&
                jit::constant_as<int64_t>(node->input(1)) == 0)) {
      open.push_back(node->input(0));
    }
  }
  return found;
}
