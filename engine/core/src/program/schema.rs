//! The text of an exported program, `models/model.json`, as `torch/_export/serde/schema.py` describes it. What decides
//! nothing here is passed over.
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};

/// What tells whether the rest can be read.
#[derive(Debug, Deserialize)]
pub struct Header {
    pub schema_version: Version,
    #[serde(default)]
    pub torch_version: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
}

#[derive(Debug, Deserialize)]
pub struct ExportedProgram {
    pub graph_module: GraphModule,
    #[serde(default)]
    pub range_constraints: BTreeMap<String, Range>,
    /// Which rules the graph keeps: `TRAINING`, or others for one that was lowered.
    #[serde(default)]
    pub verifiers: Vec<String>,
    /// Conditions on the inputs, in Python.
    #[serde(default)]
    pub guards_code: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Range {
    pub min_val: Option<i64>,
    pub max_val: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
    #[serde(default)]
    pub module_call_graph: Vec<ModuleCall>,
    #[serde(default)]
    pub treespec_namedtuple_fields: BTreeMap<String, NamedTuple>,
}

#[derive(Debug, Deserialize)]
pub struct Graph {
    pub inputs: Vec<Argument>,
    pub outputs: Vec<Argument>,
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub tensor_values: HashMap<String, TensorMeta>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    /// `torch.ops.aten.add.Tensor`, `_operator.mul`.
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Argument>,
    #[serde(default)]
    pub metadata: HashMap<String, String>,
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the names of the schema")]
pub enum Argument {
    AsNone(IgnoredAny),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Real),
    AsFloats(Vec<Real>),
    AsString(String),
    AsStrings(IgnoredAny),
    AsSymInt(Symbolic),
    AsSymInts(Vec<Symbolic>),
    AsSymFloat(Symbolic),
    AsSymFloats(Vec<Symbolic>),
    AsSymBool(Symbolic),
    AsSymBools(Vec<Symbolic>),
    AsScalarType(u32),
    AsMemoryFormat(u32),
    AsLayout(u32),
    AsDevice(Device),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsGraph(GraphArgument),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsOptionalTensor(OptionalTensor),
    AsCustomObj(CustomObject),
    AsOperator(IgnoredAny),
    AsComplex(IgnoredAny),
    AsNestedTensors(IgnoredAny),
    AsIntLists(IgnoredAny),
    AsStringToArgument(IgnoredAny),
}

#[derive(Debug, Clone, Deserialize)]
pub struct Name {
    pub name: String,
}

/// A number that may be the text "Infinity", "-Infinity" or "NaN".
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Real {
    Number(f64),
    Text(String),
}

impl Real {
    pub fn value(&self) -> Option<f64> {
        match self {
            Real::Number(number) => Some(*number),
            Real::Text(text) => match text.as_str() {
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                "NaN" => Some(f64::NAN),
                _ => None,
            },
        }
    }
}

/// A number that is known, or made by another node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the names of the schema")]
pub enum Symbolic {
    AsName(String),
    AsInt(i64),
    AsFloat(Real),
    AsBool(bool),
}

#[derive(Debug, Deserialize)]
pub struct Device {
    pub r#type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the names of the schema")]
pub enum OptionalTensor {
    AsTensor(Name),
    AsNone(IgnoredAny),
}

#[derive(Debug, Deserialize)]
pub struct GraphArgument {
    pub graph: Box<Graph>,
}

#[derive(Debug, Deserialize)]
pub struct CustomObject {
    pub class_fqn: String,
}

#[derive(Debug, Deserialize)]
pub struct TensorMeta {
    pub dtype: u32,
    pub sizes: Vec<Size>,
    #[serde(default)]
    pub requires_grad: bool,
    pub strides: Vec<Size>,
    pub storage_offset: Size,
    pub layout: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the names of the schema")]
pub enum Size {
    AsExpr(SizeExpression),
    AsInt(i64),
}

#[derive(Debug, Deserialize)]
pub struct SizeExpression {
    pub expr_str: String,
}

#[derive(Debug, Deserialize)]
pub struct Signature {
    pub input_specs: Vec<InputSpec>,
    pub output_specs: Vec<OutputSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSpec {
    UserInput { arg: Argument },
    Parameter { arg: Name, parameter_name: String },
    Buffer { arg: Name, buffer_name: String, persistent: bool },
    TensorConstant { arg: Name, tensor_constant_name: String },
    CustomObj { custom_obj_name: String },
    Token(IgnoredAny),
    ConstantInput { name: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSpec {
    UserOutput { arg: Argument },
    LossOutput { arg: Name },
    BufferMutation { buffer_name: String },
    GradientToParameter(IgnoredAny),
    GradientToUserInput(IgnoredAny),
    UserInputMutation { user_input_name: String },
    Token(IgnoredAny),
    ParameterMutation { parameter_name: String },
}

#[derive(Debug, Deserialize)]
pub struct ModuleCall {
    /// The module's dotted name.
    pub fqn: String,
    pub signature: Option<ModuleSignature>,
}

#[derive(Debug, Deserialize)]
pub struct ModuleSignature {
    /// How the outputs lie in what the forward returned, a text of its own.
    pub out_spec: String,
}

#[derive(Debug, Deserialize)]
pub struct NamedTuple {
    pub field_names: Vec<String>,
}

/// `model_weights_config.json` and `model_constants_config.json`.
#[derive(Debug, Deserialize)]
pub struct Payloads {
    pub config: BTreeMap<String, Payload>,
}

#[derive(Debug, Deserialize)]
pub struct Payload {
    /// The record's name in its folder.
    pub path_name: String,
    pub use_pickle: bool,
    pub tensor_meta: Option<TensorMeta>,
}
