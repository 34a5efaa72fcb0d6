//! Data parallelism: many processes train one model, each on its share of every batch, on libtorch's c10d.
//!
//! [`cluster`] is the communicator that the engine averages gradients with. `rendezvous` is how the ranks
//! find one another, `handshake` how they make sure that they belong together, `address` where they listen,
//! `session` which of a launcher's runs they belong to, `holder` which process has a rank, `program` what
//! tells one build of the program from another, and `silence` who is missed after a failure.
mod address;
pub mod cluster;
pub mod config;
mod handshake;
mod holder;
mod program;
mod rendezvous;
mod session;
mod silence;

#[cfg(test)]
mod tests;

use cluster::Cluster;
use config::{Config, Distributed};
use std::time::Duration;
use tch::Kind;
use trainyard::{Averaging, BoxError, BuildContext, Context, Outline, Parts, PluginSpec, Section};

/// A configuration with this plugin.
pub const EXAMPLE: &str =
    r#"{ "distributed": { "timeout_seconds": 60 }, "communication_data_type": "bf16" }"#;

/// The keys `distributed`, `communication_data_type`, `prescale_gradients` and
/// `gradient_predivide_factor`; without any of them, what a launcher starts is connected all the same.
#[derive(Debug)]
pub struct DataParallel;

impl Section for DataParallel {
    const KEYS: &'static [&'static str] = &[
        "distributed",
        "communication_data_type",
        "prescale_gradients",
        "gradient_predivide_factor",
    ];
    const ALWAYS: bool = true;
    type Config = Config;

    fn outline(config: &Config, context: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        let world = &context.world;
        if world.world_size == 1 {
            if *config != Config::default() {
                outline.describe("nothing to average: one rank");
            }
            return Ok(());
        }
        let averaging = config.averaging();
        outline.describe(format!(
            "rank {} of {} {}; gradients are averaged in buckets of {} elements{}",
            world.rank,
            world.world_size,
            world.launcher,
            averaging.bucket_elements,
            ways(&averaging),
        ));
        outline.communicator()
    }
}

impl PluginSpec for DataParallel {
    fn build(config: &Config, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        let world = &context.run.world;
        if world.world_size > 1 {
            let Distributed { backend, timeout_seconds, .. } =
                config.distributed.clone().unwrap_or_default();
            let timeout = Duration::from_secs_f64(timeout_seconds);
            let cluster = Cluster::new(world.clone(), backend, timeout);
            parts.communicator(cluster, config.averaging());
        }
        Ok(())
    }
}

/// How gradients travel, where that is not as a rule.
fn ways(averaging: &Averaging) -> String {
    let kind = match averaging.kind {
        Some(Kind::Half) => ", in float16",
        Some(Kind::BFloat16) => ", in bfloat16",
        Some(_) => ", in float32",
        None => "",
    };
    let divided = averaging.predivide.map(|by| format!(", divided by {by} before they are summed"));
    kind.to_owned() + &divided.unwrap_or_default()
}
