//! Which layer calls of a script can be skipped soundly, and which input is the residual stream.
use super::parts::lies_in;
use trainyard_config::{Pattern, did_you_mean};
use trainyard_native::{self as native, Call, Identity, Module};

/// What becomes of a layer that a forward calls more than once, as where layers share their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeats {
    /// It is refused: one name may mean several places.
    #[default]
    Refused,
    /// Each of its calls is a layer call of its own, with the layer's name.
    EachCall,
}

/// A call of a module that becomes a layer call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gate {
    pub name: String,
    pub identity: Identity,
    /// Index of the residual stream among the inputs of its forward.
    pub stream: usize,
}

/// Why a layer may run once in a forward.
pub(super) const TWICE: &str = "it is called more than once in one forward, which has to be asked for \
    (`repeated_layers`)";

/// The calls of the modules that `patterns` match, in the order of the forward.
///
/// # Errors
/// A pattern that matches nothing; a module that cannot be skipped soundly, with the reason.
pub(super) fn find(
    script: &native::Script,
    modules: &[Module],
    patterns: &[String],
    repeats: Repeats,
) -> Result<Vec<Gate>, String> {
    let chosen = choose(modules, patterns)?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    of_chosen(script, &chosen, repeats).map_err(|refused| {
        let others = others(script, chosen, refused.module, repeats);
        refused.why + &others
    })
}

/// A module that cannot be skipped, by its index, and why.
struct Refused {
    module: Option<usize>,
    why: String,
}

fn of_chosen(
    script: &native::Script,
    chosen: &[&Module],
    repeats: Repeats,
) -> Result<Vec<Gate>, Refused> {
    let identities: Vec<_> = chosen.iter().map(|module| module.identity).collect();
    let unread = |error: native::Error| Refused { module: None, why: error.0 };
    let calls = script.calls(&identities).map_err(unread)?;
    let names: Vec<_> = chosen.iter().map(|module| module.name.as_str()).collect();
    let streams = judge(&names, &calls, repeats)?;
    let gate = |(index, stream): (usize, usize)| {
        let module: &Module = chosen[index];
        Gate { name: module.name.clone(), identity: module.identity, stream }
    };
    Ok(streams.into_iter().map(gate).collect())
}

/// How many modules are left out in search of those that can be skipped.
const MOST_REFUSED: usize = 4;
/// How many names a message has.
const MOST_NAMED: usize = 4;

/// What to say of the other modules of `chosen` where the one at `refused` cannot be skipped and they can.
fn others(
    script: &native::Script,
    mut chosen: Vec<&Module>,
    mut refused: Option<usize>,
    repeats: Repeats,
) -> String {
    for _ in 0..MOST_REFUSED {
        let Some(module) = refused else { break };
        chosen.remove(module);
        if chosen.is_empty() {
            break;
        }
        match of_chosen(script, &chosen, repeats) {
            Ok(_) => return named(&chosen),
            Err(error) => refused = error.module,
        }
    }
    String::new()
}

fn named(modules: &[&Module]) -> String {
    let names: Vec<_> =
        modules.iter().take(MOST_NAMED).map(|module| format!("{:?}", module.name)).collect();
    let more = match modules.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    format!("; the others can be: name {}{more}", names.join(", "))
}

/// The modules with a forward that `patterns` match.
fn choose<'m>(modules: &'m [Module], patterns: &[String]) -> Result<Vec<&'m Module>, String> {
    let mut chosen = vec![false; modules.len()];
    for text in patterns {
        let pattern = Pattern::new(text);
        let matched: Vec<_> =
            (0..modules.len()).filter(|&i| pattern.matches(&modules[i].name)).collect();
        let runs: Vec<_> = matched.iter().copied().filter(|&i| modules[i].forward).collect();
        match (matched.first(), runs.is_empty()) {
            (None, _) => return Err(no_match(text, modules)),
            (Some(&first), true) => {
                let name = &modules[first].name;
                return Err(format!(
                    "pattern {text:?} matches `{name}`, which only holds others and is never called; \
                     \"{name}.*\" matches what it holds"
                ));
            }
            _ => runs.into_iter().for_each(|i| chosen[i] = true),
        }
    }
    let chosen: Vec<_> =
        modules.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(m, _)| m).collect();
    for inner in &chosen {
        if let Some(outer) = chosen.iter().find(|outer| lies_in(&inner.name, &outer.name)) {
            return Err(format!(
                "the patterns match `{}` and, inside of it, `{}`: two gates would lie around one \
                 another; keep one of them",
                outer.name, inner.name
            ));
        }
    }
    Ok(chosen)
}

