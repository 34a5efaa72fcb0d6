//! What a file, a folder or a checkpoint has of weights.
use super::names::{Names, Renamed};
use crate::error::{Error, Result};
use crate::record::RECORD;
use crate::snapshot::{MODEL, STATE};
use crate::store;
use crate::tensor_file::TensorFile;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tch::{Kind, Tensor};
use tracing::warn;

/// Which file of several has which tensor, in Hugging Face's layout.
const INDEX: &str = "model.safetensors.index.json";

/// Bytes of it that are read at most.
const MOST_INDEX_BYTES: u64 = 100_000_000;

type Read = dyn Fn() -> Result<Tensor>;

/// A tensor that can be had.
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Its type; none for one that libtorch has not.
    pub kind: Option<Kind>,
    /// Its sizes.
    pub size: Vec<i64>,
    read: Box<Read>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.kind, self.size)
    }
}

impl Offer {
    /// One that `read` reads, with that type and those sizes.
    pub fn new(
        name: impl Into<String>,
        (kind, size): (Option<Kind>, Vec<i64>),
        read: impl Fn() -> Result<Tensor> + 'static,
    ) -> Self {
        Offer { name: name.into(), kind, size, read: Box::new(read) }
    }

    /// The tensor, on the CPU.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Tensor> {
        (self.read)()
    }
}

/// All tensors that can be had from one place. Only their names, types and shapes are in memory.
#[derive(Debug)]
pub struct Offers {
    path: PathBuf,
    offers: Vec<Offer>,
}

impl Offers {
    /// Those at `path`, for errors and the log, without looking there.
    pub fn new(path: &Path, offers: Vec<Offer>) -> Self {
        Offers { path: path.to_owned(), offers }
    }

    /// What is at `path`: see [`InitOptions::file`](super::InitOptions::file).
    ///
    /// # Errors
    /// There are no weights, or they are not whole.
    pub fn open(path: &Path) -> Result<Self> {
        if !fs::metadata(path).map_err(|error| Error::read(path, error))?.is_dir() {
            return Ok(Offers::of_file(TensorFile::open(path)?));
        }
        let has = |name: &str| path.join(name).is_file();
        if has(RECORD) || has(STATE) {
            return Offers::of_checkpoint(path);
        }
        if has(MODEL) {
            return Ok(Offers::of_file(TensorFile::open(&path.join(MODEL))?));
        }
        if has(INDEX) {
            return Offers::of_shards(path);
        }
        let within = path.join("checkpoints");
        for folder in [path, &within] {
            if !store::list(folder)?.is_empty() {
                return Offers::of_checkpoint(folder);
            }
        }
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt"];
        let remedy = match pickled.into_iter().find(|name| has(name)) {
            Some(name) => format!(
                "; {name} is not read: transformers writes safetensors with \
                 `model.save_pretrained(folder, safe_serialization=True)`"
            ),
            None => String::new(),
        };
        let why = format!("it has no {MODEL}, no {INDEX} and no checkpoint{remedy}");
        Err(Error::file(path, why))
    }

    fn of_file(file: TensorFile) -> Self {
        let path = file.path().to_owned();
        let file = Arc::new(file);
        let names: Vec<_> = file.tensors().map(|tensor| tensor.name.to_owned()).collect();
        let offers = names.into_iter().filter_map(|name| offer(&file, &name)).collect();
        Offers { path, offers }
    }

    fn of_checkpoint(path: &Path) -> Result<Self> {
        let (checkpoint, broken) = store::find(path)?;
        broken.iter().for_each(|error| warn!("{error}"));
        // A file that is there and not in the record was compared with nothing.
        if !checkpoint.files().any(|(name, _)| name == MODEL) {
            return Err(Error::file(checkpoint.path(), format!("the checkpoint has no {MODEL}")));
        }
        Ok(Offers::of_file(TensorFile::open(&checkpoint.path().join(MODEL))?))
    }

    fn of_shards(folder: &Path) -> Result<Self> {
        let at = folder.join(INDEX);
        let bytes = fs::metadata(&at).map_err(|error| Error::read(&at, error))?.len();
        if bytes > MOST_INDEX_BYTES {
            return Err(Error::file(&at, format!("it has {bytes} bytes")));
        }
        let text = fs::read(&at).map_err(|error| Error::read(&at, error))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| Error::file(&at, format!("it is no index of safetensors: {error}")))?;
        let mut files: BTreeMap<&str, Arc<TensorFile>> = BTreeMap::new();
        let mut offers = Vec::new();
        for (name, shard) in &index.weight_map {
            let file = match files.get(shard.as_str()) {
                Some(file) => file.clone(),
                None => {
                    let mut parts = Path::new(shard).components();
                    let plain = (parts.next(), parts.next());
                    if !matches!(plain, (Some(Component::Normal(only)), None) if only == shard.as_str())
                    {
                        let why = format!("it names `{shard}`, which is no file beside it");
                        return Err(Error::file(&at, why));
                    }
                    let file = Arc::new(TensorFile::open(&folder.join(shard))?);
                    files.insert(shard, file.clone());
                    file
                }
            };
            let missing =
                || Error::file(&at, format!("`{name}` is to be in {shard}, which has it not"));
            offers.push(offer(&file, name).ok_or_else(missing)?);
        }
        Ok(Offers::new(folder, offers))
    }

    /// Where they are from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of them.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// All of them, to be taken apart and put together.
    pub fn into_offers(self) -> Vec<Offer> {
        self.offers
    }

    /// With other names, and without those that have none then.
    ///
    /// # Errors
    /// Two have the same name then, or patterns disagree.
    pub(super) fn renamed(mut self, names: &Names) -> Result<Self, String> {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let mut kept = Vec::new();
        for mut offer in self.offers {
            let Renamed::Name(name) = names.of(&offer.name)? else { continue };
            if let Some(other) = taken.insert(name.clone(), offer.name.clone()) {
                return Err(format!(
                    "names: `{other}` and `{}` are both `{name}` then",
                    offer.name
                ));
            }
            offer.name = name;
            kept.push(offer);
        }
        self.offers = kept;
        Ok(self)
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn offer(file: &Arc<TensorFile>, name: &str) -> Option<Offer> {
    let described = file.get(name)?;
    let about = (described.kind(), described.size());
    let (file, own) = (file.clone(), name.to_owned());
    Some(Offer::new(name, about, move || file.read(&own)))
}
