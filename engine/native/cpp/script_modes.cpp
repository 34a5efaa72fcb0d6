// Training and evaluation mode in the graphs of a script.
#include "script.h"
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <unordered_set>

using namespace trainyard;

namespace {

// Where a node says whether it trains; 0 if it does not say, or does the same either way.
size_t mode_place(const jit::Node *node) {
  const auto *schema = node->kind().is_aten() ? node->maybeSchema() : nullptr;
  if (schema == nullptr)
    return 0;
  const auto input = [&](const char *name) -> const jit::Value * {
    const auto place = schema->argumentIndexWithName(name);
    return place && size_t(*place) < node->inputs().size() ? node->input(*place) : nullptr;
  };
  // Without running means a normalisation has to train.
  if (const auto *mean = input("running_mean"); mean != nullptr && mean->type()->kind() == c10::TypeKind::NoneType)
    return 0;
  if (const auto *dropout = input("dropout"); dropout != nullptr && jit::constant_as<double>(dropout) == 0.0)
    return 0;
  for (const char *name : {"train", "training", "use_input_stats"})
    if (input(name) != nullptr)
      return *schema->argumentIndexWithName(name);
  return 0;
}

// Where attention has the probability of its dropout; 0 if it is no attention, or drops nothing.
size_t dropping_place(const jit::Node *node) {
  if (node->kind() != jit::Symbol::fromQualString("aten::scaled_dot_product_attention"))
    return 0;
  const auto constant = jit::constant_as<double>(node->input(4));
  return constant && *constant > 0 ? 4 : 0;
}

// Draws random numbers by itself, whatever the mode.
bool draws(const jit::Node *node) {
  static const std::unordered_set<std::string> names{
      "bernoulli", "bernoulli_",   "exponential_", "multinomial", "normal", "normal_",    "poisson",
      "rand",      "rand_like",    "randint",      "randint_like", "randn", "randn_like", "randperm",
      "random_",   "uniform_",     "log_normal_",  "geometric_",   "cauchy_"};
  return node->kind().is_aten() && names.count(node->kind().toUnqualString()) != 0;
}

TyModes count(const jit::Module &root) {
  TyModes modes{};
  each_method(root, [&](const c10::ClassTypePtr &, jit::GraphFunction &method) {
    each_node(method.graph()->block(), [&](jit::Node *node) {
      if (node->kind() == jit::prim::GetAttr && node->s(jit::attr::name) == "training" &&
          node->output()->hasUses() && node->output()->type()->kind() == c10::TypeKind::BoolType)
        modes.switched += 1;
      if (draws(node) && node->owningBlock()->owningNode() == nullptr)
        modes.random += 1;
      const auto place = mode_place(node);
      if (place != 0) {
        if (const auto constant = jit::constant_as<bool>(node->input(place)))
          (*constant ? modes.on : modes.off) += 1;
      } else if (dropping_place(node) != 0) {
        modes.on += 1;
      }
    });
  });
  return modes;
}

} // namespace

size_t trainyard::free_modes(const jit::Module &root) {
  const auto modes = count(root);
  if (modes.on == 0 || modes.off != 0 || modes.switched != 0)
    return 0;
  size_t freed = 0;
  each_method(root, [&](const c10::ClassTypePtr &type, jit::GraphFunction &method) {
    // A function has no mode of its own.
    if (type == nullptr || !type->hasAttribute("training"))
      return;
    auto graph = method.graph();
    std::vector<jit::Node *> found;
    // What a fork runs does not see the module.
    const std::function<void(jit::Block *)> collect = [&](jit::Block *block) {
      for (jit::Node *node : block->nodes()) {
        if (mode_place(node) != 0 || dropping_place(node) != 0)
          found.push_back(node);
        for (jit::Block *inner : node->blocks())
          collect(inner);
      }
    };
    collect(graph->block());
    for (jit::Node *node : found) {
      jit::WithInsertPoint before(node);
      auto *training = graph->insertGetAttr(graph->inputs().at(0), "training");
      training->setType(c10::BoolType::get());
      const auto place = mode_place(node);
      if (place != 0) {
        node->replaceInput(place, training);
      } else {
        auto *choice = graph->insertNode(graph->create(jit::prim::If, {training}, 1));
        choice->output()->setType(c10::FloatType::get());
        auto *yes = choice->addBlock(), *no = choice->addBlock();
        yes->registerOutput(node->input(4));
        jit::WithInsertPoint inside(no);
        no->registerOutput(graph->insertConstant(0.0));
        node->replaceInput(4, choice->output());
      }
      freed += 1;
    }
  });
  return freed;
}

char *ty_script_modes(void *s, TyModes *out) {
  return guard([&] {
    *out = count(script(s).running);
    out->freed = script(s).freed;
  });
}
