//! Writing a program: the file that was loaded, with the weights as they are now.
use super::Program;
use super::archive::{Place, flat};
use crate::archive::Archive;
use crate::error::{self, Error};
use crate::strides::is_overlapping;
use std::collections::HashMap;
use std::io::Write;
use std::sync::PoisonError;
use tch::Tensor;
use zip::CompressionMethod::Stored;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Where PyTorch has records begin.
const ALIGNMENT: u16 = 64;

/// From this size on a record needs the long form of its header.
const LARGE: u64 = u32::MAX as u64;

impl Program {
    /// Writes the program: the file that was loaded, with parameters and buffers as they are now. `torch.export.load`
    /// reads it, and so does [`load`](Self::load).
    ///
    /// # Errors
    /// The file that was loaded has changed since; `to` does not take it.
    pub fn write(&self, to: &mut dyn Write) -> error::Result<()> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        self.copy(&mut archive, to).map_err(|error| {
            Error::Script(format!(
                "the program cannot be written with its trained weights: {error}"
            ))
        })
    }

    fn copy(&self, archive: &mut Archive, to: &mut dyn Write) -> Result<(), String> {
        let of_zip = |error: zip::result::ZipError| error.to_string();
        let mut lying: HashMap<&str, Vec<(&Place, &Tensor)>> = HashMap::new();
        for (place, kept) in self.inputs.places.iter().zip(&self.inputs.kept) {
            lying.entry(&place.0).or_default().push((place, &kept.tensor));
        }
        let mut zip = ZipWriter::new_stream(to);
        for name in archive.records().to_vec() {
            let large = archive.size(&name).is_some_and(|size| size >= LARGE);
            let stored = SimpleFileOptions::default().compression_method(Stored);
            zip.start_file(&*name, stored.with_alignment(ALIGNMENT).large_file(large))
                .map_err(of_zip)?;
            match lying.get(&*name) {
                None => archive.copy(&name, &mut zip)?,
                Some(tensors) => {
                    let bytes = laid(archive.read_stored(&name)?, tensors)?;
                    zip.write_all(&bytes).map_err(|error| error.to_string())?;
                }
            }
        }
        zip.finish().map_err(of_zip)?;
        Ok(())
    }
}

/// A record's bytes with `tensors`, all of one type, in their places. What lies between them stays.
fn laid(mut bytes: Vec<u8>, tensors: &[(&Place, &Tensor)]) -> Result<Vec<u8>, String> {
    let Some((_, first)) = tensors.first() else { return Ok(bytes) };
    let kind = first.kind();
    let base = flat(&bytes, kind)?;
    let placed = || {
        for ((_, offset, sizes, strides), tensor) in tensors {
            let mut there = base.f_as_strided(&sizes[..], &strides[..], *offset)?;
            // What repeats itself, as `expand` makes buffers, nothing can have written.
            if !is_overlapping(&there) {
                there.f_copy_(tensor)?;
            }
        }
        base.f_copy_data_u8(&mut bytes, base.numel())
    };
    tch::no_grad(placed).map_err(|error| error.to_string())?;
    Ok(bytes)
}
