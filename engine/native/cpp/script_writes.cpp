// What operations in place write to.
#include "script_stream.h"
#include <unordered_set>

using namespace trainyard;

namespace {

// May give their first input back, though their schemas do not say so.
const std::unordered_set<std::string> MAY_RETURN_INPUT{"dropout", "feature_dropout", "alpha_dropout", "type_as",
                                                       "flatten", "reshape",         "contiguous",    "to"};

// The inputs that an output of `value`'s node may share memory with.
std::vector<jit::Value *> sharing(const jit::Value *value) {
  std::vector<jit::Value *> found;
  auto *node = const_cast<jit::Value *>(value)->node();
  const auto *schema = node->maybeSchema();
  if (node->kind().is_aten() && MAY_RETURN_INPUT.count(node->kind().toUnqualString()) != 0 &&
      !node->inputs().empty())
    found.push_back(node->input(0));
  if (schema == nullptr || value->offset() >= schema->returns().size())
    return found;
  const auto *made = schema->returns()[value->offset()].alias_info();
  if (made == nullptr)
    return found;
  const auto &arguments = schema->arguments();
  for (size_t i = 0; i < arguments.size() && i < node->inputs().size(); ++i) {
    const auto *given = arguments[i].alias_info();
    if (given == nullptr)
      continue;
    for (const auto &set : made->beforeSets())
      if (given->beforeSets().count(set) != 0 || given->isWildcardBefore()) {
        found.push_back(node->input(i));
        break;
      }
  }
  return found;
}

// Whether `value` may be `input`, or lie in its memory.
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
    for (auto *other : sharing(next))
      open.push_back(other);
  }
  return false;
}

} // namespace

std::vector<jit::Value *> trainyard::written_by(const jit::Node *node) {
  std::vector<jit::Value *> found;
  const auto *schema = node->maybeSchema();
  if (schema == nullptr)
    return found;
  const auto &arguments = schema->arguments();
  for (size_t i = 0; i < arguments.size() && i < node->inputs().size(); ++i)
    if (const auto *alias = arguments[i].alias_info(); alias != nullptr && alias->isWrite())
      found.push_back(const_cast<jit::Node *>(node)->input(i));
  return found;
}

std::vector<bool> trainyard::written_inputs(jit::Graph &graph) {
  std::vector<jit::Value *> written;
  each_node(graph.block(), [&](jit::Node *node) {
    for (auto *value : written_by(node))
      written.push_back(value);
  });
  std::vector<bool> found;
  for (auto *input : graph.inputs().slice(1)) {
    const auto to_it = [&](jit::Value *value) { return shares(value, input); };
    found.push_back(std::any_of(written.begin(), written.end(), to_it));
  }
  return found;
}
