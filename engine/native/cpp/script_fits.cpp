// Whether the values of a TorchScript module are of the types that its classes declare. libtorch does not look when it
// loads a file, and reads attributes by their place among those of the declared class.
#include "script.h"
#include <ATen/core/enum_type.h>
#include <set>

using namespace trainyard;

namespace {

class Fits {
public:
  void object(const jit::ObjectPtr &object) {
    const auto type = object->type();
    if (!seen.emplace(object.get(), type.get()).second)
      return;
    TORCH_CHECK(object->slots().size() >= type->numAttributes(), type->repr_str(), " has ", type->numAttributes(),
                " attributes, and the file ", object->slots().size());
    for (size_t i = 0; i < type->numAttributes(); ++i)
      TORCH_CHECK(fits(object->getSlot(i), type->getAttribute(i)), "`", type->getAttributeName(i), "` of ",
                  type->repr_str(), " is no ", type->getAttribute(i)->repr_str(), " in the file");
  }

private:
  std::set<std::pair<const void *, const void *>> seen;

  bool fits(const c10::IValue &value, const jit::TypePtr &type) {
    using Kind = c10::TypeKind;
    switch (type->kind()) {
    case Kind::NoneType:
      return value.isNone();
    case Kind::TensorType:
      return value.isTensor();
    case Kind::BoolType:
      return value.isBool();
    case Kind::IntType:
      return value.isInt();
    case Kind::FloatType:
      return value.isDouble();
    case Kind::ComplexType:
      return value.isComplexDouble();
    case Kind::NumberType:
      return value.isScalar();
    case Kind::StringType:
      return value.isString();
    case Kind::DeviceObjType:
      return value.isDevice();
    case Kind::OptionalType:
      return value.isNone() || fits(value, type->expectRef<c10::OptionalType>().getElementType());
    case Kind::UnionType: {
      const auto types = type->containedTypes();
      return std::any_of(types.begin(), types.end(), [&](const auto &one) { return fits(value, one); });
    }
    case Kind::ListType:
      return value.isList() && once(value, type, [&] { return all(value.toListRef(), type->containedType(0)); });
    case Kind::DictType:
      return value.isGenericDict() && once(value, type, [&] {
               for (const auto &item : value.toGenericDict())
                 if (!fits(item.key(), type->containedType(0)) || !fits(item.value(), type->containedType(1)))
                   return false;
               return true;
             });
    case Kind::TupleType:
      return value.isTuple() && once(value, type, [&] {
               const auto &items = value.toTupleRef().elements();
               if (items.size() != type->containedTypeSize())
                 return false;
               for (size_t i = 0; i < items.size(); ++i)
                 if (!fits(items[i], type->containedType(i)))
                   return false;
               return true;
             });
    case Kind::EnumType:
      return value.isEnum() && *value.toEnumHolder()->type() == *type;
    case Kind::ClassType:
    case Kind::InterfaceType:
      if (!value.isObject() || !value.toObjectRef().type()->isSubtypeOf(*type))
        return false;
      object(value.toObject());
      return true;
    case Kind::AnyType:
      // What it says of itself has to hold.
      return value.isNone() || !value.isPtrType() || fits(value, value.type());
    default:
      return false;
    }
  }

  bool all(c10::ArrayRef<c10::IValue> values, const jit::TypePtr &type) {
    return std::all_of(values.begin(), values.end(), [&](const auto &value) { return fits(value, type); });
  }

  // What lies in many places is looked at once.
  template <class Look> bool once(const c10::IValue &value, const jit::TypePtr &type, const Look &look) {
    return !seen.emplace(value.internalToPointer(), type.get()).second || look();
  }
};

} // namespace

void trainyard::check_fits(const jit::Module &root) { Fits().object(root._ivalue()); }
