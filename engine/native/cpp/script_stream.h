// How tensors flow inside a module, as far as gating needs to know.
#pragma once
#include "script.h"
#include <map>
#include <set>

namespace trainyard {

// The graph of a method with all it calls in its place.
std::shared_ptr<jit::Graph> inlined(jit::GraphFunction &method);

// Attributes by the class that has them.
using Attributes = std::set<std::pair<const c10::ClassType *, std::string>>;

// The attributes of modules that some code of the script assigns.
Attributes assigned_attributes(const jit::Module &root);

// For each input of `graph` but the module itself, which is `object`: whether the output is reached from it over at
// least one sum, and otherwise only over operations that keep what a tensor stands for (normalisations, activations,
// dropout, views), whichever branch of a condition runs. Conditions on the module's attributes are decided, in
// training mode, but for those in `assigned`.
std::vector<bool> residual_inputs(jit::Graph &graph, const jit::ObjectPtr &object, const Attributes &assigned);

// What a method leaves changed, all that it calls included.
struct Effects {
  // For each input but the module itself: whether something writes to it, or to what it holds.
  std::vector<bool> inputs;
  // Those that it assigns, and those whose tensors, lists or dictionaries it writes to.
  Attributes attributes;
};
Effects effects_of(jit::Graph &graph);

// Which of the inputs of `node`, from `first` on, it writes to: tensors, lists and dictionaries.
std::vector<jit::Value *> written_by(const jit::Node *node);

// The calls among `calls` whose stream `value` may be: their output, or the first item of it.
std::set<size_t> streams_behind(jit::Value *value,
                                const std::unordered_map<const jit::Node *, size_t> &calls);

// The values that `value` is another name of, or a choice between: what is behind conditionals, loops and the
// tuples that were just made. Empty for what an operation made.
std::vector<jit::Value *> aliases(jit::Value *value);

} // namespace trainyard
