//! Training of models that PyTorch exported.
mod config;
mod culprit;
mod inputs;
mod loss;
mod model;
mod run;
mod saved;

pub use config::ScriptConfig;
pub use run::run;

use trainyard::script::Repeats;

/// What becomes of layers with several calls, by whether each call was asked for.
pub fn repeats(each_call: bool) -> Repeats {
    match each_call {
        true => Repeats::EachCall,
        false => Repeats::Refused,
    }
}
