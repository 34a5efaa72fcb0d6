//! Programs that cannot be read or run, written record by record: one sentence each, which names what it is about.
use serde_json::{Value, json};
use std::fs;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use trainyard::program::{Program, is_program};
use trainyard_tests::Made;
use trainyard_tests::archives::archive;

/// The model, and the lists of its weights and constants, as torch.export.save writes them: `mean(x * w)`, with a `w` of
/// three numbers.
pub fn parts() -> (Value, Value, Value) {
    let tensor = |name: &str| json!({ "as_tensor": { "name": name } });
    let symbol = json!({ "as_expr": { "expr_str": "Symbol('s7', positive=True, integer=True)" } });
    let int = |number: i64| json!({ "as_int": number });
    let meta = |sizes: Value, strides: Value| {
        json!({
            "dtype": 7, "sizes": sizes, "strides": strides, "storage_offset": int(0), "layout": 7,
            "requires_grad": true, "device": { "type": "cpu", "index": null },
        })
    };
    let metadata = json!({
        "stack_trace": "File \"/models/net.py\", line 12, in forward\n    x * self.w",
        "nn_module_stack": "L__self__,,net.Net;L__self__inner,inner,net.Inner",
    });
    let node = |target: &str, inputs: Value, output: &str| {
        json!({
            "target": target, "inputs": inputs, "outputs": [tensor(output)], "metadata": metadata, "name": output,
        })
    };
    let given = |name: &str, arg: Value| json!({ "name": name, "arg": arg, "kind": 1 });
    let model = json!({
        "graph_module": {
            "graph": {
                "inputs": [tensor("p_w"), tensor("x")],
                "outputs": [tensor("mean")],
                "nodes": [
                    node("torch.ops.aten.mul.Tensor", json!([given("self", tensor("x")), given("other", tensor("p_w"))]), "mul"),
                    node("torch.ops.aten.mean.default", json!([given("self", tensor("mul"))]), "mean"),
                ],
                "tensor_values": {
                    "x": meta(json!([symbol, int(3)]), json!([int(3), int(1)])),
                },
            },
            "signature": {
                "input_specs": [
                    { "parameter": { "arg": { "name": "p_w" }, "parameter_name": "inner.w" } },
                    { "user_input": { "arg": tensor("x") } },
                ],
                "output_specs": [{ "user_output": { "arg": tensor("mean") } }],
            },
            "module_call_graph": [],
        },
        "range_constraints": { "s7": { "min_val": 2, "max_val": 8 } },
        "schema_version": { "major": 8, "minor": 17 },
        "verifiers": ["TRAINING"],
        "torch_version": "2.11.0",
        "guards_code": [],
    });
    let weight = json!({
        "path_name": "weight_0", "is_param": true, "use_pickle": false,
        "tensor_meta": meta(json!([int(3)]), json!([int(1)])),
    });
    (model, json!({ "config": { "inner.w": weight } }), json!({ "config": {} }))
}

pub fn write(model: &Value, weights: &Value, constants: &Value) -> TempDir {
    let [model, weights, constants] = [model, weights, constants].map(Value::to_string);
    write_text(model.as_bytes(), weights.as_bytes(), &constants)
}

