// What operations in place write to.
#include "script_stream.h"
#include <unordered_set>

using namespace trainyard;

namespace {

// May give their first input back, though their schemas do not say so.
const std::unordered_set<std::string> MAY_RETURN_INPUT{"dropout", "feature_dropout", "alpha_dropout", "type_as",
                                                       "flatten", "reshape",         "contiguous",    "to"};
// Their outputs are their inputs or lie in them, or hold them; they have no schema that says so.
const std::unordered_set<std::string> HOLDING{"ListConstruct", "DictConstruct", "TupleConstruct", "ListUnpack",
                                              "TupleUnpack",   "TupleIndex",    "TupleSlice",     "CallMethod",
                                              "CallFunction",  "fork"};

bool is_class(const jit::TypePtr &type) { return type->kind() == c10::TypeKind::ClassType; }

bool is_module_type(const jit::TypePtr &type) { return is_class(type) && type->is_module(); }

// Whether something of that type can be changed, or holds what can.
bool changes(const jit::TypePtr &type) {
  switch (type->kind()) {
  case c10::TypeKind::TensorType:
  case c10::TypeKind::ListType:
  case c10::TypeKind::DictType:
  case c10::TypeKind::ClassType:
  case c10::TypeKind::InterfaceType:
  case c10::TypeKind::AnyType:
  case c10::TypeKind::FutureType:
    return true;
  default: {
    const auto inner = type->containedTypes();
    return std::any_of(inner.begin(), inner.end(), [](const jit::TypePtr &item) { return changes(item); });
  }
  }
}

// Whether something of that type holds others that can be changed.
bool holds(const jit::TypePtr &type) { return !is_tensor(type) && changes(type); }

void add_sets(const c10::AliasInfo &info, std::unordered_set<c10::Symbol> &sets) {
  sets.insert(info.beforeSets().begin(), info.beforeSets().end());
  sets.insert(info.afterSets().begin(), info.afterSets().end());
  for (const auto &inner : info.containedTypes())
    add_sets(inner, sets);
}

std::unordered_set<c10::Symbol> sets_of(const c10::AliasInfo *info) {
  std::unordered_set<c10::Symbol> sets;
  if (info != nullptr)
    add_sets(*info, sets);
  return sets;
}

// The inputs that an output of an operation may share memory with, be taken out of, or hold.
std::vector<jit::Value *> sharing(const jit::Value *value) {
  std::vector<jit::Value *> found;
  auto *node = const_cast<jit::Value *>(value)->node();
  const auto *schema = node->maybeSchema();
  const std::string name = node->kind().toUnqualString();
  if (node->kind().is_aten() && MAY_RETURN_INPUT.count(name) != 0 && !node->inputs().empty())
    found.push_back(node->input(0));
  if (node->kind().is_prim() && HOLDING.count(name) != 0)
    for (auto *input : node->inputs())
      found.push_back(input);
  if (schema == nullptr || value->offset() >= schema->returns().size())
    return found;
  const auto made = sets_of(schema->returns()[value->offset()].alias_info());
  const bool from_any = made.count(c10::AliasInfo::wildcardSet()) != 0;
  const bool held = holds(value->type());
  const auto &arguments = schema->arguments();
  for (size_t i = 0; i < arguments.size() && i < node->inputs().size(); ++i) {
    const auto given = sets_of(arguments[i].alias_info());
    const auto meets = [&](c10::Symbol set) { return made.count(set) != 0; };
    // A list that is made of another one holds the same tensors, of which schemas say nothing.
    const bool passed_on = held && holds(arguments[i].type());
    if (from_any || passed_on || std::any_of(given.begin(), given.end(), meets))
      found.push_back(node->input(i));
  }
  return found;
}

// What a write changes: the memory of tensors, or what a list, dictionary or object holds.
struct Write {
  jit::Value *value;
  bool tensors;
};

bool writes_inside(const c10::AliasInfo &info) {
  const auto &inner = info.containedTypes();
  return std::any_of(inner.begin(), inner.end(), [](const c10::AliasInfo &item) { return item.isWrite(); });
}

std::vector<Write> writes_of(jit::Node *node) {
  std::vector<Write> found;
  if (node->kind() == jit::prim::SetAttr)
    found.push_back({node->input(0), false});
  const auto *schema = node->maybeSchema();
  if (schema == nullptr)
    return found;
  const auto &arguments = schema->arguments();
  for (size_t i = 0; i < arguments.size() && i < node->inputs().size(); ++i)
    if (const auto *alias = arguments[i].alias_info(); alias != nullptr && alias->isWrite())
      found.push_back({node->input(i), is_tensor(node->input(i)->type()) || writes_inside(*alias)});
  return found;
}

// What a method writes, and what it puts where it may be taken out again.
class Method {
public:
  explicit Method(jit::Graph &graph) {
    each_node(graph.block(), [&](jit::Node *node) {
      const auto of_it = writes_of(node);
      writes.insert(writes.end(), of_it.begin(), of_it.end());
      if (node->kind() == jit::prim::SetAttr)
        set[{node->input(0)->type().get(), node->s(jit::attr::name)}].push_back(node->input(1));
      else if (std::any_of(of_it.begin(), of_it.end(), [](const Write &write) { return holds(write.value->type()); }))
        for (auto *input : node->inputs())
          put.push_back(input);
    });
  }