fn no_match(pattern: &str, modules: &[Module]) -> String {
    let there = modules.iter().filter(|module| module.forward && !module.name.is_empty());
    let names: Vec<_> = there.map(|module| module.name.as_str()).collect();
    // `a.b.*` where there are `a.c.0` and `a.c.1`: the nearest is found without the numbers.
    let near = did_you_mean(pattern, names.iter().copied())
        .map(|name| format!("; did you mean {:?}?", numbers_starred(name)))
        .unwrap_or_default();
    let mut kinds: Vec<String> = Vec::new();
    for name in names {
        let starred = numbers_starred(name);
        if !kinds.contains(&starred) {
            kinds.push(starred);
        }
    }
    let listed = match kinds.len() {
        0 => {
            return format!(
                "pattern {pattern:?} matches nothing: the script has no modules inside"
            );
        }
        1..=30 => kinds.join(", "),
        n => format!("{}, and {} more", kinds[..30].join(", "), n - 30),
    };
    format!("pattern {pattern:?} matches nothing{near}; there are {listed}")
}

/// `encoder.layer.3.output` as `encoder.layer.*.output`.
pub(super) fn numbers_starred(name: &str) -> String {
    let star =
        |part: &str| if part.parse::<u64>().is_ok() { "*".to_owned() } else { part.to_owned() };
    name.split('.').map(star).collect::<Vec<_>>().join(".")
}

/// From all calls of the modules `names`, in the order of the code: those that are layer calls, each as its
/// module's index and the input that is the residual stream. Calls in branches, of which one may run, are one.
fn judge(names: &[&str], calls: &[Call], repeats: Repeats) -> Result<Vec<(usize, usize)>, Refused> {
    let refused = |module: usize, why: &str| {
        let why = format!("`{}` cannot be skipped: {why}", names[module]);
        Refused { module: Some(module), why }
    };
    let each = repeats == Repeats::EachCall;
    let calls = &without_helpers(names, calls);
    for (index, name) in names.iter().enumerate() {
        let of_it: Vec<_> = calls.iter().filter(|call| call.module == index).collect();
        let plain = of_it.iter().filter(|call| !call.conditional).count();
        if of_it.is_empty() {
            let why = format!("`{name}` is never called in the forward");
            return Err(Refused { module: Some(index), why });
        }
        if let Some(other) = of_it.iter().find(|call| !is_forward(&call.method)) {
            let why =
                format!("its method `{}` is called, and only `forward` is gated", other.method);
            return Err(refused(index, &format!("{why}{}", at(other))));
        }
        // Of calls in branches one may run; a forward that meets two says so then.
        if each && plain > 0 && plain < of_it.len() {
            let why = "some of its calls stand in branches of a condition, so that nobody knows how many there are";
            return Err(refused(index, why));
        }
        if !each && (plain > 1 || plain == 1 && of_it.len() > 1) {
            let error = format!("{} places call it{}", of_it.len(), at(of_it[1]));
            return Err(refused(index, &format!("{TWICE}: {error}")));
        }
    }
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        let here = |why: String| refused(call.module, &format!("{why}{}", at(call)));
        sound(call, each).map_err(here)?;
        let stream = stream(names, calls, place, each).map_err(here)?;
        match found.iter().find(|(module, _)| *module == call.module) {
            None => found.push((call.module, stream)),
            Some((_, other)) if *other == stream => {
                if each && !call.conditional {
                    found.push((call.module, stream));
                }
            }
            Some(_) => {
                return Err(refused(
                    call.module,
                    "its calls have the residual stream at different places",
                ));
            }
        }
    }
    Ok(found)
}

/// The calls but for those of a layer's other methods by its own forward, which are inside of it. A stream that comes
/// from one of them comes from the layer.
fn without_helpers(names: &[&str], calls: &[Call]) -> Vec<Call> {
    let mut kept: Vec<Call> = Vec::new();
    let mut places: Vec<Option<usize>> = Vec::new();
    for call in calls {
        if !is_forward(&call.method) && call.caller == names[call.module] {
            places.push(kept.iter().rposition(|outer| outer.module == call.module));
            continue;
        }
        let mut call = call.clone();
        for input in &mut call.inputs {
            input.from = input.from.and_then(|from| places[from]);
        }
        places.push(Some(kept.len()));
        kept.push(call);
    }
    kept
}