/// The same of texts, which may be no JSON.
pub fn write_text(model: &[u8], weights: &[u8], constants: &str) -> TempDir {
    let numbers = [1f32, 2.0, 3.0].map(f32::to_le_bytes).concat();
    let records = [
        ("m/models/model.json", model),
        ("m/data/weights/model_weights_config.json", weights),
        ("m/data/weights/weight_0", &numbers),
        ("m/data/constants/model_constants_config.json", constants.as_bytes()),
        ("m/archive_format", b"pt2"),
        ("m/byteorder", b"little"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.pt2"), archive(&records, None)).expect("a file");
    folder
}

pub fn load(folder: &TempDir) -> Result<Program, String> {
    let path = folder.path().join("m.pt2");
    assert!(is_program(&path));
    Program::load(&path, &VarStore::new(Device::Cpu)).map_err(|error| {
        let said = error.to_string();
        let (_, said) = said.split_once("m.pt2: ").expect("an error names the file");
        said.to_owned()
    })
}

pub fn x(rows: i64) -> Tensor {
    Tensor::ones([rows, 3], (Kind::Float, Device::Cpu))
}

pub fn loss(program: &Program, x: Tensor, train: bool) -> Result<f64, String> {
    let outputs = program.forward(&[("x", x)], train).map_err(|error| error.to_string())?;
    Ok(outputs.at(0).expect("an output").double_value(&[]))
}

#[test]
fn what_is_written_here_runs() {
    let (model, weights, constants) = parts();
    let program = load(&write(&model, &weights, &constants)).unwrap();
    assert_eq!(loss(&program, x(5), true), Ok(2.0));
    assert_eq!(loss(&program, x(1), false), Ok(2.0), "a range that begins at 2 binds nobody");
    let error = loss(&program, x(9), true).unwrap_err();
    assert_eq!(error, "input `x` is 9 along axis 0, and the program was exported for 1 to 8");
    let error = program.forward(&[("y", x(3))], true).map(drop).unwrap_err().to_string();
    assert_eq!(error, "the forward needs `x`, of type Tensor, which is not among the inputs");
}

/// Each change of the model at a pointer, and what it brings about.
#[test]
fn models_that_are_refused() {
    const NODE: &str = "/graph_module/graph/nodes/0";
    const WHERE: &str = "of module `inner` at net.py:12: ";
    let target = format!("{NODE}/target");
    let argument = |number: usize| format!("{NODE}/inputs/{number}/arg");
    let spec = "/graph_module/signature/input_specs/0".to_owned();
    let cases: Vec<(String, Value, String)> = vec![
        (target.clone(), json!("torch.ops.aten.no_such.default"),
         format!("node `mul` (aten.no_such.default) {WHERE}this libtorch (2.11) has no such operator")),
        (target.clone(), json!("torch.ops.mylib.twice.default"),
         format!("node `mul` (mylib.twice.default) {WHERE}`mylib` has operators of its own, which are not PyTorch's: export the \
                  model with what `torch` has")),
        (target.clone(), json!("torch.ops.higher_order.cond"),
         format!("node `mul` (higher_order.cond) {WHERE}`cond` runs a part of the model as often as data says, or another way, \
                  which is not read: export the model without it")),
        (target.clone(), json!("torch.ops.aten.from_file.default"),
         format!("node `mul` (aten.from_file.default) {WHERE}it opens files, which no model may")),
        (target.clone(), json!("os.system"),
         format!("node `mul` (os.system) {WHERE}it is a function of Python's that is not known here")),
        (target.clone(), json!("torch.ops.aten.mul_.Tensor"),
         "runs, for it writes to the input".to_owned()),
        (format!("{NODE}/inputs/0/name"), json!("other"),
         format!("node `mul` (aten.mul.Tensor) {WHERE}`other` is given twice")),
        (format!("{NODE}/inputs/0/name"), json!("left"),
         format!("node `mul` (aten.mul.Tensor) {WHERE}this libtorch's operator takes no `left`")),
        (format!("{NODE}/inputs"), json!([]),
         format!("node `mul` (aten.mul.Tensor) {WHERE}`self` (Tensor) is missing")),
        (argument(0), json!({ "as_tensor": { "name": "later" } }),
         format!("node `mul` (aten.mul.Tensor) {WHERE}`self`: nothing before it makes `later`")),
        (argument(0), json!({ "as_string": "text" }),
         format!("node `mul` (aten.mul.Tensor) {WHERE}`self` is Tensor, and a text was given")),
        (argument(0), json!({ "as_custom_obj": { "name": "o", "class_fqn": "my.Class" } }),
         format!("node `mul` (aten.mul.Tensor) {WHERE}`self`: an object of class my.Class is not read")),
        ("/graph_module/graph/nodes/1/outputs/0/as_tensor/name".to_owned(), json!("mul"),
         "node `mean` (aten.mean.default) of module `inner` at net.py:12: `mul` is made twice".to_owned()),
        ("/graph_module/signature/output_specs/0/user_output/arg/as_tensor/name".to_owned(), json!("no"),
         "nothing makes the output `no`".to_owned()),
        (format!("{spec}/parameter/parameter_name"), json!("inner.v"),
         "the archive has no values of parameter `inner.v`".to_owned()),
        (spec.clone(), json!({ "token": { "arg": { "name": "t" } } }),
         "the program has operators with effects, such as printing, which are not run".to_owned()),
        ("/graph_module/signature/output_specs/0".to_owned(),
         json!({ "buffer_mutation": { "arg": { "name": "mul" }, "buffer_name": "b" } }),
         "the program writes buffer `b` behind its graph, as a lowered one does; save it as it is exported, without \
          run_decompositions".to_owned()),
        ("/schema_version/major".to_owned(), json!(9),
         "the program has schema version 9.17 (PyTorch 2.11.0), and 8.x is read, which PyTorch 2.11 writes: export it with \
          that one".to_owned()),
        ("/verifiers".to_owned(), json!(["ATEN"]),
         "the program was lowered after it was exported (it keeps the rules of ATEN, not of TRAINING), so that it computes no \
          gradients as the model does: save what torch.export.export(model, ...) returns with torch.export.save, without \
          run_decompositions".to_owned()),
        ("/guards_code".to_owned(), json!(["L['x'].stride()[0] == 3"]),
         "the program holds only where L['x'].stride()[0] == 3, which cannot be checked: `()[0] == 3` is not known \
          here".to_owned()),
        (format!("{NODE}/inputs"), json!("none"),
         "record \"m/models/model.json\" is not as torch.export writes it: graph_module.graph.nodes[0].inputs: invalid type: \
          string \"none\", expected a sequence".to_owned()),
    ];
    for (pointer, value, expected) in cases {
        let (mut model, weights, constants) = parts();
        *model.pointer_mut(&pointer).expect("it is there") = value.clone();
        let said = match load(&write(&model, &weights, &constants)) {
            Ok(program) => {
                // What is written is a copy of the caller's.
                let given = x(2);
                loss(&program, given.shallow_clone(), true).expect("it runs");
                assert_eq!(given, x(2));
                "runs, for it writes to the input".to_owned()
            }
            Err(said) => said.split(" at line ").next().unwrap_or_default().to_owned(),
        };
        assert_eq!(said, expected, "{pointer} = {value}");
    }
}

/// A program whose graph writes its parameter.
#[test]
fn a_parameter_is_written_by_nobody_else() {
    let (mut model, weights, constants) = parts();
    let node = model.pointer_mut("/graph_module/graph/nodes/0").expect("a node");
    node["target"] = json!("torch.ops.aten.mul_.Tensor");
    node["inputs"][0]["arg"]["as_tensor"]["name"] = json!("p_w");
    node["inputs"][1]["arg"]["as_tensor"]["name"] = json!("x");
    let error = load(&write(&model, &weights, &constants)).map(drop).unwrap_err();
    assert_eq!(
        error,
        "node `mul` (aten.mul_.Tensor) of module `inner` at net.py:12 writes parameter `inner.w`, which only the optimizer \
         may: write to a copy of it"
    );
}

/// What a list of weights may claim.
#[test]
fn weights_that_are_refused() {
    let most = i64::MAX;
    let ints =
        |numbers: &[i64]| -> Value { numbers.iter().map(|n| json!({ "as_int": n })).collect() };
    let reaches = |sizes: &str, strides: &str, offset: i64| {
        format!(
            "`inner.w`: of sizes {sizes}, strides {strides} and offset {offset} it reaches beyond the 3 numbers of its record"
        )
    };
    for (changes, expected) in [
        (vec![("tensor_meta/sizes", ints(&[4]))], reaches("[4]", "[1]", 0)),
        (vec![("tensor_meta/strides", ints(&[2]))], reaches("[3]", "[2]", 0)),
        (vec![("tensor_meta/storage_offset", json!({ "as_int": 1 }))], reaches("[3]", "[1]", 1)),
        (vec![("tensor_meta/storage_offset", json!({ "as_int": most }))], reaches("[3]", "[1]", most)),
        (vec![("tensor_meta/sizes", ints(&[most]))], reaches(&format!("[{most}]"), "[1]", 0)),
        (
            vec![("tensor_meta/sizes", ints(&[1 << 40])), ("tensor_meta/strides", ints(&[0]))],
            "`inner.w`: its sizes [1099511627776] repeat the 3 numbers of its record too often to be copied; export it after \
             `.contiguous()`"
                .to_owned(),
        ),
        (
            vec![("tensor_meta/sizes", ints(&[-1]))],
            "`inner.w`: it has a size, stride or offset of -1".to_owned(),
        ),
        (
            vec![("tensor_meta/sizes", ints(&[1, 3]))],
            "`inner.w`: it has 2 sizes and 1 strides".to_owned(),
        ),
        (
            vec![("tensor_meta/dtype", json!(99))],
            "`inner.w`: it is of type 99 of the schema, which is not read".to_owned(),
        ),
        (
            vec![("tensor_meta/layout", json!(1))],
            "`inner.w`: it is sparse or of another layout; export the model with dense tensors".to_owned(),
        ),
        (
            vec![("path_name", json!("weight_1"))],
            "`inner.w`: the archive has no record \"m/data/weights/weight_1\"".to_owned(),
        ),
        (
            vec![("path_name", json!("../../../secret"))],
            "`inner.w`: the archive has no record \"m/data/weights/../../../secret\"".to_owned(),
        ),
        (
            vec![("use_pickle", json!(true))],
            "`inner.w`: it is stored as a pickle, which is not opened: tensors of classes of their own, as quantized or \
             distributed ones, are; export the model with plain tensors"
                .to_owned(),
        ),
    ] {
        let (model, mut weights, constants) = parts();
        for (pointer, value) in &changes {
            let at = format!("/config/inner.w/{pointer}");
            *weights.pointer_mut(&at).expect("it is there") = value.clone();
        }
        let said = load(&write(&model, &weights, &constants)).map(drop).unwrap_err();
        assert_eq!(said, expected, "{changes:?}");
    }
}

/// A file that ends anywhere is no program, and says so; nothing panics.
#[test]
fn truncated_archives() {
    let (model, weights, constants) = parts();
    let folder = write(&model, &weights, &constants);
    let whole = fs::read(folder.path().join("m.pt2")).expect("the file");
    let cut = folder.path().join("cut.pt2");
    for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        fs::write(&cut, &whole[..length]).expect("a file");
        let error = Program::load(&cut, &VarStore::new(Device::Cpu)).map(drop).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("damaged or truncated zip archive") || error.contains("this is "),
            "{length}: {error}"
        );
    }
}

