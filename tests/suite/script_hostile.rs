//! TorchScript files made to harm: what their pickles and their code claim is held against what is there, before
//! libtorch reads them.
use std::fs;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use trainyard::Layers;
use trainyard::script::{Repeats, Script};
use trainyard_tests::archives::{archive, global, int, object, tensor, text, tuple};

const CODE: &str = r#"class C(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  number : int
  def forward(self: __torch__.C,
    x: Tensor) -> Tensor:
    number = self.number
    return torch.mul(x, number)
class Other(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Other,
    x: Tensor) -> Tensor:
    return x
class M(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  training : bool
  child : __torch__.C
  pair : Tuple[int, int]
  def forward(self: __torch__.M,
    x: Tensor) -> Tensor:
    weight = self.weight
    child = self.child
    return (child).forward(torch.mul(x, weight), )
"#;

/// A folder with a file of that code and module, whose tensors lie in a record of 16 bytes.
fn written(code: &str, module: &[u8]) -> TempDir {
    let pickle = [b"\x80\x02", module, b"."].concat();
    let records = [
        ("m/data.pkl", &*pickle),
        ("m/data/0", &[0; 16]),
        ("m/code/__torch__.py", code.as_bytes()),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/version", b"3\n"),
    ];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.pt"), archive(&records, None)).unwrap();
    folder
}

fn load(folder: &Path) -> Result<Script, String> {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    Script::load(&folder.join("model.pt"), &variables, &layers, &[], Repeats::Refused)
        .map_err(|e| e.to_string())
}

/// A module of two by two weights.
fn honest() -> Vec<u8> {
    module(&tensor("0", 4, 0, &[2, 2], &[2, 1]), &child(&int(2)), &pair())
}

fn module(weight: &[u8], child: &[u8], pair: &[u8]) -> Vec<u8> {
    let truth = b"\x88";
    object("M", &[("weight", weight), ("training", truth), ("child", child), ("pair", pair)])
}

/// What loading says of that module; `weight`, `child` and `pair` are its attributes.
fn said(weight: &[u8], child: &[u8], pair: &[u8]) -> String {
    match load(written(CODE, &module(weight, child, pair)).path()) {
        Ok(_) => "loaded".to_owned(),
        Err(error) => error,
    }
}

fn child(number: &[u8]) -> Vec<u8> {
    object("C", &[("training", b"\x88"), ("number", number)])
}

fn pair() -> Vec<u8> {
    tuple(&[int(1), int(2)])
}

fn with_weight(weight: &[u8]) -> String {
    said(weight, &child(&int(2)), &pair())
}

#[test]
fn an_honest_file_of_that_make_runs() {
    let folder = written(CODE, &honest());
    let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
    let outputs = load(folder.path()).unwrap().forward(&[("x", &x)], true).unwrap();
    assert_eq!(outputs.at(0).unwrap().size(), [2, 2]);
    // One that is empty and one of no dimensions lie within their storage too.
    for (sizes, strides) in [(&[4][..], &[1][..]), (&[0, 1 << 40], &[1, 1]), (&[], &[])] {
        assert_eq!(with_weight(&tensor("0", 4, 0, sizes, strides)), "loaded", "{sizes:?}");
    }
}

#[test]
fn tensors_beyond_their_storage() {
    for (count, offset, sizes, strides) in [
        (4, 0, &[200_000_000, 16][..], &[16, 1][..]),
        (4, 1, &[2, 2], &[2, 1]),
        (4, 2_000_000_000, &[1], &[1]),
        (4, -2_000_000_000, &[1], &[1]),
        (4, 0, &[2], &[-1]),
        (4, 0, &[-1], &[1]),
        (4, 0, &[2, 2], &[2]),
        (4, 0, &[2, 2], &[i64::MAX, i64::MAX]),
        (4, i64::MAX, &[2], &[i64::MAX]),
        (4, 0, &[1 << 62, 1 << 62], &[0, 0]),
        (4, 0, &[0, 1 << 62, 1 << 62], &[0, 0, 0]),
        (4, 5, &[0], &[1]),
    ] {
        let error = with_weight(&tensor("0", count, offset, sizes, strides));
        assert!(
            error.contains("record \"m/data.pkl\": tensor `weight` of sizes")
                && error.contains("beyond its storage of 4 elements"),
            "{sizes:?}: {error}"
        );
    }
    for (record, count, what) in [
        ("0", 5, "claims 5 elements of 4 bytes, and record \"0\" has 16 bytes"),
        ("0", i64::MAX, "claims 9223372036854775807 elements"),
        ("0", -1, "has -1 elements"),
        ("7", 4, "record \"7\", which is not there"),
    ] {
        let error = with_weight(&tensor(record, count, 0, &[1], &[1]));
        assert!(error.contains(what) && error.contains("tensor `weight`"), "{error}");
    }
}

/// As `expand` makes them.
#[test]
fn parameters_that_share_their_memory() {
    for (sizes, strides) in [(&[3, 4][..], &[0, 1][..]), (&[2, 2], &[1, 1])] {
        let error = with_weight(&tensor("0", 4, 0, sizes, strides));
        let what = format!("parameter `weight` of shape {sizes:?} and strides {strides:?}");
        assert!(error.contains(&what) && error.contains(".contiguous()"), "{error}");
    }
    assert_eq!(with_weight(&tensor("0", 4, 0, &[2, 2], &[1, 2])), "loaded", "transposed");
}

#[test]
fn pickles_that_torch_does_not_write() {
    let call = |module: &str, name: &str| {
        [global(module, name), tuple(&[text("touch pwned")]), b"R".to_vec()].concat()
    };
    let weight = tensor("0", 4, 0, &[4], &[1]);
    let deep = [b"(".repeat(100_000), b"t".repeat(100_000)].concat();
    // Each list has the one before in it, and was remembered while it was empty.
    let shared: Vec<u8> = (0..2000u32)
        .flat_map(|number| {
            let inner = match number {
                0 => b"N".to_vec(),
                _ => [b"j", &(number - 1).to_le_bytes()[..]].concat(),
            };
            [b"]r", &number.to_le_bytes()[..], b"(", &inner, b"e"].concat()
        })
        .collect();
    for (value, what) in [
        (call("os", "system"), "Python's os.system"),
        (call("__builtin__", "eval"), "Python's __builtin__.eval"),
        (
            call("__torch__.torch.classes.quantized", "LinearPackedParamsBase"),
            "reach out of the model",
        ),
        (call("torch", "load"), "of type torch.load"),
        (call("torch._utils", "_rebuild_sparse_tensor"), "quantized or sparse"),
        ([b"K\x05", &weight[..], b"R"].concat(), "stands where"),
        (b"}(K\x01u".to_vec(), "stands where"),
        (b"(K\x01d".to_vec(), "0x64, which torch.jit.save does not write"),
        (b"]q\x00(h\x00e".to_vec(), "stands where"),
        (b"t".to_vec(), "stands where"),
        (b"e".to_vec(), "stands where"),
        (b"Nr\xff\xff\xff\xff".to_vec(), "out of order"),
        (b"h\x05".to_vec(), "recalls value 5"),
        (b"X\xff\xff\xff\xff".to_vec(), "cut off"),
        (deep, "deep within each other"),
        (shared, "deep within each other"),
    ] {
        let error = with_weight(&value);
        assert!(error.contains(what) && error.contains("m/data.pkl"), "{what}: {error}");
        assert!(!Path::new("pwned").exists());
    }
}

#[test]
fn attributes_of_another_type() {
    let weight = tensor("0", 4, 0, &[4], &[1]);
    let other = object("Other", &[("training", b"\x88")]);
    for (error, name) in [
        (with_weight(&int(1)), "`weight` of __torch__.M"),
        (said(&weight, &other, &pair()), "`child` of __torch__.M"),
        (said(&weight, &int(1), &pair()), "Expected Object but got Int"),
        (said(&weight, &child(&weight), &pair()), "`number` of __torch__.C"),
        (said(&weight, &child(&int(2)), &tuple(&[int(1)])), "`pair` of __torch__.M"),
    ] {
        assert!(error.contains(name), "{name}: {error}");
    }
}

#[test]
fn code_that_reaches_out_of_the_model() {
    let module = honest();
    let here = tempfile::tempdir().unwrap();
    let made = here.path().join("made");
    let file = made.to_str().unwrap();
    let argument =
        |default: &str| CODE.replace("x: Tensor)", &format!("x: Tensor, y: Tensor={default})"));
    let line = |line: &str| {
        CODE.replace("    child = self.child\n", &format!("    child = self.child\n    {line}\n"))
    };
    for (code, what) in [
        // libtorch evaluates it as it loads the file.
        (argument(&format!("torch.from_file({file:?}, True, 100)")), "`from_file` opens files"),
        (argument(&format!("ops.aten.from_file({file:?}, True, 100)")), "`from_file` opens files"),
        (
            argument(&format!("getattr(torch, \"from_file\")({file:?}, True, 100)")),
            "`torch` stands alone",
        ),
        (argument("getattr(torch.x, \"from_\" \"file\")(1)"), "`getattr` asks"),
        (argument(r#"getattr(torch.x, "\x66rom_file")(1)"#), "`getattr` asks"),
        (line(&format!("torch.save(x, {file:?})")), "`save` writes files"),
        (line(&format!("(x). save ({file:?})")), "`save` writes files"),
        (line("y = ops.inductor._reinterpret_tensor(x, [9], [1], 9)"), "`ops.inductor` has"),
        (line("o = ops"), "`ops` stands alone"),
        (line("t = torch"), "`torch` stands alone"),
        (line("t = __torch__.torch"), "`__torch__.torch` stands alone"),
        (line("c = __torch__.torch.classes.profiling.SourceStats()"), "libtorch's own"),
        (
            CODE.replace(
                "def forward(self: __torch__.Other",
                "def __setstate__(self: __torch__.Other",
            ),
            "`__setstate__` would run",
        ),
    ] {
        let error = load(written(&code, &module).path()).expect_err(what);
        let place = "record \"m/code/__torch__.py\": line ";
        assert!(error.contains(what) && error.contains(place), "{what}: {error}");
        assert!(!made.exists(), "{code}");
    }
    let deep = [
        format!("y = {}x{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("y = {}x", "x + ".repeat(100_000)),
        format!("y = {}x", "not ".repeat(100_000)),
        format!("if True:\n      pass\n{}", "    elif False:\n      pass\n".repeat(100_000)),
        (1..1000).map(|level| format!("{}if True:\n", " ".repeat(3 + level))).collect(),
    ];
    for code in deep.iter().map(|code| line(code)) {
        let error = load(written(&code, &module).path()).unwrap_err();
        assert!(
            error.contains("more than 300 expressions and blocks lie in one another"),
            "{error}"
        );
    }
    // What is just not too deep has to fit onto the stack.
    drop(load(written(&line(&format!("y = {}x", "x + ".repeat(290))), &module).path()));
    drop(load(
        written(&line(&format!("y = {}x{}", "(".repeat(290), ")".repeat(290))), &module).path(),
    ));
    // The same words where they stand for nothing.
    let code = line("s = \"ops, torch . from_file(\\\"\"  # ops")
        .replace("return (child)", "return (child )");
    load(written(&code, &module).path()).unwrap();
    let code = CODE.replace("  number : int\n", "  number : int\n  ops : int\n  torch : int\n");
    let named = object(
        "C",
        &[("training", b"\x88"), ("number", &int(2)), ("ops", &int(1)), ("torch", &int(1))],
    );
    let weight = tensor("0", 4, 0, &[2, 2], &[2, 1]);
    load(written(&code, &self::module(&weight, &named, &pair())).path()).unwrap();
}

/// Whatever is changed in a pickle, loading it ends in an error or a module that runs.
#[test]
fn changed_pickles() {
    let module = honest();
    let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
    let (mut loaded, mut refused) = (0, 0);
    for at in 0..module.len() {
        for change in [0x01, 0x02, 0x40, 0xff] {
            let mut changed = module.clone();
            changed[at] ^= change;
            match load(written(CODE, &changed).path()) {
                Ok(script) => {
                    loaded += 1;
                    drop(script.forward(&[("x", &x)], true));
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(loaded > 50 && refused > 500, "{loaded} loaded, {refused} refused");
}
