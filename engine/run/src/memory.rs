//! Whether what a run needs fits into memory, told before it is asked for.
use crate::RunError;
use tch::Device;
use trainyard::{Engine, Plan};
use trainyard_data::check_memory;

/// Gradients and the optimizer's state fit into the machine's memory, those of all its ranks.
///
/// # Errors
/// If not.
pub fn check_state<M>(engine: &Engine<M>, plan: &Plan, device: Device) -> Result<(), RunError> {
    let what = "what training adds to the model (gradients, optimizer state)";
    check_fits(plan, device, what, engine.bytes_to_come())
}

/// So many bytes on each rank fit into the machine's memory, where that is the device.
pub fn check_fits(plan: &Plan, device: Device, what: &str, bytes: u64) -> Result<(), RunError> {
    if device != Device::Cpu {
        return Ok(());
    }
    let ranks = plan.world().local_world_size.unwrap_or(1) as u64;
    let what = match ranks {
        1 => what.to_owned(),
        ranks => format!("{what} on {ranks} ranks of this machine"),
    };
    let remedy =
        "train a smaller model, by an optimizer of less state, or on fewer ranks of a machine";
    Ok(check_memory(what, bytes.saturating_mul(ranks), remedy)?)
}
