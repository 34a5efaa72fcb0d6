//! Programs with bytes that flipped and values that were made up: nothing panics, and nothing that is merely claimed is
//! allocated.
use crate::program_refusals::{load, loss, parts, write, write_text, x};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use tch::Device;
use tch::nn::VarStore;
use trainyard::program::{Program, is_program};

/// Runs a program that somehow loads; what comes out may be an error.
fn tried(loaded: Result<Program, String>) {
    if let Ok(program) = loaded {
        for train in [true, false] {
            let _ = program.forward(&[("x", x(2))], train);
        }
    }
}

/// A flipped bit anywhere in the file: it is refused in a sentence, or what loads is the same program. Checksums see to
/// that within the records, and what is held against the directory around them.
#[test]
fn flipped_bits_are_found_or_harmless() {
    let (model, weights, constants) = parts();
    let folder = write(&model, &weights, &constants);
    let path = folder.path().join("m.pt2");
    let whole = fs::read(&path).expect("the file");
    let (mut refused, mut harmless) = (0, 0);
    for (at, bit) in (0..whole.len()).map(|at| (at, at % 8)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).expect("a file");
        let _ = is_program(&path);
        match Program::load(&path, &VarStore::new(Device::Cpu)) {
            Ok(program) => {
                assert_eq!(loss(&program, x(5), true), Ok(2.0), "bit {bit} of byte {at}");
                harmless += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "byte {at}: {error}");
                refused += 1;
            }
        }
    }
    // Dates and the like are looked at by nobody.
    assert!(refused > 3 * harmless && harmless > 0, "{refused} refused, {harmless} not");
}

/// Texts with one character that is another, under a checksum that is right.
#[test]
fn texts_with_another_character() {
    let (model, weights, constants) = parts();
    let texts = [model.to_string(), weights.to_string()];
    let others = *b"09-\"{}[],\\.e\0\xff";
    let mut drawn = 1u32;
    for changed in 0..2 {
        for at in 0..texts[changed].len() {
            drawn = drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut bytes = texts.clone().map(String::into_bytes);
            bytes[changed][at] = others[(drawn >> 16) as usize % others.len()];
            tried(load(&write_text(&bytes[0], &bytes[1], &constants.to_string())));
        }
    }
}

/// Where values of a text lie.
fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    let inner: Vec<_> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => {
            list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in inner {
        // Names of weights have no slashes.
        pointers(value, &format!("{here}/{key}"), found);
    }
}

/// Every value of the model and of the list of its weights replaced, by one of another kind, by the largest number there
/// is and by none.
#[test]
fn values_that_were_made_up() {
    let others = [
        Value::Null,
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!("x"),
        json!([]),
        json!({}),
        json!({ "as_int": i64::MAX }),
        json!({ "as_ints": [i64::MAX, i64::MAX] }),
        json!({ "as_sym_int": { "as_name": "s7" } }),
        json!({ "as_tensors": [{ "name": "x" }, { "name": "p_w" }] }),
    ];
    let before = held();
    let mut met = 0;
    for changed in 0..2 {
        let (model, weights, constants) = parts();
        let texts = [model, weights];
        let mut found = Vec::new();
        pointers(&texts[changed], "", &mut found);
        for pointer in &found {
            for other in &others {
                let mut texts = texts.clone();
                *texts[changed].pointer_mut(pointer).expect("it is there") = other.clone();
                tried(load(&write(&texts[0], &texts[1], &constants)));
                met += 1;
            }
        }
    }
    assert!(met > 1000, "{met} of them");
    let taken = held().saturating_sub(before);
    assert!(taken < 512 << 20, "{taken} bytes");
}

/// Bytes of address space that this process had at most.
fn held() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Directories that claim more records, and records that claim more bytes, than the file has.
#[test]
fn what_a_directory_claims_is_not_allocated() {
    let (model, weights, constants) = parts();
    let folder = write(&model, &weights, &constants);
    let path = folder.path().join("m.pt2");
    let whole = fs::read(&path).expect("the file");
    let end = whole.len() - 22;
    let before = held();
    let refused = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&path, &bytes).expect("a file");
        let error = Program::load(&path, &VarStore::new(Device::Cpu)).map(drop).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    };
    // Counts of records, on this disk and in all.
    refused(&|bytes| bytes[end + 8..end + 12].fill(0xf0), "damaged or truncated zip archive");
    // Both sizes of each record, in the directory and before the record itself.
    let claim = |bytes: &mut Vec<u8>| {
        for at in 0..end {
            let sizes = match bytes[at..at + 4] {
                [b'P', b'K', 1, 2] => at + 20,
                [b'P', b'K', 3, 4] => at + 18,
                _ => continue,
            };
            bytes[sizes..sizes + 8].fill(0xf0);
        }
    };
    refused(&claim, "bytes, and the file has");
    let taken = held().saturating_sub(before);
    assert!(taken < 512 << 20, "{taken} bytes");
}

