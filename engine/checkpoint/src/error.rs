//! Why a checkpoint cannot be written or read.
use std::io;
use std::path::{Path, PathBuf};
use trainyard::BoxError;

/// Why a checkpoint cannot be written or read. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason, or why there is no content.
        source: BoxError,
    },
    /// A folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A checkpoint is not what was written.
    #[error("checkpoint {} is not whole: {why}", path.display())]
    NotWhole {
        /// Its folder.
        path: PathBuf,
        /// Which file, and what is wrong with it.
        why: String,
    },
    /// A later version wrote it.
    #[error(
        "checkpoint {} is of format {format}, and this version reads formats up to {}: use a later version of Trainyard",
        path.display(),
        crate::FORMAT
    )]
    Newer {
        /// Its folder.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// A file of tensors, or one that belongs to it, is not as it should be.
    #[error("{}: {why}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Weights are not those of the model.
    #[error("the weights of {} do not fit the model: {why}", path.display())]
    Weights {
        /// Where they are from.
        path: PathBuf,
        /// What does not fit, and what to do.
        why: String,
    },
    /// There is no whole checkpoint in a folder.
    #[error("{} has no whole checkpoint{}", folder.display(), listed(broken))]
    None {
        /// The folder.
        folder: PathBuf,
        /// What is there and why it does not count.
        broken: Vec<String>,
    },
    /// It is of another model, optimizer or set of sections.
    #[error("checkpoint {} does not fit this run: {source}{}", path.display(), remedy)]
    DoesNotFit {
        /// Its folder.
        path: PathBuf,
        /// What does not fit.
        source: Box<trainyard::Error>,
        /// What to do, behind a semicolon, or nothing.
        remedy: &'static str,
    },
    /// Another process writes checkpoints there.
    #[error(
        "{} is in use by the run of {}: name another folder",
        folder.display(),
        holder.map_or("another process".to_owned(), |id| format!("process {id}"))
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Its process id, where that is known.
        holder: Option<u32>,
    },
    /// The state could not be copied.
    #[error("the state of step {step} could not be copied: {source}")]
    Copy {
        /// Completed steps.
        step: u64,
        /// Memory, or libtorch's reason.
        source: BoxError,
    },
    /// Another rank's part of a checkpoint did not come.
    #[error(
        "rank {rank} has not written its part of the checkpoint of step {step} within {seconds} s to {}: all ranks \
         need to see that folder",
        folder.display()
    )]
    Part {
        /// The rank.
        rank: usize,
        /// Completed steps.
        step: u64,
        /// How long it was waited for.
        seconds: u64,
        /// The folder of checkpoints.
        folder: PathBuf,
    },
}

/// Of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn write(path: &Path, source: impl Into<BoxError>) -> Self {
        Error::Write { path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Error::Read { path: path.to_owned(), source }
    }

    /// A file or folder, and what is wrong with it.
    pub fn file(path: &Path, why: impl Into<String>) -> Self {
        Error::File { path: path.to_owned(), why: why.into() }
    }

    pub(crate) fn not_whole(path: &Path, why: impl Into<String>) -> Self {
        Error::NotWhole { path: path.to_owned(), why: why.into() }
    }
}

fn listed(broken: &[String]) -> String {
    match broken {
        [] => String::new(),
        some => format!(": {}", some.join("; ")),
    }
}
