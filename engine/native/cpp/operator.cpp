// Operators by name, called through the dispatcher with the values that their schemas describe.
#include "guard.h"
#include <ATen/ScalarOps.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/enum_tag.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

using namespace trainyard;

namespace {

// An operator with the values of its arguments that are known before it is called.
struct BoundCall {
  c10::OperatorHandle op;
  std::vector<c10::IValue> values;
};

const c10::OperatorHandle &handle(void *op) { return *static_cast<c10::OperatorHandle *>(op); }

template <typename T> c10::ArrayRef<T> items(const TyValue &value) {
  return c10::ArrayRef<T>(static_cast<const T *>(value.items), value.count);
}

[[noreturn]] void mismatch(const TyValue &value, const c10::Argument &argument) {
  static const char *const KINDS[] = {"a default",  "none",      "a tensor", "tensors",
                                      "an integer", "integers",  "a number", "numbers",
                                      "a bool",     "bools",     "a text"};
  TORCH_CHECK(false, "`", argument.name(), "` is ", argument.type()->str(), ", and ", KINDS[value.kind],
              " was given");
}

bool is_number(const TyValue &value) {
  return value.kind == TY_INT || value.kind == TY_FLOAT || value.kind == TY_BOOL;
}

c10::IValue number(const TyValue &value) {
  if (value.kind == TY_FLOAT)
    return value.real;
  return value.kind == TY_BOOL ? c10::IValue(value.whole != 0) : c10::IValue(value.whole);
}

// What PyTorch makes of a number where a tensor is expected: one that decides about no type.
at::Tensor wrapped(const TyValue &value) {
  auto made = at::scalar_to_tensor(number(value).toScalar());
  made.unsafeGetTensorImpl()->set_wrapped_number(true);
  return made;
}

c10::IValue list_of(const TyValue &value, const c10::Argument &argument, const c10::Type &element) {
  switch (element.kind()) {
  case c10::TypeKind::IntType: {
    c10::List<int64_t> list;
    if (value.kind == TY_INTS)
      for (auto item : items<int64_t>(value))
        list.push_back(item);
    else if (value.kind == TY_INT && argument.N())
      list.resize(*argument.N(), value.whole);
    else
      break;
    return list;
  }
  case c10::TypeKind::FloatType: {
    c10::List<double> list;
    if (value.kind == TY_FLOATS)
      for (auto item : items<double>(value))
        list.push_back(item);
    else if (value.kind == TY_INTS)
      for (auto item : items<int64_t>(value))
        list.push_back(static_cast<double>(item));
    else
      break;
    return list;
  }
  case c10::TypeKind::BoolType: {
    c10::List<bool> list;
    if (value.kind == TY_BOOLS)
      for (auto item : items<bool>(value))
        list.push_back(item);
    else if (value.kind == TY_BOOL && argument.N())
      list.resize(*argument.N(), value.whole != 0);
    else
      break;
    return list;
  }
  case c10::TypeKind::TensorType: {
    if (value.kind != TY_TENSORS)
      break;
    c10::List<at::Tensor> list;
    for (auto item : items<Tensor>(value)) {
      TORCH_CHECK(item != nullptr, "`", argument.name(), "` has an item that is none");
      list.push_back(tensor(item));
    }
    return list;
  }
  case c10::TypeKind::OptionalType: {
    if (value.kind != TY_TENSORS ||
        element.expectRef<c10::OptionalType>().getElementType()->kind() != c10::TypeKind::TensorType)
      break;
    c10::List<std::optional<at::Tensor>> list;
    for (auto item : items<Tensor>(value))
      list.push_back(item == nullptr ? std::nullopt : std::make_optional(tensor(item)));
    return list;
  }
  default:
    break;
  }
  mismatch(value, argument);
}

c10::IValue value_of(const TyValue &value, const c10::Argument &argument, const c10::Type &type) {
  switch (type.kind()) {
  case c10::TypeKind::OptionalType:
    return value.kind == TY_NONE
               ? c10::IValue()
               : value_of(value, argument, *type.expectRef<c10::OptionalType>().getElementType());
  case c10::TypeKind::TensorType:
    if (value.kind == TY_TENSOR)
      return tensor(const_cast<void *>(value.items));
    if (is_number(value))
      return wrapped(value);
    break;
  case c10::TypeKind::IntType:
    if (value.kind == TY_INT || value.kind == TY_BOOL)
      return value.whole;
    break;
  case c10::TypeKind::FloatType:
    if (is_number(value))
      return value.kind == TY_FLOAT ? value.real : static_cast<double>(value.whole);
    break;
  case c10::TypeKind::BoolType:
    if (value.kind == TY_BOOL)
      return value.whole != 0;
    break;
  case c10::TypeKind::NumberType:
    if (is_number(value))
      return number(value);
    break;
  case c10::TypeKind::StringType:
    if (value.kind == TY_TEXT)
      return std::string(static_cast<const char *>(value.items), value.count);
    break;
  case c10::TypeKind::DeviceObjType:
    if (value.kind == TY_TEXT)
      return c10::Device(std::string(static_cast<const char *>(value.items), value.count));
    break;
  case c10::TypeKind::ListType:
    return list_of(value, argument, *type.expectRef<c10::ListType>().getElementType());
  default:
    break;
  }
  mismatch(value, argument);
}

c10::IValue value_of(const TyValue &value, const c10::Argument &argument) {
  if (value.kind != TY_DEFAULT)
    return value_of(value, argument, *argument.type());
  TORCH_CHECK(argument.default_value(), "`", argument.name(), "` (", argument.type()->str(), ") is missing");
  return *argument.default_value();
}

// Hands a result over. Tensors are the receiver's then, lists only as long as the call lasts.
void hand_over(c10::IValue &&result, TyResults take, void *context) {
  TyValue value{TY_NONE, 0, 0, 0, nullptr};
  std::vector<Tensor> tensors;
  if (result.isTensor()) {
    value.kind = TY_TENSOR;
    value.items = trainyard::give(std::move(result).toTensor());
  } else if (result.isTensorList()) {
    for (const at::Tensor &item : result.toTensorVector())
      tensors.push_back(trainyard::give(item));
    value = {TY_TENSORS, tensors.size(), 0, 0, tensors.data()};
  } else if (result.isInt()) {
    value = {TY_INT, 0, result.toInt(), 0, nullptr};
  } else if (result.isDouble()) {
    value = {TY_FLOAT, 0, 0, result.toDouble(), nullptr};
  } else if (result.isBool()) {
    value = {TY_BOOL, 0, result.toBool(), 0, nullptr};
  } else {
    TORCH_CHECK(result.isNone(), "an operator returned ", result.tagKind(), ", which a graph cannot pass on");
  }
  take(context, &value);
}

// The names of what may share memory, in lists too.
void sets_of(const c10::AliasInfo &info, std::string &sets, bool &written) {
  written = written || info.isWrite();
  for (const auto &set : info.beforeSets())
    sets += std::string(sets.empty() ? "" : " ") + set.toUnqualString();
  for (const auto &inner : info.containedTypes())
    sets_of(inner, sets, written);
}

void describe(const c10::Argument &argument, bool result, TyParameters take, void *context) {
  const auto type = argument.type()->str();
  std::string sets;
  bool written = false;
  if (argument.alias_info() != nullptr)
    sets_of(*argument.alias_info(), sets, written);
  TyParameter parameter{argument.name().c_str(), type.c_str(), sets.c_str(), result,
                        argument.default_value().has_value(), written};
  take(context, &parameter);
}

} // namespace

