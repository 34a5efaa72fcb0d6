//! Where tokens are kept between runs, and when they are made anew.
//!
//! Documents are cached, not packed sequences: sequence length, split and seed then change without
//! tokenising again, and packing is only arithmetic on the documents' lengths.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

use crate::token_file::{Origin, TokenFile, TokenWriter};
use crate::{Defect, Documents, Error, Result, Tokenizer, file, text};

/// Raised when the same text and vocabulary come out as other ids than before.
const TOKENIZER_VERSION: u32 = 2;

/// What the names of files begin with that are being made.
const MAKING: &str = ".making-";

/// How long nothing has been written to a file that nobody makes any more.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Documents are given to the tokenizer in groups of about so many bytes.
const GROUP_BYTES: usize = 4 << 20;

/// The tokens of a text file: from the cache in `folder` if it has them, else made and put there.
///
/// A file in the cache is named after the content it was made from, written under a temporary name
/// and renamed, so that any number of processes may do this at once: the last one wins, with the
/// same bytes. Who may read it is for the umask to say. Without a folder the tokens go to a nameless
/// temporary file.
pub(crate) fn tokens(
    text: &Path,
    tokenizer: &Tokenizer,
    folder: Option<&Path>,
) -> Result<TokenFile> {
    tokens_and(text, tokenizer, folder, || {})
}

/// [`tokens`], with something that happens between the text's hash and its tokens.
fn tokens_and(
    text: &Path,
    tokenizer: &Tokenizer,
    folder: Option<&Path>,
    between: impl FnOnce(),
) -> Result<TokenFile> {
    // One file from the hash to the tokens, whatever becomes of its name meanwhile.
    let mut content = file::open(text, text::WHAT)?;
    let hash = file::hash(&mut content, text, text::WHAT)?;
    let origin = origin(hash, tokenizer);
    let Some(folder) = folder else {
        let temporary = std::env::temp_dir();
        let mut file = tempfile::tempfile().map_err(cannot_write(&temporary))?;
        between();
        build((content, text, hash), tokenizer, origin, &mut file, &temporary)?;
        return TokenFile::open(&file, origin)
            .map_err(|defect| Error::Cache { path: temporary, defect });
    };
    let path = folder.join(format!("{:032x}.tokens", origin.fingerprint));
    match open(&path, origin) {
        Ok(tokens) => {
            tracing::info!(text = %text.display(), cache = %path.display(), "tokens read from the cache");
            return Ok(tokens);
        }
        Err(Defect::Unreadable(error)) if matches!(*error, Error::Missing { .. }) => {}
        Err(defect) => {
            tracing::warn!(cache = %path.display(), %defect, "token cache not usable, making it anew");
        }
    }
    fs::create_dir_all(folder).map_err(cannot_write(folder))?;
    remove_abandoned(folder);
    let mut file = temporary(folder).map_err(cannot_write(folder))?;
    between();
    build((content, text, hash), tokenizer, origin, file.as_file_mut(), folder)?;
    // What was written is read, not what has the name by then.
    let file = file.persist(&path).map_err(|e| cannot_write(folder)(e.error))?;
    TokenFile::open(&file, origin).map_err(|defect| Error::Cache { path, defect })
}

/// Removes what runs that were killed left behind; who still writes has done so within the hour.
fn remove_abandoned(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(MAKING)) {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let abandoned = written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
        if abandoned && fs::remove_file(entry.path()).is_ok() {
            tracing::info!("{} was left behind and is removed", entry.path().display());
        }
    }
}

/// A file under a name of its own, which is removed unless it gets another.
pub(crate) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(MAKING);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What the umask leaves of it, as for any other file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn origin(text: u128, tokenizer: &Tokenizer) -> Origin {
    let mut hasher = Xxh3::new();
    hasher.update(&TOKENIZER_VERSION.to_le_bytes());
    hasher.update(&text.to_le_bytes());
    hasher.update(&tokenizer.fingerprint().to_le_bytes());
    Origin { fingerprint: hasher.digest128(), vocabulary_size: tokenizer.vocabulary_size() }
}

