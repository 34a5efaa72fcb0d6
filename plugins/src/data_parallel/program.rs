//! What tells one build of the program from another.
use std::fs::File;
use std::io::{self, Read};
use std::sync::LazyLock;
use trainyard::{Fingerprint, Mismatch};
use xxhash_rust::xxh3::Xxh3;

/// The version of the engine, which has to be one, and the bytes of the program, which need not: machines with other
/// processors may have builds of their own.
pub(super) fn fingerprints() -> Vec<Fingerprint> {
    let version = env!("CARGO_PKG_VERSION");
    let version = Fingerprint::new("version of trainyard", version, Mismatch::Refuse);
    // Read once. What cannot be read is left out: it says nothing of the program.
    static BUILD: LazyLock<Option<String>> =
        LazyLock::new(|| File::open("/proc/self/exe").and_then(digest).ok());
    let build =
        BUILD.as_ref().map(|build| Fingerprint::new("build of the program", build, Mismatch::Warn));
    [version].into_iter().chain(build).collect()
}

/// Of a file's bytes. Not cryptographic.
fn digest(mut file: impl Read) -> io::Result<String> {
    let (mut hasher, mut chunk) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(format!("{:016x}", hasher.digest())),
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_told_apart() {
        let found = fingerprints();
        assert_eq!(found, fingerprints());
        assert_eq!(found.len(), 2, "this program can read itself: {found:?}");
        assert_ne!(digest(&b"a"[..]).ok(), digest(&b"b"[..]).ok());
    }
}