/// Files of other kinds, and one whose saving failed.
#[test]
fn files_without_a_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.pt2");
    for (records, expected) in [
        (
            vec![("m/archive_format", &b"pt2"[..])],
            "the archive has no \"m/models/model.json\", as one whose saving failed has none; ",
        ),
        (
            vec![("serialized_exported_program.json", b"{}")],
            "this is a program of torch.export as PyTorch before 2.8 wrote it; ",
        ),
        (
            vec![("m/models/model.json", b"{}"), ("m/byteorder", b"big")],
            "its numbers are stored \"big\" endian",
        ),
        (
            vec![("m/models/model.json", b"{}")],
            "record \"models/model.json\" is not as torch.export writes it: missing field `schema_version`",
        ),
        (
            vec![("m/models/model.json", b"{}"), ("other/x", b"")],
            "record \"other/x\" lies outside of the archive's folder \"m\"",
        ),
    ] {
        fs::write(&path, archive(&records, None)).expect("a file");
        let error = Program::load(&path, &VarStore::new(Device::Cpu)).map(drop).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// What PyTorch itself exports and nobody here can run.
#[test]
fn models_of_pytorch_that_are_refused() {
    for (name, parts) in [
        ("branch", &["`cond` runs a part", "programs.py:", "of module `part`"][..]),
        ("custom", &["`trainyard_tests` has operators of its own", "of module `part`"]),
        ("lowered", &["the program was lowered", "without run_decompositions"]),
    ] {
        let made = Made::exported(name);
        let error = Program::load(&made.path(), &VarStore::new(Device::Cpu)).map(drop).unwrap_err();
        let error = error.to_string();
        for part in parts {
            assert!(error.contains(part), "{name}: {part:?} is not in {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