char *ty_operator_find(void **out, const char *name, const char *overload) {
  return guard([&] {
    auto found = c10::Dispatcher::singleton().findSchema({name, overload});
    *out = found ? new c10::OperatorHandle(*found) : nullptr;
  });
}

void ty_operator_free(void *op) { delete static_cast<c10::OperatorHandle *>(op); }

char *ty_operator_describe(void *op, bool *random, TyParameters take, void *context) {
  return guard([&] {
    *random = handle(op).hasTag(at::Tag::nondeterministic_seeded);
    for (const auto &argument : handle(op).schema().arguments())
      describe(argument, false, take, context);
    for (const auto &result : handle(op).schema().returns())
      describe(result, true, take, context);
  });
}

char *ty_operator_fill(void **out, void *op, const TyValue *values, const bool *later, size_t count) {
  return guard([&] {
    const auto &arguments = handle(op).schema().arguments();
    TORCH_CHECK(count == arguments.size(), "an operator of ", arguments.size(), " arguments was given ", count);
    auto made = std::make_unique<BoundCall>(BoundCall{handle(op), {}});
    for (size_t i = 0; i < count; ++i)
      made->values.push_back(later[i] ? c10::IValue() : value_of(values[i], arguments[i]));
    *out = made.release();
  });
}

void ty_call_free(void *call) { delete static_cast<BoundCall *>(call); }

char *ty_call_run(void *c, const size_t *places, const TyValue *values, size_t count, TyResults take,
                  void *context) {
  return guard([&] {
    const auto &call = *static_cast<const BoundCall *>(c);
    const auto &arguments = call.op.schema().arguments();
    auto stack = call.values;
    for (size_t i = 0; i < count; ++i)
      stack.at(places[i]) = value_of(values[i], arguments.at(places[i]));
    call.op.callBoxed(stack);
    for (auto &result : stack)
      hand_over(std::move(result), take, context);
  });
}
