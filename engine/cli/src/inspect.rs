//! `trainyard inspect`.
mod program;

use crate::output::{Format, grouped, print, width, wrapped};
use crate::script::repeats;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard::program::is_program;
use trainyard::script::{Argument, Modes, Outline, OutlineModule, Stack};

/// Show what is in a model from PyTorch: its modules, and which of them may be layers to drop
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard inspect bert.pt\n  \
    trainyard inspect bert.pt --layers 'bert.encoder.layer.*' --depth 3\n  \
    trainyard inspect bert.pt --format json")]
pub struct Args {
    /// TorchScript file, as torch.jit.save writes it, or a program of torch.export (.pt2)
    file: PathBuf,
    /// Show which modules this pattern would make layers. May be repeated
    #[arg(long, value_name = "PATTERN")]
    layers: Vec<String>,
    /// Count each call of a layer that is called more than once, as `script.repeated_layers` does
    #[arg(long, requires = "layers")]
    repeated_layers: bool,
    /// Show modules down to this depth; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    depth: Option<u32>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    if is_program(&args.file) {
        return program::run(&args);
    }
    let outline = Outline::read(&args.file)?;
    let gates = match args.layers.is_empty() {
        true => Vec::new(),
        false => outline.gates(&args.layers, repeats(args.repeated_layers))?,
    };
    print(&match args.format {
        Format::Human => text(&args, &outline, &gates, width()),
        Format::Json => serde_json::to_string_pretty(&as_json(&args, &outline, &gates))? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

type Gates = [(String, usize)];

fn text(args: &Args, outline: &Outline, gates: &Gates, width: usize) -> String {
    let mut text = format!("{}\n\n", args.file.display());
    text += &table(outline.modules(), args.depth, width);
    let mut rows =
        vec![("forward", arguments(outline.arguments())), ("mode", mode(&outline.modes()))];
    rows.push(("buffers", format!("{} elements", grouped(outline.buffers()))));
    rows.extend(outline.tied().iter().map(|(name, first)| ("tied", format!("{name} is {first}"))));
    let stacks = outline.stacks();
    rows.extend(of_stacks(&stacks));
    let patterns = args.layers.join(", ");
    rows.extend(
        gates.iter().map(|(name, stream)| {
            (("gated"), format!("{name} by {patterns}, on its input {stream}"))
        }),
    );
    text += &listed(rows, width);
    let proposed = if args.layers.is_empty() { proposed(outline, &stacks) } else { Vec::new() };
    for layers in &proposed {
        let section = json!({ "enabled": true, "layers": layers });
        text += &format!("\nTo drop layers:\n  \"progressive_layer_drop\": {section}\n");
    }
    text
}

/// A line for each module.
fn table(modules: &[OutlineModule], depth: Option<u32>, width: usize) -> String {
    let names = modules.iter().map(|module| shown(module).chars().count());
    let first = names.max().unwrap_or(0).min(width / 2);
    let line = |module: &OutlineModule| {
        let name = shown(module);
        let frozen = match module.frozen {
            0 => String::new(),
            n if n == module.parameters => ", frozen".to_owned(),
            n => format!(", {} of them frozen", grouped(n)),
        };
        let class = module.class.rsplit('.').next().unwrap_or_default();
        format!("{name:first$}  {:>13}  {class}{frozen}\n", grouped(module.parameters))
    };
    within(modules, depth).map(line).collect()
}

/// What else there is to say, each under its name, which stands once.
fn listed(rows: Vec<(&'static str, String)>, width: usize) -> String {
    let indent = 11;
    let mut above = "";
    let mut text = "\n".to_owned();
    for (name, line) in rows {
        let name = if name == std::mem::replace(&mut above, name) { "" } else { name };
        text += &format!("{name:indent$}{}\n", wrapped(&line, indent, width));
    }
    text
}

/// The stacks that can be skipped, each in a line, and for each reason those that cannot.
fn of_stacks(stacks: &[Stack]) -> Vec<(&'static str, String)> {
    if stacks.is_empty() {
        let why = "none: no alike modules lie side by side under numbers (0, 1, 2, ...); a recurrent \
                   network such as an LSTM is one operation, whatever its number of layers";
        return vec![("no layers", why.to_owned())];
    }
    let what = |stack: &Stack| {
        let class = stack.class.rsplit('.').next().unwrap_or_default();
        format!("\"{}\": {} {class}", stack.pattern, stack.count)
    };
    let mut rows = Vec::new();
    let mut refused: Vec<(&str, Vec<String>)> = Vec::new();
    for stack in stacks {
        let Some(why) = stack.refused.as_deref() else {
            let parameters = grouped(stack.parameters);
            rows.push(("layers", format!("{}, {parameters} parameters", what(stack))));
            continue;
        };
        // The name of the layer is in the reason.
        let why = why.split_once("`: ").map_or(why, |(_, why)| why);
        match refused.iter_mut().find(|(of, _)| *of == why) {
            Some((_, alike)) => alike.push(what(stack)),
            None => refused.push((why, vec![what(stack)])),
        }
    }
    rows.extend(
        refused.into_iter().map(|(why, of)| ("no layers", format!("{}: {why}", of.join(", ")))),
    );
    rows
}

/// What to write for `layers`: all stacks that can be skipped in one list, or, where they cannot be together, one
/// after the other. Where a pattern would match others too, the layers are listed by their names.
fn proposed(outline: &Outline, stacks: &[Stack]) -> Vec<Value> {
    let skipped = |layers: &[String]| outline.gates(layers, repeats(false)).is_ok();
    let written = |stack: &Stack| match &stack.refused {
        None => Some(vec![stack.pattern.clone()]),
        Some(_) => Some(stack.names.clone()).filter(|names| skipped(names)),
    };
    let mut each: Vec<_> = stacks.iter().filter_map(written).collect();
    // In the order of the model.
    let place = |layers: &Vec<String>| {
        let of = stacks.iter().find(|s| s.names == *layers || layers[..] == [s.pattern.clone()]);
        let first = of.and_then(|stack| stack.names.first());
        outline.modules().iter().position(|module| Some(&module.name) == first)
    };
    each.sort_by_key(place);
    let all = each.concat();
    let choices = if skipped(&all) { vec![all] } else { each };
    let choices = choices.into_iter().filter(|layers| !layers.is_empty());
    choices.map(|layers| if let [one] = &layers[..] { json!(one) } else { json!(layers) }).collect()
}

fn as_json(args: &Args, outline: &Outline, gates: &Gates) -> Value {
    let stacks = outline.stacks().into_iter().map(|stack| {
        json!({
            "pattern": stack.pattern,
            "names": stack.names,
            "class": stack.class,
            "count": stack.count,
            "parameters": stack.parameters,
            "refused": stack.refused,
        })
    });
    let modes = outline.modes();
    json!({
        "modules": modules_as_json(outline.modules(), args.depth),
        "arguments": arguments_as_json(outline.arguments()),
        "buffers": outline.buffers(),
        "tied": outline.tied(),
        "stacks": stacks.collect::<Vec<_>>(),
        "mode": { "always_train": modes.on, "never_train": modes.off, "follow": modes.switched },
        "gated": gates.iter().map(|(name, input)| json!({ "name": name, "input": input }))
            .collect::<Vec<_>>(),
    })
}

fn modules_as_json(modules: &[OutlineModule], depth: Option<u32>) -> Vec<Value> {
    let module = |module: &OutlineModule| {
        json!({
            "name": module.name,
            "class": module.class,
            "parameters": module.parameters,
            "frozen": module.frozen,
        })
    };
    within(modules, depth).map(module).collect()
}

fn arguments_as_json(arguments: &[Argument]) -> Vec<Value> {
    let argument = |argument: &Argument| json!({ "name": argument.name, "type": argument.kind, "optional": argument.optional });
    arguments.iter().map(argument).collect()
}

fn within(modules: &[OutlineModule], depth: Option<u32>) -> impl Iterator<Item = &OutlineModule> {
    let most = depth.map_or(usize::MAX, |depth| depth as usize);
    modules.iter().filter(move |module| level(module) <= most)
}

/// 0 for the model itself.
fn level(module: &OutlineModule) -> usize {
    match module.name.as_str() {
        "" => 0,
        name => name.split('.').count(),
    }
}

fn shown(module: &OutlineModule) -> String {
    match module.name.rsplit('.').next() {
        Some("") | None => "(the model)".to_owned(),
        Some(last) => format!("{:1$}{last}", "", 2 * level(module)),
    }
}

fn arguments(arguments: &[Argument]) -> String {
    let argument = |argument: &Argument| {
        let optional = if argument.optional { ", optional" } else { "" };
        format!("{} ({}{optional})", argument.name, argument.kind)
    };
    let arguments: Vec<_> = arguments.iter().map(argument).collect();
    if arguments.is_empty() { "takes nothing".to_owned() } else { arguments.join(", ") }
}

fn mode(modes: &Modes) -> String {
    let Modes { on, off, switched, freed, random } = *modes;
    let drawn = match random {
        0 => String::new(),
        _ => format!(
            "; operations that draw random numbers under no condition, in evaluation too: {random}"
        ),
    };
    let text = match (on, off, switched) {
        (0, 0, 0) => "nothing in it depends on training or evaluation".to_owned(),
        (0, 0, _) if freed > 0 => format!(
            "a trace in training mode; its dropouts and normalisations ({freed}) switch since it was loaded"
        ),
        (0, 0, _) => "switches between training and evaluation".to_owned(),
        _ => format!(
            "baked in by a trace: of the dropouts and normalisations, {on} always train, {off} never do, \
             {switched} switch; trace the model in training mode to have all of them switch"
        ),
    };
    text + &drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn modes_in_words() {
        let modes = |on, off, switched, freed| mode(&Modes { on, off, switched, freed, random: 0 });
        let random = mode(&Modes { freed: 1, switched: 1, random: 2, ..Modes::default() });
        assert!(random.ends_with(
            "operations that draw random numbers under no condition, in evaluation too: 2"
        ));
        assert!(modes(0, 0, 0, 0).starts_with("nothing"));
        assert!(modes(0, 0, 7, 0).starts_with("switches"));
        assert!(modes(0, 0, 7, 7).starts_with("a trace in training mode"));
        assert!(modes(3, 0, 0, 0).contains("normalisations, 3 always train, 0 never do"));
    }
}
