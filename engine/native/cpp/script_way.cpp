// Whether a module has a residual connection of its own: how its output is reached from its inputs.
#include "script_stream.h"
#include <map>
#include <torch/csrc/jit/ir/constants.h>
#include <unordered_set>

using namespace trainyard;

namespace {

// Operations on one way from the output to an input.
constexpr size_t LONGEST = 2000;
// Changes of order that are not undone yet, on one way.
constexpr size_t MOST_TURNS = 16;
// Values that are looked at in search of one input, each once for each order.
constexpr size_t MOST_LOOKS = 100000;

const std::unordered_set<std::string> SUMS{"add", "add_"};
// Keep what their first input stands for.
const std::unordered_set<std::string> KEEPING{
    "alpha_dropout", "batch_norm",    "bfloat16",        "celu",        "clamp",         "clamp_",      "clamp_max",
    "clamp_min",     "clone",             "contiguous",  "dropout",
    "dropout_",      "elu",           "elu_",            "expand",      "expand_as",         "feature_dropout",
    "flatten",       "float",         "gelu",            "group_norm",  "half",              "hardswish",
    "instance_norm", "layer_norm",    "leaky_relu",      "leaky_relu_", "masked_fill",       "masked_fill_",
    "mish",          "native_layer_norm",                "permute",     "relu",              "relu_",       "reshape",
    "rms_norm",      "silu",          "silu_",           "squeeze",     "tanh",              "to",          "transpose",
    "type_as",       "unflatten",     "unsqueeze",       "view",        "view_as",           "roll",        "alias",
    "detach",
};
const std::unordered_set<std::string> DIFFERENCES{"sub", "sub_"};
// Scale a stream, from either side.
const std::unordered_set<std::string> PRODUCTS{"mul", "mul_", "div", "div_"};

bool is(const jit::Node *node, const std::unordered_set<std::string> &names) {
  return node->kind().is_aten() && names.count(node->kind().toUnqualString()) != 0;
}

// A number, of which traces make tensors, or a weight of a module, which a normalisation adds: nothing that was computed.
bool is_given(const jit::Value *value) {
  const auto kind = value->node()->kind();
  return !is_tensor(value->type()) || kind == jit::prim::Constant || kind == jit::prim::GetAttr;
}

// How a value is reached from an input: not at all, as the same thing, or over a sum.
enum class Way { none, same, sum };

// An operation that changes the order of what a tensor holds, and has to be undone: its kind, and what by.
struct Turn {
  char kind;
  std::vector<int64_t> by;
  bool operator<(const Turn &other) const { return std::tie(kind, by) < std::tie(other.kind, other.by); }
};
using Turns = std::vector<Turn>;

std::vector<int64_t> numbers(jit::Value *value) {
  if (auto list = jit::constant_as<c10::List<int64_t>>(value))
    return list->vec();
  if (auto one = jit::constant_as<int64_t>(value))
    return {*one};
  std::vector<int64_t> found;
  if (value->node()->kind() == jit::prim::ListConstruct)
    for (auto *item : value->node()->inputs()) {
      auto one = jit::constant_as<int64_t>(item);
      if (!one)
        return {};
      found.push_back(*one);
    }
  return found;
}

// What `node` turns; a kind of 0 for nothing, or nothing that can be told.
Turn turn_of(jit::Node *node) {
  const std::string name = node->kind().toUnqualString();
  if (name == "transpose") {
    auto a = jit::constant_as<int64_t>(node->input(1)), b = jit::constant_as<int64_t>(node->input(2));
    if (a && b && *a != *b)
      return {'t', {std::min(*a, *b), std::max(*a, *b)}};
  } else if (name == "permute") {
    auto order = numbers(node->input(1));
    if (!std::is_sorted(order.begin(), order.end()))
      return {'p', order};
  } else if (name == "roll") {
    auto by = numbers(node->input(1)), axes = numbers(node->input(2));
    by.insert(by.end(), axes.begin(), axes.end());
    if (by.size() == 2 * axes.size() && !axes.empty())
      return {'r', by};
  }
  return {0, {}};
}

// Whether `b`, nearer the input, undoes `a`. Axes that are counted from different ends cannot be compared.
bool undoes(const Turn &b, const Turn &a) {
  if (a.kind != b.kind || a.by.size() != b.by.size())
    return false;
  switch (a.kind) {
  case 't':
    return a.by == b.by;
  case 'p': {
    const auto size = static_cast<int64_t>(a.by.size());
    for (int64_t i = 0; i < size; ++i) {
      const auto to = (b.by[i] + size) % size;
      if (to < 0 || to >= size || (a.by[to] + size) % size != i)
        return false;
    }
    return true;
  }
  default: {
    const auto half = a.by.size() / 2;
    for (size_t i = 0; i < a.by.size(); ++i)
      if (i < half ? a.by[i] != -b.by[i] : a.by[i] != b.by[i])
        return false;
    return true;
  }
  }
}

// Whether `node` takes the mean of its first input away from it, as a normalisation does.
bool centres(const jit::Node *node) {
  const auto *mean = node->input(1)->node();
  return mean->kind() == jit::aten::mean && mean->input(0) == node->input(0);
}

class Search {
public:
  Search(const jit::Value *input, const jit::Value *self, jit::ObjectPtr object, const Attributes &assigned)
      : input(input), self(self), object(std::move(object)), assigned(assigned) {}

