//! The file of an exported program: which records it has, and the tensors in them.
use super::kinds;
use super::schema::{ExportedProgram, Header, Payload, Payloads, Size, TensorMeta};
use crate::archive::{Archive, FROM_THE_START, Wanted, in_folder};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use tch::{Kind, Tensor};
use xxhash_rust::xxh3::xxh3_64;
use zip::ZipArchive;

/// The version of the schema that is read; later ones of the same first number only add to it.
const MAJOR: u64 = 8;

const EXPORT: &str = "save what torch.export.export(model, ...) returns with torch.export.save";

/// How large a tensor may be that repeats a small record, as `expand` makes them, in bytes.
const MOST_REPEATED: i64 = 64 << 20;

const EXPORTED: Wanted = Wanted {
    what: "program of torch.export",
    writer: "torch.export.save",
    remedy: EXPORT,
    packed: |_| false,
};

/// Whether the file at `path` looks like one that torch.export.save wrote, whatever its state. No file is too odd to ask.
pub fn is_program(path: &Path) -> bool {
    // What is no regular file may be a pipe that nobody writes to.
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let zip =
        File::open(path).ok().and_then(|file| ZipArchive::with_config(FROM_THE_START, file).ok());
    let marks = ["archive_format", "models/model.json", "serialized_exported_program.json"];
    zip.is_some_and(|zip| {
        zip.file_names().filter_map(Result::ok).any(|name| {
            let inner = name.split_once('/').map_or(&*name, |(_, inner)| inner);
            marks.contains(&inner) || marks.contains(&&*name)
        })
    })
}

/// What a file holds.
#[derive(Debug)]
pub struct Contents {
    pub program: ExportedProgram,
    /// Parameters and persistent buffers, by name.
    pub weights: BTreeMap<String, Stored>,
    /// Other buffers and constants, by name.
    pub constants: BTreeMap<String, Stored>,
    /// Stands for the constants' values.
    pub constants_hash: u64,
    /// Where all of it was read from.
    pub archive: Archive,
}

/// Where a tensor lies: its record there, and offset, sizes and strides in that one's numbers. The same for names of one
/// tensor.
pub type Place = (String, i64, Vec<i64>, Vec<i64>);

/// A tensor of the file.
#[derive(Debug)]
pub struct Stored {
    pub tensor: Tensor,
    pub requires_grad: bool,
    pub place: Place,
}

/// Reads the file at `path`. Nothing in it is unpickled: `data/sample_inputs` is passed over.
///
/// # Errors
/// It is something else, damaged, of another version, or needs a pickle.
pub fn read(path: &Path) -> Result<Contents, String> {
    let mut archive = Archive::open(path, &EXPORTED)?;
    let records = archive.records().to_vec();
    let folder = records.first().and_then(|name| name.split_once('/')).map(|(folder, _)| folder);
    let Some(folder) = folder else {
        return Err(match archive.size("serialized_exported_program.json") {
            Some(_) => format!(
                "this is a program of torch.export as PyTorch before 2.8 wrote it; with a newer one, {EXPORT}"
            ),
            None => format!("this is a zip archive, and not one of torch.export; {EXPORT}"),
        });
    };
    in_folder(&records, folder)?;
    let model = format!("{folder}/models/model.json");
    if !records.contains(&model) {
        return Err(format!(
            "the archive has no {model:?}, as one whose saving failed has none; {EXPORT}, and see that it returns"
        ));
    }
    let order = format!("{folder}/byteorder");
    if records.contains(&order) {
        let order = archive.begin(&order, 16)?;
        if order.trim() != "little" {
            return Err(format!(
                "its numbers are stored {:?} endian, and little endian ones are read",
                order.trim()
            ));
        }
    }
    let text = archive.read(&model)?;
    check_version(&text)?;
    let program: ExportedProgram = parsed(&model, &text)?;
    check_dialect(&program.verifiers)?;
    let mut of = |folder: String, config| stored(&mut archive, &folder, config);
    let (weights, _) = of(format!("{folder}/data/weights"), "model_weights_config.json")?;
    let (constants, constants_hash) =
        of(format!("{folder}/data/constants"), "model_constants_config.json")?;
    Ok(Contents { program, weights, constants, constants_hash, archive })
}

fn parsed<T: serde::de::DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|error| format!("record {name:?} is not as torch.export writes it: {error}"))
}

fn check_version(text: &[u8]) -> Result<(), String> {
    let Header { schema_version: version, torch_version } = parsed("models/model.json", text)?;
    match version.major == MAJOR {
        true => Ok(()),
        false => Err(format!(
            "the program has schema version {}.{} (PyTorch {torch_version}), and {MAJOR}.x is read, which PyTorch 2.11 \
             writes: export it with that one",
            version.major, version.minor
        )),
    }
}

fn check_dialect(verifiers: &[String]) -> Result<(), String> {
    match verifiers {
        [one] if one == "TRAINING" => Ok(()),
        others => Err(format!(
            "the program was lowered after it was exported (it keeps the rules of {}, not of TRAINING), so that it \
             computes no gradients as the model does: {EXPORT}, without run_decompositions",
            if others.is_empty() { "nothing".to_owned() } else { others.join(", ") }
        )),
    }
}