/// A trace has a method of its own for each further call of a module: `forward1`.
fn is_forward(method: &str) -> bool {
    method
        .strip_prefix("forward")
        .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn at(call: &Call) -> String {
    match (call.place.as_str(), call.caller.as_str()) {
        ("", "") => " (called by the script itself)".to_owned(),
        ("", caller) => format!(" (called by `{caller}`)"),
        (place, "") => format!(" (called at {place})"),
        (place, caller) => format!(" (called by `{caller}` at {place})"),
    }
}

/// What has to hold whatever the stream is.
fn sound(call: &Call, each: bool) -> Result<(), String> {
    if call.looped {
        return Err(match each {
            true => "it stands in a loop, so that nobody knows how often it is called".to_owned(),
            false => format!("{TWICE}: it stands in a loop"),
        });
    }
    if call.forked {
        return Err("it runs on a thread of its own (torch.jit.fork)".to_owned());
    }
    if call.threads {
        return Err("the script does something on other threads (torch.jit.fork), and what comes after it is waited for \
            may run on any of them"
            .to_owned());
    }
    if !call.assigned.is_empty() {
        return Err(format!(
            "it assigns its attribute `{}`, which other code reads and a skipped layer would leave as it was",
            call.assigned
        ));
    }
    if let Some(changed) = call.inputs.iter().position(|input| input.written) {
        return Err(match call.inputs[changed].tensor {
            true => format!(
                "it changes its input {changed} in place, so that what comes before it is lost"
            ),
            false => format!(
                "it changes its input {changed}, which a skipped layer would leave as it was"
            ),
        });
    }
    if !call.streams {
        return Err(format!(
            "it returns {}, and a layer returns a tensor, or a tuple that begins with one",
            call.output
        ));
    }
    if call.rest_used && !call.rest_optional {
        return Err(format!(
            "it returns {}, and what is behind the first item is used, which a skipped layer has not",
            call.output
        ));
    }
    Ok(())
}

/// The input of `calls[place]` that is the residual stream: what the layer before it returned, or, for the
/// first one, the only input that the layer adds something to.
fn stream(names: &[&str], calls: &[Call], place: usize, each: bool) -> Result<usize, String> {
    let call = &calls[place];
    let before = (0..place).rev().find(|&other| {
        let another = calls[other].module != call.module || each && !call.conditional;
        calls[other].visit == call.visit && another
    });
    let indices = |test: &dyn Fn(&native::CallInput) -> bool| -> Vec<usize> {
        let inputs = call.inputs.iter().enumerate();
        inputs.filter(|(_, input)| input.tensor && test(input)).map(|(i, _)| i).collect()
    };
    let chained = indices(&|input| before.is_some() && input.from == before);
    let summed = indices(&|input| input.residual);
    // The first layer of a decoder, as a rule, gets what the last one of an encoder returns, and so do others.
    let shared = calls.iter().enumerate().any(|(other, another)| {
        other != place
            && another.visit == call.visit
            && another.inputs.iter().any(|input| before.is_some() && input.from == before)
    });
    let stream = match (&chained[..], &summed[..]) {
        ([one], _) if call.inputs[*one].residual => *one,
        ([], [one]) => *one,
        ([_], [one]) if shared => *one,
        ([chained], [one]) => {
            return Err(format!(
                "input {one} is added to what it returns, and what the layer before it returns is its input \
                 {chained}, which would be lost without it"
            ));
        }
        ([one], _) => *one,
        (many, _) if many.len() > 1 => {
            return Err(
                "what the layer before it returns is more than one of its inputs".to_owned()
            );
        }
        (_, []) => return Err(NO_RESIDUAL.to_owned()),
        // Two inputs are summed into the output, as a decoder's own stream and a bias: others of this
        // stack tell which it is.
        (_, several) => {
            let of_next = (place + 1..calls.len()).find_map(|next| {
                let inputs = &calls[next].inputs;
                inputs.iter().position(|input| input.from == Some(place) && input.residual)
            });
            match of_next.filter(|index| several.contains(index)) {
                Some(index) => index,
                None => {
                    return Err(format!(
                        "inputs {several:?} are all added to what it returns, and none of them comes \
                         from a gated layer, so that the residual stream cannot be told"
                    ));
                }
            }
        }
    };
    let input = call.inputs[stream];
    if !input.residual {
        let from = before.map(|other| names[calls[other].module]).unwrap_or_default();
        return Err(format!("{NO_RESIDUAL}; its input {stream} comes from `{from}`"));
    }
    Ok(stream)
}

const NO_RESIDUAL: &str = "what it returns is not one of its inputs plus something (its shortcut, if it has \
    one, is not the identity), so that nothing could stand for its output where it is skipped; name a module \
    that holds the residual addition";

/// Why an output does not fit.
pub(super) fn shapes(x: &[i64], output: &[i64]) -> String {
    format!(
        "a layer returns what has the shape of its input: {x:?} went in and {output:?} came out"
    )
}
