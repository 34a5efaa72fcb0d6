//! TorchScript files written byte by byte: honest ones run, and what is refused is named with its record.
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
fn attributes_of_another_type() {
    let weight = tensor("0", 4, 0, &[4], &[1]);
    for pair in [tuple(&[int(1)]), tuple(&[int(1), text("one")])] {
        let error = said(&weight, &child(&int(2)), &pair);
        assert!(error.contains("`pair` of __torch__.M"), "{error}");
    }
}

#[test]
fn what_is_refused_is_named_with_its_record() {
    let call = [global("math", "floor"), b")R".to_vec()].concat();
    let error = said(&call, &child(&int(2)), &pair());
    assert!(error.contains("record \"m/data.pkl\": "), "{error}");
    let code = CODE.replace("forward(self: __torch__.Other", "__setstate__(self: __torch__.Other");
    let error = load(written(&code, &honest()).path()).expect_err("it would run while it loads");
    assert!(error.contains("record \"m/code/__torch__.py\": line 14: "), "{error}");
}
