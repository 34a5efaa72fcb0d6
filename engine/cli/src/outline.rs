//! The example BERT as far as a plan needs it: its blocks and the names of its parameters.
use tch::Device;
use tch::nn::VarStore;
use trainyard::{Error, Explanation, Layers, Plan};
use trainyard_examples::BertConfig;
use trainyard_examples::bert::Bert;

pub use trainyard_examples::run::registry;

/// Steps taken for one pass over data that is not looked at.
pub const STEPS_PER_EPOCH: u64 = 1000;

/// The sizes in the `model` section; the defaults if there is none.
///
/// # Errors
/// They do not go together, with the position.
pub fn model(plan: &Plan) -> Result<BertConfig, Error> {
    let config: BertConfig = plan.section("model")?.unwrap_or_default();
    config.check().map_err(|message| plan.invalid("model.hidden", message))?;
    Ok(config)
}

/// What the plan does with the model of its `model` section. No data is read, and no tensor of the
/// model's size is made. Without that section the model may be the user's own: patterns on names of
/// parameters are not held against any.
///
/// # Errors
/// What is wrong, with positions.
pub fn explain(plan: &Plan) -> Result<Explanation, Error> {
    // Neither the blocks nor the names depend on the widths.
    let narrow = BertConfig {
        hidden: 1,
        heads: 1,
        intermediate: Some(1),
        vocabulary: 1,
        max_positions: 1,
        ..model(plan)?
    };
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    Bert::new(variables.root(), &narrow, &layers);
    let mut parameters = Vec::new();
    if plan.config().value().get("model").is_some() {
        let named = variables.variables().into_iter();
        parameters.extend(named.map(|(name, tensor)| (name, tensor.size())));
        parameters.sort();
    }
    plan.explain(&layers, parameters)
}
