// Where the constants and values of a script lie: on the device where it runs, and on the CPU in its file.
#include "script.h"
#include <torch/csrc/jit/api/function_impl.h>

using namespace trainyard;

namespace {

// Visits the constants of a script's graphs that are tensors or devices; `common`: of a function, which clones of the
// script have too.
void each_constant(const jit::Module &root, const std::function<void(jit::Node *, bool common)> &visit) {
  each_method(root, [&](const c10::ClassTypePtr &type, jit::GraphFunction &method) {
    each_node(method.graph()->block(), [&](jit::Node *node) {
      if (node->kind() == jit::prim::Constant && node->hasAttribute(jit::attr::value))
        visit(node, type == nullptr);
    });
  });
}

bool is_tensor_constant(const jit::Node *node) {
  return node->kindOf(jit::attr::value) == jit::AttributeKind::t && node->t(jit::attr::value).defined();
}

bool is_device_constant(const jit::Node *node) {
  return node->output()->type()->kind() == c10::TypeKind::DeviceObjType &&
         at::Device(node->s(jit::attr::value)).type() != at::kMeta;
}

// A trace has the numbers of its code as tensors without dimensions. Marked as numbers again, they leave the type of
// what they meet as it is, as in the code. Numbers lie on the CPU, whatever they meet.
at::Tensor as_here(const at::Tensor &tensor) {
  if (tensor.dim() != 0 || (tensor.scalar_type() != at::kDouble && tensor.scalar_type() != at::kLong))
    return tensor;
  auto number = tensor.cpu();
  number.unsafeGetTensorImpl()->set_wrapped_number(true);
  return number;
}

// Whether a list of such elements may have tensors in it.
bool holds_more(const c10::Type &type) {
  const auto kind = type.kind();
  return kind == c10::TypeKind::TupleType || kind == c10::TypeKind::ListType || kind == c10::TypeKind::DictType ||
         kind == c10::TypeKind::OptionalType;
}

} // namespace

void trainyard::place_constants(Script &s, at::Device device) {
  each_constant(s.kept, [](jit::Node *node, bool common) {
    if (!common && is_tensor_constant(node))
      node->t_(jit::attr::value, node->t(jit::attr::value).cpu());
  });
  each_constant(s.running, [&](jit::Node *node, bool common) {
    Constant constant{node, {}, {}, {}, {}};
    if (is_tensor_constant(node)) {
      const auto tensor = node->t(jit::attr::value);
      constant.saved_tensor = tensor.cpu();
      constant.tensor = as_here(tensor);
      node->t_(jit::attr::value, constant.tensor);
    } else if (is_device_constant(node)) {
      constant.saved_device = node->s(jit::attr::value);
      constant.device = device.str();
      node->s_(jit::attr::value, constant.device);
    } else {
      return;
    }
    if (common)
      s.common.push_back(std::move(constant));
  });
  each_module(s.running, [&](const std::string &, const jit::Module &module) {
    for (size_t i = 0; i < module.type()->numAttributes(); ++i) {
      const auto value = module._ivalue()->getSlot(i);
      if (value.isDevice() && value.toDevice().type() != at::kMeta)
        module._ivalue()->setSlot(i, device);
    }
  });
}

void trainyard::set_common(Script &s, bool saved) {
  for (const auto &constant : s.common)
    if (constant.tensor.defined())
      constant.node->t_(jit::attr::value, saved ? constant.saved_tensor : constant.tensor);
    else
      constant.node->s_(jit::attr::value, saved ? constant.saved_device : constant.device);
}

at::Tensor trainyard::OnCpu::of(const at::Tensor &tensor) {
  if (!tensor.defined() || tensor.is_cpu())
    return tensor;
  auto &copy = moved[tensor.unsafeGetTensorImpl()];
  if (!copy.defined())
    copy = tensor.detach().cpu().set_requires_grad(tensor.requires_grad());
  return copy;
}

c10::IValue trainyard::OnCpu::of(const c10::IValue &value) {
  if (value.isTensor())
    return of(value.toTensor());
  if (value.isTuple()) {
    const auto tuple = value.toTuple();
    std::vector<c10::IValue> items;
    for (const auto &item : tuple->elements())
      items.push_back(of(item));
    return c10::ivalue::Tuple::createNamed(std::move(items), tuple->type<c10::TupleType>());
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor &item : value.toTensorVector())
      list.push_back(of(item));
    return list;
  }
  if (value.isList() && !value.toListRef().empty() && holds_more(*value.toList().elementType())) {
    c10::List<c10::IValue> list(value.toList().elementType());
    for (const auto &item : value.toListRef())
      list.push_back(of(item));
    return list;
  }
  if (value.isGenericDict()) {
    const auto from = value.toGenericDict();
    c10::Dict<c10::IValue, c10::IValue> dict(from.keyType(), from.valueType());
    for (const auto &item : from)
      dict.insert(item.key(), of(item.value()));
    return dict;
  }
  return value;
}