/// The tensors that `config` in `folder` lists, and what stands for their values.
fn stored(
    archive: &mut Archive,
    folder: &str,
    config: &str,
) -> Result<(BTreeMap<String, Stored>, u64), String> {
    let config = format!("{folder}/{config}");
    if !archive.records().contains(&config) {
        return Ok((BTreeMap::new(), 0));
    }
    let Payloads { config } = parsed(&config, &archive.read(&config)?)?;
    let (mut found, mut hash) = (BTreeMap::new(), 0u64);
    let mut read: HashMap<String, (Tensor, u32)> = HashMap::new();
    for (name, Payload { path_name, use_pickle, tensor_meta }) in config {
        let at = |detail: String| format!("`{name}`: {detail}");
        let Some(meta) = tensor_meta.filter(|_| !use_pickle) else {
            return Err(at("it is stored as a pickle, which is not opened: tensors of classes of their own, as quantized \
                           or distributed ones, are; export the model with plain tensors"
                .to_owned()));
        };
        let record = format!("{folder}/{path_name}");
        let base = match read.get(&path_name) {
            Some((base, dtype)) if *dtype == meta.dtype => base.shallow_clone(),
            Some(_) => {
                return Err(at(format!("record {record:?} is shared by tensors of two types")));
            }
            None => {
                if !archive.records().contains(&record) {
                    return Err(at(format!("the archive has no record {record:?}")));
                }
                let bytes = archive.read_stored(&record)?;
                hash = hash.rotate_left(1) ^ xxh3_64(&bytes);
                let kind = kinds::kind(meta.dtype).ok_or_else(|| {
                    at(format!("it is of type {} of the schema, which is not read", meta.dtype))
                })?;
                let base = flat(&bytes, kind).map_err(at)?;
                read.insert(path_name.clone(), (base.shallow_clone(), meta.dtype));
                base
            }
        };
        let (tensor, layout) = placed(&base, &meta).map_err(at)?;
        let (offset, sizes, strides) = layout;
        let place = (record, offset, sizes, strides);
        found.insert(name, Stored { tensor, requires_grad: meta.requires_grad, place });
    }
    Ok((found, hash))
}

/// All numbers of a record.
///
/// # Errors
/// libtorch's.
pub fn flat(bytes: &[u8], kind: Kind) -> Result<Tensor, String> {
    let bits = if kind == Kind::Bool { Kind::Uint8 } else { kind };
    let count = bytes.len() / bits.elt_size_in_bytes();
    let whole = &bytes[..count * bits.elt_size_in_bytes()];
    let made = Tensor::f_from_data_size(whole, &[count as i64], bits);
    // A byte that is neither 0 nor 1 is no bool.
    let made = made.and_then(|made| if kind == Kind::Bool { made.f_ne(0) } else { Ok(made) });
    made.map_err(|error| error.to_string())
}

type Layout = (i64, Vec<i64>, Vec<i64>);

/// The tensor that lies in a record's numbers as `meta` says.
fn placed(base: &Tensor, meta: &TensorMeta) -> Result<(Tensor, Layout), String> {
    if kinds::layout(meta.layout).is_none() {
        return Err(
            "it is sparse or of another layout; export the model with dense tensors".to_owned()
        );
    }
    let known = |size: &Size| match size {
        Size::AsInt(size) if *size >= 0 => Ok(*size),
        Size::AsInt(size) => Err(format!("it has a size, stride or offset of {size}")),
        Size::AsExpr(size) => Err(format!("its size {} is not known", size.expr_str)),
    };
    let all = |sizes: &[Size]| sizes.iter().map(known).collect::<Result<Vec<_>, _>>();
    let (sizes, strides) = (all(&meta.sizes)?, all(&meta.strides)?);
    let (offset, have) = (known(&meta.storage_offset)?, base.size()[0]);
    if sizes.len() != strides.len() || sizes.len() > 64 {
        return Err(format!("it has {} sizes and {} strides", sizes.len(), strides.len()));
    }
    let element = base.kind().elt_size_in_bytes() as i64;
    let count = sizes.iter().try_fold(1i64, |count, size| count.checked_mul(*size));
    let last = match count {
        Some(0) => Some(offset),
        _ => offset.checked_add(1).and_then(|first| {
            sizes.iter().zip(&strides).try_fold(first, |last, (size, stride)| {
                last.checked_add((size - 1).checked_mul(*stride)?)
            })
        }),
    };
    if last.is_none_or(|last| last > have) {
        return Err(format!(
            "of sizes {sizes:?}, strides {strides:?} and offset {offset} it reaches beyond the {have} numbers of its record"
        ));
    }
    if count
        .and_then(|count| count.checked_mul(element))
        .is_none_or(|bytes| bytes > MOST_REPEATED.max(have * element))
    {
        return Err(format!(
            "its sizes {sizes:?} repeat the {have} numbers of its record too often to be copied; export it after \
             `.contiguous()`"
        ));
    }
    let tensor = base.f_as_strided(&sizes[..], &strides[..], offset).map_err(|e| e.to_string())?;
    Ok((tensor, (offset, sizes, strides)))
}