  // To the output of a method: to the first item of it where it is a tuple.
  Way to_output(jit::Value *output) { return to(output, {}, 0); }

private:
  using Place = std::pair<jit::Value *, Turns>;

  // The way over what `value` is another name of, or a choice between.
  Way over(jit::Value *value, const Turns &turns, size_t depth) {
    auto *node = value->node();
    if (node->kind() == jit::prim::If)
      return choice(value, turns, depth);
    if (node->kind() == jit::prim::Loop)
      return loop(node, value->offset(), turns, depth);
    auto *outer = node->owningBlock()->owningNode();
    if (node->kind() == jit::prim::Param && outer != nullptr && outer->kind() == jit::prim::Loop && value->offset() > 0)
      return loop(outer, value->offset() - 1, turns, depth);
    Way best = Way::none;
    for (auto *other : aliases(value))
      best = std::max(best, to(other, turns, depth));
    return best;
  }

  Way choice(jit::Value *value, const Turns &turns, size_t depth) {
    auto *node = value->node();
    const auto decided = truth(node->input(0), 0);
    Way best = Way::none;
    for (size_t i = 0; i < 2; ++i) {
      auto *other = node->blocks().at(i)->outputs().at(value->offset());
      // What is behind an exception is never looked at.
      if ((decided && *decided != (i == 0)) || is_unset(other))
        continue;
      const auto found = to(other, turns, depth);
      if (found == Way::none)
        return Way::none;
      best = std::max(best, found);
    }
    return best;
  }

  // The way over what a loop carries on in its place `i`: it has to be there before the loop, and each turn has to
  // keep it.
  Way loop(jit::Node *node, size_t i, const Turns &turns, size_t depth) {
    auto *before = node->input(i + 2);
    const auto first = is_unset(before) ? Way::same : to(before, turns, depth);
    if (first == Way::none)
      return first;
    auto *body = node->blocks().at(0);
    const Place carried{body->inputs().at(i + 1), turns};
    const auto mark = order.size();
    set(carried, first);
    const auto after = to(body->outputs().at(i + 1), turns, depth);
    const auto found = after == Way::none ? after : std::max(first, after);
    // What was found from a way that is none does not hold.
    if (found == Way::none)
      forget(mark);
    set(carried, found);
    return found;
  }

  static bool is_unset(const jit::Value *value) { return value->node()->kind() == jit::prim::Uninitialized; }

  void set(const Place &place, Way way) {
    const auto [entry, fresh] = known.insert_or_assign(place, way);
    if (fresh)
      order.push_back(entry);
  }

  void forget(size_t mark) {
    for (; order.size() > mark; order.pop_back())
      known.erase(order.back());
  }

  Way to(jit::Value *value, const Turns &turns, size_t depth) {
    if (value == input)
      return turns.empty() ? Way::same : Way::none;
    if (depth > LONGEST || turns.size() > MOST_TURNS)
      return Way::none;
    const Place place{value, turns};
    if (const auto entry = known.find(place); entry != known.end())
      return entry->second;
    if (++looks > MOST_LOOKS)
      return Way::none;
    // A value that is asked for again on its own way is in a loop.
    set(place, Way::none);
    const auto found = look(value, turns, depth + 1);
    set(place, found);
    return found;
  }