fn open(path: &Path, origin: Origin) -> Result<TokenFile, Defect> {
    let file = file::open(path, "token cache").map_err(|e| Defect::Unreadable(Box::new(e)))?;
    TokenFile::open(&file, origin)
}

/// Tokenises the whole text, whose hash was this, into `file`, which lies in `folder`. Documents without a
/// token are left out.
fn build(
    (content, text, hash): (File, &Path, u128),
    tokenizer: &Tokenizer,
    origin: Origin,
    file: &mut File,
    folder: &Path,
) -> Result<()> {
    tracing::info!(text = %text.display(), "tokenising");
    let start = Instant::now();
    let (mut documents, read) = Documents::of(content, text)?;
    let mut writer = TokenWriter::new(file, origin).map_err(cannot_write(folder))?;
    loop {
        let group = text::group(&mut documents, GROUP_BYTES)?;
        if group.is_empty() {
            break;
        }
        let encoded = tokenizer
            .encode(&group)
            .map_err(|source| Error::Tokenise { path: text.into(), source })?;
        for ids in encoded.iter().filter(|ids| !ids.is_empty()) {
            writer.push(ids).map_err(cannot_write(folder))?;
        }
    }
    if read.digest() != hash {
        return Err(Error::Changed { path: text.into() });
    }
    if writer.documents() == 0 {
        return Err(Error::Empty { path: text.into() });
    }
    tracing::info!(
        documents = writer.documents(),
        tokens = writer.ids(),
        seconds = start.elapsed().as_secs_f64(),
        "tokenised"
    );
    writer.finish().map_err(cannot_write(folder))
}