/// Lists and graphs in one another, as deep as a text may have them and deeper.
#[test]
fn nothing_is_too_deep() {
    let (model, weights, constants) = parts();
    let whole = model.to_string();
    let open = |text: &str| {
        let weights = weights.to_string();
        load(&write_text(text.as_bytes(), weights.as_bytes(), &constants.to_string()))
    };
    let guards = "\"guards_code\":[]";
    assert!(whole.contains(guards));
    let lists = format!("\"other\":{}{}", "[".repeat(200_000), "]".repeat(200_000));
    tried(open(&whole.replace(guards, &format!("{guards},{lists}"))));
    let node = |target: &str, inputs: &str| {
        format!(r#"{{"target": "{target}", "inputs": [{inputs}], "outputs": []}}"#)
    };
    let mut graphs = 0;
    for depth in 1..200 {
        let mut text = node("torch.ops.aten.no_such.default", "");
        for _ in 0..depth {
            let graph = format!(r#"{{"inputs": [], "outputs": [], "nodes": [{text}]}}"#);
            let on = r#"{"name": "", "arg": {"as_bool": true}}"#;
            let graph = format!(r#"{{"name": "", "arg": {{"as_graph": {{"graph": {graph}}}}}}}"#);
            let inputs = format!("{on}, {graph}");
            text = node("torch.ops.higher_order.wrap_with_set_grad_enabled", &inputs);
        }
        let all = "\"nodes\":[";
        let error = open(&whole.replace(all, &format!("{all}{text},"))).map(drop).unwrap_err();
        if error.contains("has no such operator") {
            graphs = depth;
        } else {
            assert!(
                error.contains("recursion limit exceeded") || error.contains("graphs lie in"),
                "{error}"
            );
        }
    }
    assert!(graphs > 5, "{graphs}");
}

/// A condition as long as one may write it is no deeper than the stack.
#[test]
fn conditions_are_no_longer_than_can_be_checked() {
    let (mut model, weights, constants) = parts();
    let long = format!("1{} > L['x'].size()[0]", "+1".repeat(30_000));
    *model.pointer_mut("/guards_code").expect("conditions") = json!([long]);
    let error = load(&write(&model, &weights, &constants)).map(drop).unwrap_err();
    assert!(
        error.ends_with("..., which cannot be checked: it has more than 250 operands"),
        "{error}"
    );
    assert!(error.len() < 400, "{error}");
}

/// What a graph asks for is libtorch's to refuse; its words are said with the node's.
#[test]
fn a_node_that_asks_for_too_much_is_named() {
    let (mut model, weights, constants) = parts();
    let made = json!({
        "target": "torch.ops.aten.empty.memory_format", "name": "made", "outputs": [{ "as_tensor": { "name": "made" } }],
        "inputs": [{ "name": "size", "arg": { "as_ints": [1i64 << 50] } }],
    });
    let nodes = model.pointer_mut("/graph_module/graph/nodes").expect("nodes");
    nodes.as_array_mut().expect("a list").push(made);
    let program = load(&write(&model, &weights, &constants)).expect("it loads");
    let error = loss(&program, x(2), true).unwrap_err();
    assert!(error.starts_with("node `made` (aten.empty.memory_format): "), "{error}");
    assert!(error.contains("allocate"), "{error}");
}

/// A file that another took the place of, in its own bytes, is not written with weights that are not its own.
#[test]
fn a_file_that_changed_is_not_written_again() {
    let (model, weights, constants) = parts();
    let folder = write(&model, &weights, &constants);
    let path = folder.path().join("m.pt2");
    let program = load(&folder).expect("it loads");
    let mut written = Vec::new();
    program.write(&mut written).expect("it is written");
    let whole = fs::read(&path).expect("the file");
    let at = whole.windows(4).position(|bytes| bytes == b"mean").expect("an operator");
    let mut changed = whole;
    changed[at] = b'M';
    // Of the same file, which is not truncated, so that its bytes are what is read.
    let mut file = fs::File::options().write(true).open(&path).expect("the file");
    file.write_all(&changed).expect("it is written");
    let error = program.write(&mut Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains("with its trained weights: record \"m/models/model.json\" is damaged"),
        "{error}"
    );
}
