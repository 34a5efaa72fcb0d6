//! What is in a program of torch.export.
use super::{Args, arguments_as_json, grouped, listed, modules_as_json, table};
use crate::output::{Format, print, width};
use serde_json::{Value, json};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard::program::{Modes, Outline};

pub fn run(args: &Args) -> Result<ExitCode, BoxError> {
    if !args.layers.is_empty() {
        return Err("--layers: layers of a program of torch.export are not found yet; those of TorchScript are".into());
    }
    let outline = Outline::read(&args.file)?;
    print(&match args.format {
        Format::Human => text(args, &outline, width()),
        Format::Json => serde_json::to_string_pretty(&as_json(args, &outline))? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(args: &Args, outline: &Outline, width: usize) -> String {
    let mut rows: Vec<_> = outline.shapes().into_iter().map(|shape| ("forward", shape)).collect();
    rows.push(("mode", mode(&outline.modes())));
    rows.push(("operators", format!("{} calls", grouped(outline.calls() as u64))));
    rows.push(("buffers", format!("{} elements", grouped(outline.buffers()))));
    rows.extend(outline.tied().iter().map(|(name, first)| ("tied", format!("{name} is {first}"))));
    let table = table(outline.modules(), args.depth, width);
    format!("{}\n\n{table}{}", args.file.display(), listed(rows, width))
}

fn as_json(args: &Args, outline: &Outline) -> Value {
    let modes = outline.modes();
    json!({
        "modules": modules_as_json(outline.modules(), args.depth),
        "arguments": arguments_as_json(outline.arguments()),
        "shapes": outline.shapes(),
        "buffers": outline.buffers(),
        "tied": outline.tied(),
        "calls": outline.calls(),
        "mode": { "never_train": modes.off, "follow": modes.switched, "random": modes.random },
    })
}

fn mode(modes: &Modes) -> String {
    let Modes { switched, off, random } = *modes;
    let text = match (switched, off) {
        (0, 0) => "nothing in it depends on training or evaluation".to_owned(),
        (_, 0) => format!(
            "exported in training mode; its dropouts and normalisations ({switched}) are off in evaluation"
        ),
        _ => format!(
            "of its dropouts and normalisations, {off} never train and {switched} follow the mode: export it after \
             model.train() to have all of them follow"
        ),
    };
    match random {
        0 => text,
        _ => format!(
            "{text}; {random} operators draw random numbers in evaluation too, so that it cannot be evaluated"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_in_words() {
        let said = |switched, off, random| mode(&Modes { switched, off, random });
        assert!(said(0, 0, 0).starts_with("nothing"));
        assert!(said(3, 0, 0).ends_with("(3) are off in evaluation"));
        assert!(said(0, 2, 0).starts_with("of its dropouts and normalisations, 2 never train"));
        assert!(said(0, 0, 1).ends_with(
            "1 operators draw random numbers in evaluation too, so that it cannot be evaluated"
        ));
    }
}