pub(crate) fn cannot_write(folder: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::CacheWrite { folder: folder.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tempfile::TempDir;

    struct Fixture {
        folder: TempDir,
        text: PathBuf,
        vocabulary: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (text, vocabulary) = (folder.path().join("text"), folder.path().join("vocab"));
            fs::write(&vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n").unwrap();
            fs::write(&text, "a b c\n\u{200b}\nc d\n").unwrap();
            Self { folder, text, vocabulary }
        }

        fn cache(&self) -> PathBuf {
            self.folder.path().join("deep/cache")
        }

        fn tokens(&self) -> Result<Vec<Vec<u32>>> {
            self.tokens_in(Some(&self.cache()))
        }

        fn tokens_in(&self, folder: Option<&Path>) -> Result<Vec<Vec<u32>>> {
            self.tokens_and(folder, || {})
        }

        fn tokens_and(
            &self,
            folder: Option<&Path>,
            between: impl FnOnce(),
        ) -> Result<Vec<Vec<u32>>> {
            let tokenizer = Tokenizer::from_vocabulary(&self.vocabulary)?;
            let file = tokens_and(&self.text, &tokenizer, folder, between)?;
            let documents = 0..file.documents();
            Ok(documents.map(|i| file.tokens(i, 0..file.length(i)).collect()).collect())
        }

        /// The files in the cache, with the time by which a rewritten file is told from a kept one.
        fn files(&self) -> Vec<(PathBuf, std::time::SystemTime)> {
            let mut files: Vec<_> = fs::read_dir(self.cache())
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
                .collect();
            files.sort();
            files
        }
    }

    #[test]
    fn a_second_run_reads_what_the_first_wrote() {
        let fixture = Fixture::new();
        let expected = [vec![5, 6, 7], vec![7, 1]];
        assert_eq!(fixture.tokens().unwrap(), expected);
        let files = fixture.files();
        assert_eq!(files.len(), 1);
        assert_eq!(fixture.tokens().unwrap(), expected);
        assert_eq!(fixture.files(), files);
        assert_eq!(fixture.tokens_in(None).unwrap(), expected);
    }

    #[test]
    fn other_text_or_vocabulary_makes_another_file() {
        let fixture = Fixture::new();
        fixture.tokens().unwrap();
        fs::write(&fixture.text, "a b c\nb\n").unwrap();
        assert_eq!(fixture.tokens().unwrap(), [vec![5, 6, 7], vec![6]]);
        fs::write(&fixture.vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nc\nb\na\n").unwrap();
        assert_eq!(fixture.tokens().unwrap(), [vec![7, 6, 5], vec![6]]);
        assert_eq!(fixture.files().len(), 3);
    }

    /// What the cache has under a text's fingerprint is that text's, whatever happens while it is made.
    #[test]
    fn a_text_that_changes_while_it_is_tokenised_leaves_nothing_wrong() {
        let (first, second) = (b"a b c\nb\n".as_slice(), b"c c\nc a b\n".as_slice());
        let expected = [vec![vec![5, 6, 7], vec![6]], vec![vec![7, 7], vec![7, 5, 6]]];
        let packed = |text| zstd::encode_all(text, 3).unwrap();
        for texts in [[first.to_vec(), second.to_vec()], [packed(first), packed(second)]] {
            let fixture = Fixture::new();
            let put = |text: &[u8]| fs::write(&fixture.text, text).unwrap();
            for folder in [None, Some(&*fixture.cache())] {
                put(&texts[0]);
                let error = fixture.tokens_and(folder, || put(&texts[1])).unwrap_err().to_string();
                assert!(error.contains("changed while it was read"), "{error}");
                // Replaced instead, as editors do: what was opened is what is read.
                let other = fixture.folder.path().join("other");
                fs::write(&other, &texts[0]).unwrap();
                let replace = || fs::rename(&other, &fixture.text).unwrap();
                assert_eq!(fixture.tokens_and(folder, replace).unwrap(), expected[1]);
                for (text, expected) in texts.iter().zip(&expected) {
                    put(text);
                    assert_eq!(fixture.tokens_in(folder).unwrap(), *expected);
                }
            }
            assert_eq!(fixture.files().len(), 2, "one for each text, and nothing else");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_cache_file_is_open_to_whom_other_files_are() {
        use std::os::unix::fs::PermissionsExt;
        let fixture = Fixture::new();
        fixture.tokens().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&fixture.files()[0].0), mode(&fixture.text));
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_what_others_make_is_not() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.cache()).unwrap();
        let path = |name: &str| fixture.cache().join(name);
        for (name, minutes) in [(".making-old", 90), (".making-new", 30), ("theirs", 90)] {
            let file = File::create(path(name)).unwrap();
            let age = Duration::from_secs(60 * minutes);
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        fixture.tokens().unwrap();
        let there = |name| path(name).exists();
        assert_eq!([".making-old", ".making-new", "theirs"].map(there), [false, true, true]);
        assert_eq!(fixture.files().len(), 3);
    }

    #[test]
    fn a_damaged_cache_is_made_anew() {
        let fixture = Fixture::new();
        let expected = fixture.tokens().unwrap();
        let path = fixture.files()[0].0.clone();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            for damaged in [&bad[..], &good[..at]] {
                fs::write(&path, damaged).unwrap();
                assert_eq!(fixture.tokens().unwrap(), expected, "byte {at}");
                assert_eq!(fs::read(&path).unwrap(), good, "byte {at}");
            }
        }
        assert_eq!(fixture.files().len(), 1);
    }

    #[test]
    fn nothing_is_left_after_an_error() {
        let fixture = Fixture::new();
        for (text, expected) in
            [(&b""[..], "is empty"), (b"\n \n\x01\n", "is empty"), (b"a b\n\xff\n", "line 2")]
        {
            fs::write(&fixture.text, text).unwrap();
            let error = fixture.tokens().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(fixture.files().is_empty());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let fixture = Fixture::new();
        let error = fixture.tokens_in(Some(&fixture.text.join("x"))).unwrap_err().to_string();
        assert!(error.starts_with("cannot write the token cache in"), "{error}");
    }

    #[test]
    fn many_at_once_agree() {
        let fixture = Fixture::new();
        let lines: String = (0..2000).map(|i| ["a b\n", "c c c\n", "b\n"][i % 3]).collect();
        fs::write(&fixture.text, lines).unwrap();
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| fixture.tokens().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(results.iter().all(|tokens| tokens.len() == 2000 && *tokens == results[0]));
        assert_eq!(fixture.files().len(), 1);
    }
}
