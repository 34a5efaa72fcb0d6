//! The example BERT and Hugging Face's `transformers`, run live.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::Layers;
use trainyard_checkpoint::{InitOptions, Strictness, TensorFile, Wanted, load};
use trainyard_models::huggingface::{self, Export};
use trainyard_models::{Bert, BertConfig, Norm};
use trainyard_run::{Content, Files, RunError, Weights, replace};
use trainyard_tests::run_python;

/// The padding has another number than 0, and so have the positions behind it in RoBERTa's way of counting.
const VOCABULARY: &str = "[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\n##a\nz\ne\n";
const PADDING: i64 = 1;

fn sizes(norm: Norm) -> BertConfig {
    BertConfig {
        layers: 3,
        hidden: 32,
        heads: 4,
        intermediate: Some(80),
        vocabulary: 13,
        max_positions: 24,
        dropout: 0.1,
        norm,
    }
}

/// A BERT whose weights are larger than at the beginning of a training: biases and norms count, too.
fn bert(config: &BertConfig) -> (Bert, VarStore) {
    tch::manual_seed(5);
    let variables = VarStore::new(Device::Cpu);
    let model = Bert::new(variables.root(), config, &Layers::new());
    tch::no_grad(|| {
        for (_, mut tensor) in variables.variables() {
            let noise = tensor.randn_like() * 0.1;
            let _ = tensor.g_add_(&noise);
        }
    });
    (model, variables)
}

/// Without the padding, which Trainyard's data never has.
fn ids() -> Tensor {
    Tensor::randint_low(2, 13, [3, 24], (Kind::Int64, Device::Cpu))
}

struct To(PathBuf);

impl Files for To {
    fn file(&mut self, name: &'static str, content: &mut Content<'_>) -> Result<(), RunError> {
        replace(&self.0.join(name), content).map(drop)
    }
}

/// What `transformers` prints, and what its model makes of the ids.
fn transformers(what: &str, folder: &Path, inputs: &[(String, Tensor)]) -> (String, Made) {
    let around = tempfile::tempdir().expect("a temporary folder");
    let [given, made] = ["given.npz", "made.npz"].map(|name| around.path().join(name));
    Tensor::write_npz(inputs, &given).expect("the inputs can be written");
    let printed = run_python("huggingface.py", [Path::new(what), folder, &given, &made]);
    (printed, Tensor::read_npz(made).expect("the script's output").into_iter().collect())
}

type Made = BTreeMap<String, Tensor>;

/// Hidden states and logits are those of `transformers`, as far as it made any. How far they are apart.
fn assert_same(model: &Bert, ids: &Tensor, made: &Made) -> f64 {
    let (hidden, scores) = tch::no_grad(|| {
        let places = Tensor::arange(ids.numel() as i64, (Kind::Int64, Device::Cpu));
        (model.hidden(ids, None, false), model.forward(ids, None, &places, false))
    });
    assert!(made.contains_key("hidden"));
    let apart = made.iter().map(|(what, theirs)| {
        let ours = if what == "hidden" { &hidden } else { &scores.view_as(theirs) };
        assert_eq!(ours.size(), theirs.size(), "{what}");
        let apart = (ours - theirs).abs().max().double_value(&[]);
        let size = theirs.abs().max().double_value(&[]);
        assert!(apart <= 1e-5 && size > 0.5, "{what} up to {size} are {apart:e} apart");
        apart
    });
    apart.fold(0.0, f64::max)
}

fn load_into(variables: &VarStore, folder: &Path, config: &BertConfig) {
    let weights = Weights::of(variables);
    let wanted = weights.tensors().iter().map(|(name, tensor)| Wanted::new(name, tensor));
    let offers = huggingface::open(folder, config).expect("a model of that layout");
    let options = InitOptions { missing: Strictness::Warn, ..InitOptions::of(folder) };
    load(&options, offers, &wanted.collect::<Vec<_>>()).expect("it fits");
}

