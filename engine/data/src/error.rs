//! What can go wrong on the way from a text file to batches.

use std::io;
use std::path::PathBuf;

use crate::BatchShape;
use crate::Bytes;
use crate::text::MAX_DOCUMENT_BYTES;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the data pipeline; its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path of the configuration that neither the file nor the program gave.
    #[error("data.{key} is not set: give the path of {what}")]
    NotSet {
        /// The key inside the data section.
        key: &'static str,
        /// What the file is.
        what: &'static str,
    },
    /// A number of the configuration out of its range.
    #[error("data.{key} = {value} is not in {range}")]
    OutOfRange {
        /// The key inside the data section.
        key: &'static str,
        /// The number given.
        value: f64,
        /// The interval that would be right.
        range: &'static str,
    },
    /// A vocabulary file, and one to be trained.
    #[error(
        "data.vocabulary and data.tokenizer are both set: a text has one vocabulary, leave one out"
    )]
    TwoVocabularies,
    /// No file at the path.
    #[error("{what} {path:?} does not exist")]
    Missing {
        /// Which file: "text file", "vocabulary".
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A folder, a pipe, a device.
    #[error("{what} {path:?} is {kind}, not a file")]
    NotAFile {
        /// Which file: "text file", "vocabulary".
        what: &'static str,
        /// The path given.
        path: PathBuf,
        /// What lies there, with its article.
        kind: &'static str,
    },
    /// The system refused, or the file is damaged (an incomplete Zstandard frame, for one).
    #[error("cannot read {what} {path:?}: {source}")]
    Read {
        /// Which file: "text file", "vocabulary".
        what: &'static str,
        /// The path given.
        path: PathBuf,
        /// The system's or the decompressor's reason.
        source: io::Error,
    },
    /// A line of the file is not UTF-8.
    #[error(
        "line {line} of {what} {path:?} is not UTF-8 (byte {byte} of the line): convert the file to UTF-8"
    )]
    NotUtf8 {
        /// Which file: "text file", "vocabulary".
        what: &'static str,
        /// The path given.
        path: PathBuf,
        /// Line number from 1.
        line: u64,
        /// Byte within the line, from 1.
        byte: usize,
    },
    /// A line longer than [`MAX_DOCUMENT_BYTES`].
    #[error(
        "line {line} of text file {path:?} is longer than {} MiB: put one document on each line",
        MAX_DOCUMENT_BYTES >> 20
    )]
    LineTooLong {
        /// The path given.
        path: PathBuf,
        /// Line number from 1.
        line: u64,
    },
    /// No document with a token in it.
    #[error("text file {path:?} is empty: it should hold one document on each line")]
    Empty {
        /// The path given.
        path: PathBuf,
    },
    /// A vocabulary file that is not a list of different tokens, one a line.
    #[error(
        "line {line} of vocabulary {path:?} {problem}: it should list one token a line, each once"
    )]
    Vocabulary {
        /// The path given.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
    /// A vocabulary without one of BERT's special tokens, or with nothing else.
    #[error(
        "vocabulary {path:?} ({tokens} tokens) lacks {lacks}: it should be a BERT vocabulary, one token a line"
    )]
    VocabularyLacks {
        /// The path given.
        path: PathBuf,
        /// Number of tokens in the file.
        tokens: usize,
        /// What was looked for.
        lacks: &'static str,
    },
    /// The tokenizer gave up on a text.
    #[error("cannot tokenise text file {path:?}: {source}")]
    Tokenise {
        /// The text file.
        path: PathBuf,
        /// The tokenizer's reason.
        source: tokenizers::Error,
    },
    /// The token cache could not be written.
    #[error("cannot write the token cache in {folder:?}: {source}")]
    CacheWrite {
        /// The folder of the cache.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A token cache that reads back wrong right after it was written.
    #[error("the token cache {path:?} was written and reads back wrong: {defect}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        defect: Defect,
    },
    /// Not enough documents to have one on each side of the split.
    #[error(
        "text file {path:?} has {documents} document{}; at least 2 are needed, one to train and one to validate on: put one document on each line",
        if *documents == 1 { "" } else { "s" }
    )]
    TooFewDocuments {
        /// The text file.
        path: PathBuf,
        /// Documents found.
        documents: usize,
    },
    /// A text, or a side of the split, that fills no sequence.
    #[error(
        "text file {path:?} has {tokens} tokens{part}, fewer than the {} of one sequence of {sequence_length}: {remedy}",
        sequence_length - 2
    )]
    TooSmall {
        /// The text file.
        path: PathBuf,
        /// Tokens in that part, without `[CLS]` and `[SEP]`.
        tokens: usize,
        /// Nothing, or " to train on", " to validate on".
        part: &'static str,
        /// Tokens of a sequence, with `[CLS]` and `[SEP]`; at least 8.
        sequence_length: usize,
        /// What to change.
        remedy: &'static str,
    },
    /// Nothing but `[UNK]` on a side of the split.
    #[error(
        "text file {path:?} has nothing but [UNK]{part}: the vocabulary cannot spell its words, choose one made for this language"
    )]
    AllUnknown {
        /// The text file.
        path: PathBuf,
        /// " to train on" or " to validate on".
        part: &'static str,
    },
    /// Less than one optimizer step in an epoch.
    #[error(
        "{sequences} training samples are fewer than one batch of {needed} ({} in a micro-batch x {} accumulated x {} ranks): give more data, or lower the batch size or the sequence length",
        shape.micro_batch, shape.gradient_accumulation_steps, shape.share.world_size
    )]
    TooFewSequences {
        /// Training sequences.
        sequences: usize,
        /// Sequences of one optimizer step on all ranks.
        needed: usize,
        /// What that is the product of.
        shape: BatchShape,
    },
    /// A batch or rank that cannot be.
    #[error("{name} = {value} is not {right}")]
    Shape {
        /// Which number.
        name: &'static str,
        /// Its value.
        value: usize,
        /// What would be right.
        right: String,
    },
    /// A number of the configuration of data by input name out of its range.
    #[error("{key} = {value} is not in {range}")]
    ArrayOption {
        /// The key inside the section.
        key: &'static str,
        /// The number given.
        value: f64,
        /// The interval that would be right.
        range: String,
    },
    /// A file of data by input name that is not what it should be.
    #[error("data file {path:?} {problem}")]
    DataFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A folder of data by input name whose files do not go together.
    #[error("data folder {path:?} {problem}")]
    DataFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A token that the vocabulary does not have.
    #[error(
        "sample {sample} of `{name}` in {path:?} has token {id}, which is not in [0, {vocabulary}), the ids of masking.vocabulary"
    )]
    Token {
        /// The input.
        name: String,
        /// Index of the sample in its file.
        sample: usize,
        /// The file.
        path: PathBuf,
        /// The id in the file.
        id: i64,
        /// Number of ids there are.
        vocabulary: u32,
    },
    /// What would not fit into memory.
    #[error("{what} takes {needed} of memory, and {available} can be had: {remedy}")]
    Memory {
        /// What it is.
        what: String,
        /// Bytes it would take.
        needed: Bytes,
        /// Bytes there are.
        available: Bytes,
        /// What to change.
        remedy: String,
    },
    /// The system gave no memory for a batch.
    #[error("no memory for {what}: {bytes} were refused; lower train_micro_batch_size_per_gpu")]
    NoMemory {
        /// What it was for.
        what: String,
        /// Bytes asked for.
        bytes: Bytes,
    },
    /// The text was written to while it was read.
    #[error("text file {path:?} changed while it was read: start again once nothing writes to it")]
    Changed {
        /// The text file.
        path: PathBuf,
    },
    /// libtorch could not make a batch, for want of memory as a rule.
    // From the second line on the message is a C++ stack trace.
    #[error("cannot make a batch: {}", .0.to_string().lines().next().unwrap_or_default())]
    Torch(#[from] tch::TchError),
    /// The thread that prepares batches could not start.
    #[error("cannot start the thread that prepares batches: {0}")]
    Thread(io::Error),
    /// The thread that prepares batches panicked.
    #[error("the thread that prepares batches panicked: {0}")]
    Panicked(String),
}

/// Why a token cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// It cannot be read at all.
    #[error("{0}")]
    Unreadable(Box<Error>),
    /// The system refused to map it.
    #[error("cannot be mapped: {0}")]
    Map(io::Error),
    /// The first bytes are something else.
    #[error("it is not a token cache")]
    Magic,
    /// Another version of the format.
    #[error("its format has version {found}, this program writes {expected}")]
    Version {
        /// In the file.
        found: u32,
        /// Of this program.
        expected: u32,
    },
    /// Made from another text, vocabulary or tokenizer.
    #[error("it was made from another text or vocabulary")]
    Stale,
    /// The header's numbers and the length of the file disagree.
    #[error("it is {bytes} bytes long, its header says otherwise")]
    Length {
        /// Length of the file.
        bytes: u64,
    },
    /// The content is not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// Document offsets that run backwards or past the end.
    #[error("the offset of document {document} is out of order")]
    Offsets {
        /// Index of the document.
        document: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token {id} is not below the vocabulary's size {vocabulary_size}")]
    Token {
        /// The id in the file.
        id: u32,
        /// Number of ids there are.
        vocabulary_size: usize,
    },
}
