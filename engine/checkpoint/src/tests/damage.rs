//! Checkpoints that are not what was written, and ones that somebody made up.
use super::*;
use crate::{Error, find};
use serde_json::{Value, json};
use std::fs;

/// The files of a checkpoint.
const FILES: [&str; 5] = [
    "checkpoint.json",
    "configuration.json",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
];

/// Checkpoints of steps 1 and 2, the second of them in the hands of `damage`; what is said of it.
fn damaged(damage: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[1, 2], 2));
    let second = folder.path().join("step-2");
    damage(&second);
    let (found, broken) = newest(folder.path()).unwrap();
    assert_eq!(found.map(|found| holds_its_step(&found)), Some(1));
    let [error] = &broken[..] else { panic!("{broken:?}") };
    let alone = find(&second).unwrap_err().to_string();
    if second.join("checkpoint.json").exists() {
        assert_eq!(alone, error.to_string());
    }
    let text = error.to_string();
    let start = format!("checkpoint {} is not whole: ", second.display());
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[2], 1));
    let path = folder.path().join("step-2");
    assert_eq!(names(&path), FILES);
    for name in FILES {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        let stride = (whole.len() / 97).max(1);
        for at in (0..whole.len()).step_by(stride) {
            let mut content = whole.clone();
            content[at] ^= 0x10;
            fs::write(&file, &content).unwrap();
            // White space of the record says nothing.
            let says_the_same = name == "checkpoint.json"
                && serde_json::from_slice::<Value>(&content).ok()
                    == serde_json::from_slice::<Value>(&whole).ok();
            let verified = Checkpoint::open(&path).and_then(|found| found.verify());
            assert_eq!(verified.is_ok(), says_the_same, "byte {at} of {name}");
        }
        fs::write(&file, &whole).unwrap();
    }
    Checkpoint::open(&path).unwrap().verify().unwrap();
}

#[test]
fn the_one_before_is_taken_with_a_sentence() {
    for name in FILES {
        let said = damaged(|path| fs::remove_file(path.join(name)).unwrap());
        let expected = match name {
            "checkpoint.json" => "it has no checkpoint.json".to_owned(),
            _ => format!("{name} is missing"),
        };
        assert_eq!(said, expected);
        let said = damaged(|path| {
            let content = fs::read(path.join(name)).unwrap();
            fs::write(path.join(name), &content[..content.len() / 2]).unwrap();
        });
        let expected = match name {
            "checkpoint.json" => "checkpoint.json is damaged: ".to_owned(),
            _ => format!("{name} has "),
        };
        assert!(said.starts_with(&expected), "{said}");
        if name != "checkpoint.json" {
            let said = damaged(|path| {
                let mut content = fs::read(path.join(name)).unwrap();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                fs::write(path.join(name), &content).unwrap();
            });
            assert_eq!(said, format!("{name} is not what was written"));
        }
    }
}

#[test]
fn a_later_format_is_no_reason_to_go_back() {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[1, 2], 2));
    let later = json!({ "format": 2, "files": "elsewhere" }).to_string();
    fs::write(folder.path().join("step-2/checkpoint.json"), later).unwrap();
    let error = newest(folder.path()).unwrap_err().to_string();
    let path = folder.path().join("step-2");
    let said = format!(
        "checkpoint {} is of format 2, and this version reads formats up to 1: use a later version of Trainyard",
        path.display()
    );
    assert_eq!(error, said);
}

#[test]
fn a_folder_without_any_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let error = find(folder.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{} has no whole checkpoint", folder.path().display()));
    fs::create_dir(folder.path().join("step-3")).unwrap();
    let error = find(folder.path()).unwrap_err();
    assert!(matches!(error, Error::None { .. }));
    assert!(
        error.to_string().contains("step-3 is not whole: it has no checkpoint.json"),
        "{error}"
    );
    let nowhere = find(&folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(nowhere.ends_with("nowhere has no whole checkpoint"), "{nowhere}");
}

/// What is said of a checkpoint whose digests are right and whose `name` holds `content`.
fn made_up(name: &str, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[2], 1));
    let path = folder.path().join("step-2");
    fs::write(path.join(name), content).unwrap();
    let record = path.join("checkpoint.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let xxh3 = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(content));
    value["files"][name] = json!({ "bytes": content.len(), "xxh3": xxh3 });
    fs::write(&record, value.to_string()).unwrap();
    let mut engine = engine();
    let before = engine.state();
    let restored = find(&path).and_then(|(found, _)| found.restore(&mut engine));
    let error = restored.unwrap_err().to_string();
    let after = engine.state();
    assert!(before.model.iter().all(|(name, tensor)| tensor.equal(&after.model[name])));
    error
}