#[test]
fn transformers_reads_what_is_exported() {
    for (norm, class) in
        [(Norm::Post, "BertForMaskedLM"), (Norm::Pre, "RobertaPreLayerNormForMaskedLM")]
    {
        let config = sizes(norm);
        let (model, variables) = bert(&config);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("vocabulary"), VOCABULARY).expect("written");
        Weights::of(&variables).save(&mut To(folder.path().to_owned())).expect("written");
        let weights = TensorFile::open(&at("model.safetensors")).expect("as it was written");
        let export = Export::new(&config, &weights, &at("vocabulary")).expect("a BERT");
        fs::create_dir(at("there")).expect("a folder");
        export.write(&mut To(at("there"))).expect("written");
        let ids = ids();
        let inputs = [("ids".to_owned(), ids.shallow_clone())];
        let (printed, made) = transformers("read", &at("there"), &inputs);
        let expected = format!("2 5 6 5 7 6 8 9 10 3\n{class} BertTokenizerFast 24\n");
        assert_eq!(printed, expected);
        assert_same(&model, &ids, &made);
        // And back, to the last bit.
        let (_, other) = bert(&config);
        tch::no_grad(|| other.variables().values_mut().for_each(|tensor| drop(tensor.zero_())));
        load_into(&other, &at("there"), &config);
        let (before, after) = (variables.variables(), other.variables());
        for (name, tensor) in &before {
            assert!(tensor.equal(&after[name]), "{name}");
        }
    }
}

#[test]
fn models_of_transformers_are_loaded() {
    for norm in [Norm::Post, Norm::Pre] {
        let config = sizes(norm);
        let (model, variables) = bert(&config);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let numbers = |numbers: &[i64]| Tensor::from_slice(numbers);
        let ids = ids();
        let inputs = [
            (
                "sizes",
                numbers(&[config.layers, config.hidden, config.heads, config.feed_forward()]),
            ),
            ("rows", numbers(&[config.vocabulary, config.max_positions])),
            ("pre", Tensor::from(i64::from(norm == Norm::Pre))),
            ("padding", Tensor::from(PADDING)),
            ("ids", ids.shallow_clone()),
        ];
        let inputs = inputs.map(|(name, tensor)| (name.to_owned(), tensor));
        let (_, made) = transformers("write", folder.path(), &inputs);
        load_into(&variables, folder.path(), &config);
        assert_same(&model, &ids, &made);
    }
}

/// A BERT of yours: `TRAINYARD_BERT=FOLDER cargo nextest run --run-ignored only -E 'test(a_downloaded_bert_is_loaded)'`.
#[test]
#[ignore = "TRAINYARD_BERT names the folder of a downloaded model"]
fn a_downloaded_bert_is_loaded() {
    let folder = std::env::var_os("TRAINYARD_BERT").expect("TRAINYARD_BERT names a folder");
    let folder = Path::new(&folder);
    let text = fs::read(folder.join("config.json")).expect("config.json");
    let theirs: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let number = |key: &str| theirs[key].as_i64().unwrap_or_else(|| panic!("{key}"));
    let config = BertConfig {
        layers: number("num_hidden_layers"),
        hidden: number("hidden_size"),
        heads: number("num_attention_heads"),
        intermediate: Some(number("intermediate_size")),
        vocabulary: number("vocab_size"),
        max_positions: number("max_position_embeddings"),
        norm: Norm::Post,
        ..BertConfig::default()
    };
    let (model, variables) = bert(&config);
    load_into(&variables, folder, &config);
    let ids = Tensor::randint_low(1000, config.vocabulary, [4, 128], (Kind::Int64, Device::Cpu));
    let (_, made) = transformers("states", folder, &[("ids".to_owned(), ids.shallow_clone())]);
    println!("hidden states are up to {:e} apart", assert_same(&model, &ids, &made));
}
