//! Why there is no run, or no more of it.
use std::path::{Path, PathBuf};
use trainyard::BoxError;

/// Why there is no run, or no more of it. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration, the model or the training.
    #[error(transparent)]
    Engine(#[from] trainyard::Error),
    /// The text, the vocabulary or the cache.
    #[error(transparent)]
    Data(#[from] trainyard_data::Error),
    /// libtorch could not make the parameters.
    #[error("a model of these sizes cannot be made: {0}")]
    Model(String),
    /// A checkpoint or weights to begin with cannot be written or read, or do not fit.
    #[error(transparent)]
    Checkpoint(#[from] trainyard_checkpoint::Error),
    /// There are checkpoints, and the configuration wants to begin anew.
    #[error(
        "{} is there, and checkpoint.resume is \"never\": go on from it with --resume, replace the run with \
         --overwrite, or name another folder",
        checkpoint.display()
    )]
    Checkpoints {
        /// One of them.
        checkpoint: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: String,
        /// The system's reason, or why there is no content.
        source: BoxError,
    },
    /// The output folder holds a run.
    #[error(
        "{} has files of a run ({files}): name another folder with --output, or replace them with --overwrite",
        folder.display()
    )]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// Files of the run that was found.
        files: String,
    },
    /// Another rank failed at what all do together: an evaluation, or the end of a run that was stopped, as rank 0 does
    /// where it cannot save the model.
    #[error("{who} failed in {operation}: see its own error")]
    Peer {
        /// Which rank, where that is known.
        who: String,
        /// What they were at.
        operation: &'static str,
    },
    /// What the run reads is among the files that it replaces.
    #[error("{} is read by this run, which would replace it: name another folder with --output", file.display())]
    Input {
        /// The file.
        file: PathBuf,
    },
    /// Another process writes to the output folder.
    #[error(
        "{} is in use by the run of {}: name another folder with --output",
        folder.display(),
        holder.map_or("another process".to_owned(), |id| format!("process {id}"))
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Its process id, where that is known.
        holder: Option<u32>,
    },
    /// The trained model finds no room.
    #[error(
        "{} has room for {}, and the trained model takes {}: make room, or name another folder with --output",
        folder.display(),
        megabytes(*room),
        megabytes(*needed)
    )]
    Room {
        /// The folder.
        folder: PathBuf,
        /// Bytes that are free.
        room: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The user's own data, or an observer.
    #[error(transparent)]
    Outside(#[from] BoxError),
    /// Something around the training.
    #[error("{0}")]
    Other(String),
}

impl RunError {
    /// Another rank failed.
    pub(crate) fn peer(who: impl Into<String>, operation: &'static str) -> Self {
        RunError::Peer { who: who.into(), operation }
    }

    /// `path` cannot be written.
    pub(crate) fn cannot_write(path: &Path, source: BoxError) -> Self {
        RunError::Write { path: path.display().to_string(), source }
    }
}

impl From<trainyard::config::ConfigError> for RunError {
    fn from(error: trainyard::config::ConfigError) -> Self {
        RunError::Engine(error.into())
    }
}

/// In millions of bytes, as sizes of disks are told.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
