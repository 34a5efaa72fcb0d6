//! What one rank takes, measured.
use super::{Args, write};
use crate::outline::registry;
use crate::output::print;
use std::path::Path;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use trainyard::{BoxError, World};
use trainyard_data::DataConfig;
use trainyard_figures::scaling::{Exchanger, Figures, Link, Pass, Profiler, SkipEverySecond};
use trainyard_models::pretraining::{check_length, model_config};

/// How many passes `--measure` makes at least.
const PASSES: usize = 5;

/// Measures on this rank, or on all that a launcher started; the first one writes.
pub fn measure(config: &Path, args: &Args) -> Result<ExitCode, BoxError> {
    let world = World::from_env()?;
    let mut overrides = args.overrides.clone();
    overrides.push("skip_every_second", true);
    overrides.push("progressive_layer_drop.enabled", false);
    let registry = registry().add::<SkipEverySecond>();
    // Each rank measures by itself.
    let plan = registry.plan_in(World::solo(), overrides.read(config)?)?;
    let model = model_config(&plan)?;
    let sizes = plan.batch_sizes(1)?;
    let sizes = sizes.ok_or_else(|| {
        plan.invalid("", "there is no batch size to measure; set train_micro_batch_size_per_gpu")
    })?;
    if sizes.accumulation > 1 {
        let message = format!(
            "a step of {} micro-batches cannot be measured: only the last one is sent while it is \
             computed; --set gradient_accumulation_steps=1 measures that one",
            sizes.accumulation
        );
        return Err(plan.invalid("gradient_accumulation_steps", message).into());
    }
    let data: DataConfig = plan.section("data")?.unwrap_or_default();
    let (batch, time) = (i64::try_from(sizes.micro_batch)?, i64::try_from(data.sequence_length)?);
    check_length(&plan)?;
    let exchanger = match world.world_size {
        1 => None,
        _ => Some(Exchanger::new(world.clone())?),
    };
    let mut profiler = Profiler::new(&plan, &model, batch, time)?;
    let passes = passes(&mut profiler, Duration::from_secs(args.seconds))?;
    let pass = Pass::median(&passes).ok_or("no pass was made")?;
    let link = match &exchanger {
        None => None,
        // After the first time, whose buffers are new, once more.
        Some(exchanger) => {
            exchanger.both()?;
            Some(Link::new(world.world_size, exchanger.both()?))
        }
    };
    if world.rank > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let about = format!(
        "measured: {} layers of {}, vocabulary {}, batch {batch} of {time} tokens, {} rank(s) side by \
         side with {} thread(s) each on {} processors, medians of {} steps",
        model.layers,
        model.hidden,
        model.vocabulary,
        world.world_size,
        tch::get_num_threads(),
        available_parallelism().map_or(1, usize::from),
        passes.len(),
    );
    let figures = Figures::new(about, sizes.micro_batch, profiler.units(), &pass, link);
    let text = serde_json::to_string_pretty(&figures)? + "\n";
    match &args.out {
        None => print(&text)?,
        Some(out) => write(out, &text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn passes(profiler: &mut Profiler, measuring: Duration) -> Result<Vec<Pass>, BoxError> {
    // Allocations, threads, caches.
    profiler.pass()?;
    let (began, mut passes) = (Instant::now(), Vec::new());
    while passes.len() < PASSES || began.elapsed() < measuring {
        passes.push(profiler.pass()?);
    }
    Ok(passes)
}
