#include "script_stream.h"
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <unordered_set>

using namespace trainyard;

namespace {

// Nodes that one method may have with all it calls put in its place.
constexpr size_t MOST_NODES = 2000000;
// Calls inside of calls that are followed.
constexpr size_t DEEPEST = 500;

const std::unordered_set<std::string> SUMS{"add", "add_"};
// May give their first input back, or a part of the same memory.
const std::unordered_set<std::string> VIEWS{
    "alias",      "contiguous", "detach",  "dropout", "expand",   "expand_as",      "feature_dropout",
    "flatten",    "permute",    "reshape", "squeeze", "to",       "transpose",      "type_as",
    "unflatten",  "unsqueeze",  "view",    "view_as", "slice",    "alpha_dropout",  "narrow",
    "select",     "t",          "float",   "half",    "bfloat16",
};
// Keep what their first input stands for.
const std::unordered_set<std::string> KEEPING{
    "alpha_dropout", "batch_norm",      "bfloat16",  "celu",       "clone",     "contiguous",    "dropout",
    "dropout_",      "elu",             "elu_",      "expand",     "expand_as", "feature_dropout", "flatten",
    "float",         "gelu",            "group_norm", "half",      "hardswish", "instance_norm", "layer_norm",
    "leaky_relu",    "leaky_relu_",     "mish",      "native_layer_norm",       "permute",       "relu",
    "relu_",         "reshape",         "rms_norm",  "silu",       "silu_",     "squeeze",       "tanh",
    "to",            "transpose",       "type_as",   "unflatten",  "unsqueeze", "view",          "view_as",
    "roll",          "alias",
};
// Scale a stream, from either side.
const std::unordered_set<std::string> PRODUCTS{"mul", "mul_", "div", "div_"};

bool is(const jit::Node *node, const std::unordered_set<std::string> &names) {
  return node->kind().is_aten() && names.count(node->kind().toUnqualString()) != 0;
}

bool in_place(const jit::Node *node) {
  const std::string name = node->kind().toUnqualString();
  const auto size = name.size();
  return node->kind().is_aten() && size > 1 && name[size - 1] == '_' && name[size - 2] != '_';
}

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

// What the stream behind `output` may be: the first item where it is a tuple.
std::vector<jit::Value *> streams(jit::Value *output) {
  std::unordered_set<jit::Value *> seen;
  std::vector<jit::Value *> open{output}, found;
  while (!open.empty()) {
    auto *next = open.back();
    open.pop_back();
    if (!seen.insert(next).second)
      continue;
    auto *node = next->node();
    if (is_tensor(next->type()))
      found.push_back(next);
    else if (node->kind() == jit::prim::TupleConstruct && !node->inputs().empty())
      open.push_back(node->input(0));
    for (auto *other : aliases(next))
      open.push_back(other);
  }
  return found;
}

// Whether a sum leads from `input` to one of `outputs`.
bool leads(const std::vector<jit::Value *> &outputs, const jit::Value *input) {
  // With whether there was a sum on the way to the output.
  std::set<std::pair<jit::Value *, bool>> seen;
  std::vector<std::pair<jit::Value *, bool>> open;
  for (auto *output : outputs)
    open.emplace_back(output, false);
  while (!open.empty()) {
    const auto next = open.back();
    open.pop_back();
    auto [value, added] = next;
    if (value == input && added)
      return true;
    if (!seen.insert(next).second)
      continue;
    for (auto *other : aliases(value))
      open.emplace_back(other, added);
    auto *node = value->node();
    const bool sum = is(node, SUMS);
    const size_t operands = sum || is(node, PRODUCTS) ? 2 : is(node, KEEPING) ? 1 : 0;
    for (size_t i = 0; i < operands && i < node->inputs().size(); ++i)
      if (is_tensor(node->input(i)->type()))
        open.emplace_back(node->input(i), added || sum);
  }
  return false;
}

// Whether `value` may lie in the memory of `input`.
bool shares(jit::Value *value, const jit::Value *input) {
  std::unordered_set<jit::Value *> seen;
  std::vector<jit::Value *> open{value};
  while (!open.empty()) {
    auto *next = open.back();
    open.pop_back();
    if (next == input)
      return true;
    if (!seen.insert(next).second)
      continue;
    for (auto *other : aliases(next))
      open.push_back(other);
    auto *node = next->node();
    if ((in_place(node) || is(node, VIEWS)) && !node->inputs().empty())
      open.push_back(node->input(0));
  }
  return false;
}

bool writes(jit::Graph &graph, const jit::Value *input) {
  bool found = false;
  each_node(graph.block(), [&](jit::Node *node) {
    found = found || (in_place(node) && !node->inputs().empty() && shares(node->input(0), input));
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

Inside trainyard::look_inside(jit::GraphFunction &method) {
  method.ensure_defined();
  std::unordered_map<jit::Function *, size_t> known;
  TORCH_CHECK(size_of(method, known) < MOST_NODES, method.qualname().qualifiedName(),
              " has more than ", MOST_NODES, " operations, all calls included");
  jit::GraphOptimizerEnabledGuard plain(false);
  auto graph = method.graph()->copy();
  // Without the optimiser each pass goes one call deeper.
  for (size_t deeper = 0; calls(*graph) && deeper < DEEPEST; ++deeper)
    jit::Inline(*graph);
  const auto inputs = graph->inputs();
  const auto outputs = streams(graph->outputs().at(0));
  Inside inside;
  for (size_t i = 1; i < inputs.size(); ++i) {
    const bool flows = is_tensor(inputs[i]->type());
    inside.residual.push_back(flows && leads(outputs, inputs[i]));
    inside.written.push_back(flows && writes(*graph, inputs[i]));
  }
  return inside;
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