  Way look(jit::Value *value, const Turns &turns, size_t depth) {
    auto *node = value->node();
    const auto through = [&](size_t i) {
      const bool there = i < node->inputs().size() && is_tensor(node->input(i)->type());
      return there ? to(node->input(i), turns, depth) : Way::none;
    };
    if (node->kind() == jit::prim::TupleConstruct && !node->inputs().empty())
      return to(node->input(0), turns, depth);
    if (is(node, SUMS)) {
      if (is_given(node->input(1)))
        return through(0);
      if (is_given(node->input(0)))
        return through(1);
      return std::max(through(0), through(1)) == Way::none ? Way::none : Way::sum;
    }
    if (is(node, DIFFERENCES)) {
      const auto first = through(0);
      return first == Way::none || is_given(node->input(1)) || centres(node) ? first : Way::sum;
    }
    if (is(node, PRODUCTS)) {
      // Where one factor is the input itself, a sum in the other one only scales it.
      const auto first = through(0), second = through(1);
      return first == Way::same || second == Way::same ? Way::same : std::max(first, second);
    }
    // A layer of a transformer, with both of its residual connections.
    if (node->kind() == jit::Symbol::fromQualString("aten::_transformer_encoder_layer_fwd"))
      return through(0) == Way::none ? Way::none : Way::sum;
    if (is(node, KEEPING)) {
      const auto turn = turn_of(node);
      if (turn.kind == 0 || node->inputs().empty())
        return through(0);
      auto turned = turns;
      if (!turned.empty() && undoes(turn, turned.back()))
        turned.pop_back();
      else
        turned.push_back(turn);
      return to(node->input(0), turned, depth);
    }
    return over(value, turns, depth);
  }

  // The module's own value that `value` is, if it is one.
  c10::optional<c10::IValue> attribute(jit::Value *value, size_t depth) {
    if (value == self)
      return c10::IValue(object);
    if (depth > LONGEST || value->node()->kind() != jit::prim::GetAttr)
      return c10::nullopt;
    const auto holder = attribute(value->node()->input(0), depth + 1);
    if (!holder || !holder->isObject())
      return c10::nullopt;
    const auto name = value->node()->s(jit::attr::name);
    // What some code of the script assigns may be another value when it is read.
    if (assigned.count({holder->toObjectRef().type().get(), name}) != 0)
      return c10::nullopt;
    if (name == "training" && value->type()->kind() == c10::TypeKind::BoolType)
      return c10::IValue(true);
    const auto slot = holder->toObjectRef().type()->findAttributeSlot(name);
    if (!slot)
      return c10::nullopt;
    return holder->toObjectRef().getSlot(*slot);
  }

  c10::optional<c10::IValue> constant(jit::Value *value) {
    return value->node()->kind() == jit::prim::Constant ? jit::toIValue(value) : attribute(value, 0);
  }

  c10::optional<double> number(jit::Value *value) {
    const auto known = constant(value);
    if (known && (known->isInt() || known->isDouble()))
      return known->toScalar().toDouble();
    return c10::nullopt;
  }

  // What a condition is, where constants and the module's attributes decide it.
  c10::optional<bool> truth(jit::Value *value, size_t depth) {
    if (depth > LONGEST)
      return c10::nullopt;
    if (const auto known = constant(value); known && known->isBool())
      return known->toBool();
    auto *node = value->node();
    if (node->kind() == jit::prim::If) {
      const auto decided = truth(node->input(0), depth + 1);
      if (!decided)
        return c10::nullopt;
      return truth(node->blocks().at(*decided ? 0 : 1)->outputs().at(value->offset()), depth + 1);
    }
    if (node->kind() == jit::aten::__not__) {
      const auto inner = truth(node->input(0), depth + 1);
      return inner ? c10::optional<bool>(!*inner) : c10::nullopt;
    }
    if (node->kind() == jit::aten::__is__ || node->kind() == jit::aten::__isnot__) {
      const auto a = constant(node->input(0)), b = constant(node->input(1));
      if (a && b && b->isNone())
        return a->isNone() == (node->kind() == jit::aten::__is__);
      return c10::nullopt;
    }
    if (node->inputs().size() != 2)
      return c10::nullopt;
    const auto a = number(node->input(0)), b = number(node->input(1));
    if (!a || !b)
      return c10::nullopt;
    switch (node->kind()) {
    case jit::aten::eq:
      return *a == *b;
    case jit::aten::ne:
      return *a != *b;
    case jit::aten::lt:
      return *a < *b;
    case jit::aten::gt:
      return *a > *b;
    case jit::aten::le:
      return *a <= *b;
    case jit::aten::ge:
      return *a >= *b;
    default:
      return c10::nullopt;
    }
  }

  const jit::Value *input, *self;
  jit::ObjectPtr object;
  const Attributes &assigned;
  std::map<Place, Way> known;
  // What is known, in the order in which it was asked for.
  std::vector<std::map<Place, Way>::iterator> order;
  size_t looks = 0;
};

} // namespace

std::vector<bool> trainyard::residual_inputs(jit::Graph &graph, const jit::ObjectPtr &object,
                                             const Attributes &assigned) {
  const auto inputs = graph.inputs();
  std::vector<bool> found;
  for (size_t i = 1; i < inputs.size(); ++i) {
    Search search(inputs[i], inputs[0], object, assigned);
    found.push_back(is_tensor(inputs[i]->type()) && search.to_output(graph.outputs().at(0)) == Way::sum);
  }
  return found;
}