fn safetensors(header: &Value, data: usize) -> Vec<u8> {
    let header = header.to_string().into_bytes();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.resize(file.len() + data, 0);
    file
}

#[test]
fn made_up_files_are_refused_and_take_no_memory() {
    let tensor = |begin: u64, end: u64, shape: Value| json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] });
    let huge = u64::MAX.to_le_bytes();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a header of 2^64 bytes", huge.to_vec()),
        ("no header", vec![1, 2]),
        (
            "overlapping tensors",
            safetensors(
                &json!({ "a": tensor(0, 8, json!([2])), "b": tensor(4, 12, json!([2])) }),
                12,
            ),
        ),
        (
            "a tensor beyond the file",
            safetensors(&json!({ "a": tensor(0, 1 << 40, json!([1u64 << 38])) }), 8),
        ),
        (
            "a shape that overflows",
            safetensors(&json!({ "a": tensor(0, 8, json!([1u64 << 62, 1u64 << 62])) }), 8),
        ),
        ("bytes of nobody", safetensors(&json!({ "a": tensor(0, 8, json!([2])) }), 16)),
        ("no JSON", safetensors(&json!("text"), 8)),
        ("another model", safetensors(&json!({ "other": tensor(0, 8, json!([2])) }), 8)),
        ("nothing", safetensors(&json!({}), 0)),
    ];
    for (what, content) in cases {
        for name in ["model.safetensors", "optimizer.safetensors"] {
            if (what, name) == ("nothing", "optimizer.safetensors") {
                continue;
            }
            let error = made_up(name, &content);
            assert!(error.contains("step-2 "), "{what} in {name}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
    let truth = json!({ "a": { "dtype": "BOOL", "shape": [2], "data_offsets": [0, 2] } });
    let mut content = safetensors(&truth, 2);
    *content.last_mut().unwrap() = 2;
    let error = made_up("model.safetensors", &content);
    assert!(error.contains("`a` has truth values other than 0 and 1"), "{error}");
    for state in ["{}", "[1]", "{\"step\": -1}", "{\"step\": 1e99}"] {
        let error = made_up("state.json", state.as_bytes());
        assert!(error.contains("state.json is damaged"), "{error}");
    }
}

#[test]
fn names_lead_nowhere_else() {
    for name in ["../step-1/state.json", "/etc/hostname", "a/b", "..", ".", "", "state.json/"] {
        let said = damaged(|path| {
            let record = path.join("checkpoint.json");
            let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
            value["files"][name] = json!({ "bytes": 1, "xxh3": "0" });
            fs::write(&record, value.to_string()).unwrap();
        });
        assert_eq!(said, format!("checkpoint.json names `{name}`, which is no file in it"));
    }
    let said = damaged(|path| {
        let state = path.join("state.json");
        fs::rename(&state, path.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &state).unwrap();
    });
    assert!(said.starts_with("state.json has "), "a link is no file: {said}");
}

/// A record that is no file is not opened: a link to a device would have no end.
#[test]
fn a_record_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[2], 1));
    let record = folder.path().join("step-2/checkpoint.json");
    let kept = folder.path().join("kept.json");
    std::fs::rename(&record, &kept).unwrap();
    std::os::unix::fs::symlink(&kept, &record).unwrap();
    let error = Checkpoint::open(&folder.path().join("step-2")).unwrap_err().to_string();
    assert!(error.ends_with("is not whole: checkpoint.json is no file"), "{error}");
}
