// What the parts of a TorchScript module that trains share.
#pragma once
#include "guard.h"
#include <functional>
#include <string>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <unordered_map>
#include <utility>

namespace trainyard {

namespace jit = torch::jit;

// A tensor that the file holds, and where.
struct Kept {
  jit::ObjectPtr object;
  size_t slot;
  at::Tensor tensor;
};

// A call that goes through the layer callback: which of the module's inputs is the residual stream.
struct Gated {
  size_t site, stream;
};

// A constant of a graph: as the file has it but on the CPU, and as it is here.
struct Constant {
  jit::Node *node;
  at::Tensor saved_tensor, tensor;
  std::string saved_device, device;
};

struct Script {
  // Runs, with rewritten graphs.
  jit::Module running;
  // As it was in the file, with the same tensors: what is saved.
  jit::Module kept;
  // Slots of `running` that say whether a module trains.
  std::vector<std::pair<jit::ObjectPtr, size_t>> modes;
  // What they say; unknown before the first forward.
  std::optional<bool> train;
  // Parameters and buffers, as they were loaded.
  std::vector<Kept> tensors;
  std::unordered_map<const c10::ivalue::Object *, Gated> gated;
  // An operation in place may write to what a gated call returned, so that it must not be what it was given.
  bool writes = false;
  // Constants in functions, whose graphs `running` and `kept` have in common.
  std::vector<Constant> common;
  // Operations that a trace had in training mode for good.
  size_t freed = 0;
};

inline Script &script(void *s) { return *static_cast<Script *>(s); }

// Visits `root` and every module below it, once for each name it has, outer ones first.
void each_module(const jit::Module &root,
                 const std::function<void(const std::string &, const jit::Module &)> &visit);

// Visits every node of a block and of the blocks inside, forked ones included.
void each_node(jit::Block *block, const std::function<void(jit::Node *)> &visit);

// Visits the methods of all classes of modules in `root` and the functions that they call, each once. A function has
// no class, and neither have the methods of objects that are no modules: copies of a script share them.
void each_method(const jit::Module &root,
                 const std::function<void(const c10::ClassTypePtr &, jit::GraphFunction &)> &visit);

// Throws where an attribute is of another type than its class declares, naming it.
void check_fits(const jit::Module &root);

// Lets the operations of a trace that was made in training mode follow the modules' mode; how many there are. None
// where some operations never train, or follow the mode already: then constants are meant.
size_t free_modes(const jit::Module &root);

// Puts what a forward assigned to buffers into the tensors that were loaded, which others hold. Not before the
// backward pass, which may need them as they were.
void settle(Script &s);

// Has the constants of `running` lie on `device`, on which it was loaded, and those of `kept`, its clone, on the CPU.
void place_constants(Script &s, at::Device device);

// Sets the constants that `running` and `kept` have in common, as the one or, for saving, the other has them.
void set_common(Script &s, bool saved);

// Values with their tensors on the CPU, each copied once.
class OnCpu {
public:
  at::Tensor of(const at::Tensor &tensor);
  c10::IValue of(const c10::IValue &value);

private:
  std::unordered_map<const c10::TensorImpl *, at::Tensor> moved;
};

inline std::string joined(const std::string &path, const std::string &name) {
  return path.empty() ? name : path + "." + name;
}

inline bool is_tensor(const jit::TypePtr &type) { return type->kind() == c10::TypeKind::TensorType; }

} // namespace trainyard
