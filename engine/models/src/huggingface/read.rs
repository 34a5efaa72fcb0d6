//! Tensors of Hugging Face's layout, offered as the example BERT's.
use super::config::Config;
use super::layout::{POSITIONS, Place, TYPES};
use super::{CONFIG, VOCABULARY};
use crate::BertConfig;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, TchError, Tensor};
use trainyard_checkpoint::{Error, Offer, Offers, RECORD, Result};
use trainyard_data::Tokenizer;

/// Whether `path` is a folder of that layout.
pub fn is_one(path: &Path) -> bool {
    path.join(CONFIG).is_file() && !path.join(RECORD).exists()
}

/// The tensors of a folder of that layout, by the names of the example BERT. Others keep their names; those that are
/// computed from others are left out. The first token type's row, which Hugging Face's models add to every token of a
/// single text, is added to the positions.
///
/// # Errors
/// The model there has another structure or other sizes, or a file cannot be read.
pub fn open(folder: &Path, model: &BertConfig) -> Result<Offers> {
    let other = |why| Error::Weights { path: folder.to_owned(), why };
    let (family, skipped) = Config::read(&folder.join(CONFIG))?.check(model).map_err(other)?;
    let offers = Offers::open(folder)?;
    let mut theirs: BTreeMap<String, Offer> = BTreeMap::new();
    for offer in offers.into_offers() {
        let name = offer.name.clone();
        if let Some(first) = theirs.insert(family.canonical(&name), offer) {
            return Err(other(format!("`{}` and `{name}` are the same tensor", first.name)));
        }
    }
    let (_, parameters) = model.shape();
    let mut arranged = Vec::new();
    for (ours, _) in parameters {
        let offer = match family.place(&ours) {
            Some(Place::One(name)) => theirs.remove(&name).map(|mut offer| {
                offer.name = ours;
                offer
            }),
            Some(Place::Stacked(names)) => {
                let all = names.iter().all(|name| theirs.contains_key(name));
                let parts = names.iter().filter(|_| all).filter_map(|name| theirs.remove(name));
                stacked(folder, ours, parts.collect()).map_err(other)?
            }
            Some(Place::Positions) => match theirs.remove(POSITIONS) {
                Some(rows) => {
                    let types = theirs.remove(TYPES);
                    Some(positions(folder, ours, (rows, skipped), types).map_err(other)?)
                }
                None => None,
            },
            None => None,
        };
        arranged.extend(offer);
    }
    let rest = theirs.into_iter().filter(|(name, _)| !family.is_redundant(name));
    arranged.extend(rest.map(|(_, offer)| offer));
    Ok(Offers::new(folder, arranged))
}

/// One tensor of several, one below the other.
fn stacked(
    folder: &Path,
    ours: String,
    parts: Vec<Offer>,
) -> std::result::Result<Option<Offer>, String> {
    let Some(first) = parts.first() else { return Ok(None) };
    let mut size = first.size.clone();
    for part in &parts[1..] {
        if part.size != first.size || part.size.is_empty() {
            return Err(format!(
                "`{}` is {:?} and `{}` {:?}: they have to have the same sizes",
                first.name, first.size, part.name, part.size
            ));
        }
        size[0] += part.size[0];
    }
    let kind = first.kind.filter(|kind| parts.iter().all(|part| part.kind == Some(*kind)));
    let read = move |folder: &Path| -> Result<Tensor> {
        let parts: Vec<_> = parts.iter().map(Offer::read).collect::<Result<_>>()?;
        Tensor::f_cat(&parts, 0).map_err(|error| failed(folder, &error))
    };
    let folder = folder.to_owned();
    Ok(Some(Offer::new(ours, (kind, size), move || read(&folder))))
}

/// Rows of positions behind the `skipped` ones, each with the first row of the types.
fn positions(
    folder: &Path,
    ours: String,
    (rows, skipped): (Offer, i64),
    types: Option<Offer>,
) -> std::result::Result<Offer, String> {
    let [count, width] = rows.size[..] else {
        return Err(format!("`{}` is {:?}, and no table", rows.name, rows.size));
    };
    if count <= skipped {
        return Err(format!("`{}` has {count} rows, of which tokens skip {skipped}", rows.name));
    }
    if let Some(types) = types
        .as_ref()
        .filter(|types| types.size.len() != 2 || types.size[0] < 1 || types.size[1] != width)
    {
        return Err(format!(
            "`{}` is {:?}, and `{}` is {:?}: their rows are added",
            types.name, types.size, rows.name, rows.size
        ));
    }
    let (kind, size) = (rows.kind, vec![count - skipped, width]);
    let add =
        move |rows: &Tensor, types: Option<Tensor>| -> std::result::Result<Tensor, TchError> {
            let rows = rows.f_narrow(0, skipped, count - skipped)?.f_to_kind(Kind::Float)?;
            match types {
                Some(types) => rows.f_add(&types.f_select(0, 0)?.f_to_kind(Kind::Float)?),
                None => Ok(rows),
            }
        };
    let folder = folder.to_owned();
    Ok(Offer::new(ours, (kind, size), move || {
        let types = types.as_ref().map(Offer::read).transpose()?;
        add(&rows.read()?, types).map_err(|error| failed(&folder, &error))
    }))
}

fn failed(folder: &Path, error: &TchError) -> Error {
    Error::file(folder, error.to_string())
}

/// That the tokens of the folder's `vocab.txt`, where it has one, are those of the data.
///
/// # Errors
/// A sentence: the first that differs, and what to do.
pub fn check_vocabulary(folder: &Path, data: &Tokenizer) -> Result<()> {
    let path = folder.join(VOCABULARY);
    if !path.is_file() {
        return Ok(());
    }
    let theirs =
        Tokenizer::from_vocabulary(&path).map_err(|error| Error::file(&path, error.to_string()))?;
    let most = theirs.vocabulary_size().max(data.vocabulary_size()) as u32;
    let differs = (0..most).find(|&id| theirs.token(id) != data.token(id));
    let Some(id) = differs else { return Ok(()) };
    let shown = |tokenizer: &Tokenizer| {
        tokenizer.token(id).map_or("none".to_owned(), |token| format!("`{token}`"))
    };
    let (here, there) = (shown(data), shown(&theirs));
    let why = format!(
        "token {id} is {there} in its {VOCABULARY} and {here} in the data's vocabulary: set data.vocabulary to {}, or \
         leave its rows out with \"tokens\": null, \"bias\": null in init_from.names and \"missing\": \"warn\"",
        path.display()
    );
    Err(Error::Weights { path: folder.to_owned(), why })
}