  // All that may be what is written to, or hold it.
  std::unordered_set<jit::Value *> behind(bool tensors) const {
    std::unordered_set<jit::Value *> seen;
    std::vector<jit::Value *> open;
    for (const auto &write : writes)
      if (write.tensors == tensors)
        open.push_back(write.value);
    bool all_put = false;
    while (!open.empty()) {
      auto *next = open.back();
      open.pop_back();
      // A list does not lie in a tensor.
      if (!changes(next->type()) || (!tensors && is_tensor(next->type())) || !seen.insert(next).second)
        continue;
      const auto add = [&](const std::vector<jit::Value *> &more) { open.insert(open.end(), more.begin(), more.end()); };
      add(aliases(next));
      add(sharing(next));
      // What is taken out of one list may have been put into another that is held somewhere too.
      if (!std::exchange(all_put, all_put || holds_values(next)))
        add(all_put ? put : std::vector<jit::Value *>());
      if (next->node()->kind() == jit::prim::GetAttr)
        add(of_attribute(next->node()));
    }
    return seen;
  }

private:
  static bool holds_values(jit::Value *value) {
    return holds(value->type()) && !is_module_type(value->type()) && !only_taken_apart(value);
  }

  // A list that an operation made of tensors and that is only taken apart again has nothing else in it.
  static bool only_taken_apart(jit::Value *value) {
    const auto inputs = value->node()->inputs();
    const auto takes = [](const jit::Use &use) {
      return use.user->kind() == jit::prim::ListUnpack || use.user->kind() == jit::aten::__getitem__;
    };
    return value->node()->blocks().empty() && !inputs.empty() && !value->uses().empty() &&
           std::none_of(inputs.begin(), inputs.end(), [](const jit::Value *input) { return holds(input->type()); }) &&
           std::all_of(value->uses().begin(), value->uses().end(), takes);
  }

  // What an attribute may be: what was assigned to it, or something in an object that is no module.
  std::vector<jit::Value *> of_attribute(jit::Node *node) const {
    std::vector<jit::Value *> found;
    auto *object = node->input(0);
    if (auto assigned = set.find({object->type().get(), node->s(jit::attr::name)}); assigned != set.end())
      found = assigned->second;
    if (!is_module_type(object->type()))
      found.push_back(object);
    return found;
  }

  std::vector<Write> writes;
  std::vector<jit::Value *> put;
  std::map<std::pair<const jit::Type *, std::string>, std::vector<jit::Value *>> set;
};

} // namespace

std::vector<jit::Value *> trainyard::written_by(const jit::Node *node) {
  std::vector<jit::Value *> found;
  for (const auto &write : writes_of(const_cast<jit::Node *>(node)))
    if (node->kind() != jit::prim::SetAttr)
      found.push_back(write.value);
  return found;
}

Effects trainyard::effects_of(jit::Graph &graph) {
  const Method method(graph);
  const auto tensors = method.behind(true), others = method.behind(false);
  Effects found;
  for (auto *input : graph.inputs().slice(1))
    found.inputs.push_back(tensors.count(input) != 0 || (!is_tensor(input->type()) && others.count(input) != 0));
  const auto note = [&](const jit::Node *node) {
    if (const auto *of = node->input(0)->type()->castRaw<c10::ClassType>())
      found.attributes.emplace(of, node->s(jit::attr::name));
  };
  each_node(graph.block(), [&](jit::Node *node) {
    if (node->kind() == jit::prim::SetAttr)
      note(node);
    if (node->kind() == jit::prim::GetAttr && !is_class(node->output()->type()) &&
        (tensors.count(node->output()) != 0 || others.count(node->output()) != 0))
      note(node);
  });
  return found;
}

Attributes trainyard::assigned_attributes(const jit::Module &root) {
  Attributes found;
  each_method(root, [&](const c10::ClassTypePtr &, jit::GraphFunction &method) {
    each_node(method.graph()->block(), [&](jit::Node *node) {
      if (node->kind() != jit::prim::SetAttr)
        return;
      if (const auto *of = node->input(0)->type()->castRaw<c10::ClassType>())
        found.emplace(of, node->s(jit::attr::name));
    });
  });
  return found;
}
