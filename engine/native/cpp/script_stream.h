// How tensors flow inside a module, as far as gating needs to know.
#pragma once
#include "script.h"
#include <set>

namespace trainyard {

// What a module's method does with its tensor inputs, the module itself not counted.
struct Inside {
  // The output is reached from the input over at least one sum, and otherwise only over operations that keep
  // what a tensor stands for: normalisations, activations, dropout, views.
  std::vector<bool> residual;
  // An operation in place writes to the input's memory.
  std::vector<bool> written;
};
Inside look_inside(jit::GraphFunction &method);

// The calls among `calls` whose stream `value` may be: their output, or the first item of it.
std::set<size_t> streams_behind(jit::Value *value,
                                const std::unordered_map<const jit::Node *, size_t> &calls);

// The values that `value` is another name of, or a choice between: what is behind conditionals, loops and the
// tuples that were just made. Empty for what an operation made.
std::vector<jit::Value *> aliases(jit::Value *value);

} // namespace trainyard
