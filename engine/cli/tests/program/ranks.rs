//! What the ranks of one run tell: how they differ, and what all of them would say.
use crate::{Ran, checkout, configuration, ended, folder, program, write};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Two ranks of `trainyard train` with these arguments; rank 1 starts in `other` of the folder, and is the program
/// of that path.
fn two_ranks(folder: &Path, other: &str, other_program: &Path, arguments: &str) -> Ran {
    let ours = env!("CARGO_BIN_EXE_trainyard");
    let theirs = other_program.to_str().expect("UTF-8");
    let script = format!(
        "program={ours}; if [ $RANK = 1 ]; then cd {other}; program={theirs}; fi; exec $program train {arguments}"
    );
    let launch = ["launch", "--nproc-per-node", "2", "--", "sh", "-c", &script];
    ended(program(folder, &launch).output().expect("the program starts"))
}

fn count(ran: &Ran, text: &str) -> usize {
    ran.stderr.lines().filter(|line| line.contains(text)).count()
}

/// One parameter, and what is made of it; where code and weights differ, and where code and an attribute.
const MODELS: &str = r#"
import sys, os, numpy, torch
class Times(torch.nn.Module):
    def __init__(self, weight=1.0, by=1.0):
        super().__init__()
        self.w, self.by = torch.nn.Parameter(torch.tensor(weight)), by
    def forward(self, x):
        return self.w * x.mean() * self.by
class Plus(Times):
    def forward(self, x):
        return self.w + x.mean() * self.by
for name, model in dict(first=Times(), again=Times(), weights=Times(2.0), code=Plus(), attribute=Times(by=2.0)).items():
    os.makedirs(f"{sys.argv[1]}/{name}")
    torch.jit.save(torch.jit.script(model), f"{sys.argv[1]}/{name}/model.pt")
for folder, value in ("data", 1), ("first/data", 1), ("again/data", 2):
    for part in "train", "validation":
        os.makedirs(f"{sys.argv[1]}/{folder}/{part}")
        numpy.save(f"{sys.argv[1]}/{folder}/{part}/x.npy", numpy.full((8, 2), value, "f4"))
"#;

/// Rank 1 has a file of the same name and the same parameters: other weights are rank 0's from the first step on,
/// and another model, or other data, is told before it.
#[test]
fn ranks_with_other_models_or_data() {
    let folder = folder();
    let path = folder.path();
    write(path, "models.py", MODELS);
    let mut python = Command::new(checkout(".libtorch/python"));
    let made = python.arg(path.join("models.py")).arg(path).output().expect("Python starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let config = json!({
        "train_batch_size": 2, "training": { "total_steps": 1 },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
        "distributed": { "timeout_seconds": 60 },
    });
    write(path, "one.json", &config.to_string());
    let arguments =
        format!("--config {0}/one.json --data {0}/data --model model.pt", path.display());
    let mixed = format!(
        "--config {0}/one.json --data data --model model.pt --output {0}/out-data",
        path.display()
    );
    let ran = two_ranks(&path.join("first"), "../again", ours(), &mixed);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let told = "the ranks do not have the same data: its fingerprint is ";
    assert_eq!(count(&ran, told), 3, "each rank and the launcher: {ran:#?}");
    for (other, same) in [("again", true), ("weights", true), ("code", false), ("attribute", false)]
    {
        let arguments = format!("{arguments} --output {}/out-{other}", path.display());
        let ran = two_ranks(&path.join("first"), &format!("../{other}"), ours(), &arguments);
        assert_eq!(ran.status, Some(if same { 0 } else { 1 }), "{other}: {ran:#?}");
        let told = "meeting the others failed: the ranks do not have the same model code: its fingerprint is ";
        for rank in [0, 1] {
            let said = count(&ran, &format!("[rank {rank}] error: rank {rank}: {told}"));
            assert_eq!(said, usize::from(!same), "{other}: {ran:#?}");
        }
    }
}

/// Which samples were not finite is known to the rank that had them alone.
#[test]
fn each_rank_says_which_of_its_samples_are_not_finite() {
    let folder = folder();
    let path = folder.path();
    let models = MODELS
        .replace("numpy.full((8, 2), value, \"f4\")", "numpy.full((8, 2), numpy.nan, \"f4\")");
    write(path, "models.py", &models);
    let mut python = Command::new(checkout(".libtorch/python"));
    let made = python.arg(path.join("models.py")).arg(path).output().expect("Python starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let config = json!({
        "train_batch_size": 2, "training": { "total_steps": 1, "terminate_on_nan": true },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
        "distributed": { "timeout_seconds": 60 },
    });
    write(path, "one.json", &config.to_string());
    let ran = two_ranks(path, ".", ours(), "--config one.json --data data --model first/model.pt");
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let told = "the data of this step is not finite: `x` has NaN in sample ";
    for line in [format!("[rank 0]  WARN {told}"), format!("[rank 1]  WARN rank 1: {told}")] {
        assert_eq!(count(&ran, &line), 1, "{line}: {ran:#?}");
    }
}

fn ours() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_trainyard"))
}

/// Another build of the program is told once, and so is what every rank would say; the run goes on.
#[test]
fn what_all_ranks_would_say_is_said_once() {
    let folder = folder();
    let path = folder.path();
    let other = path.join("other");
    fs::copy(ours(), &other).expect("a copy of the program");
    // Behind its end, which nothing reads.
    let file = fs::OpenOptions::new().append(true).open(&other);
    file.and_then(|mut file| file.write_all(b"another build")).expect("the copy is ours");
    let mut config = configuration();
    config["progressive_layer_drop"]["gamma"] = json!(1e-4);
    config["scheduler"] = json!({
        "type": "WarmupDecayLR", "params": { "total_num_steps": 3, "warmup_num_steps": 100 },
    });
    write(path, "slow.json", &config.to_string());
    let ran = two_ranks(path, ".", &other, "--config slow.json --output out");
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    for said in [
        "[rank 0]  WARN rank 1 of 2: not the same build of the program as rank 0's; they train together",
        "[rank 0]  WARN progressive_layer_drop: gamma = 0.0001 takes theta from 1 to",
        "takes theta from 1 to",
        "the schedule ends before its warm-up does",
    ] {
        assert_eq!(count(&ran, said), 1, "{said}: {ran:#?}");
    }
    let same = two_ranks(path, ".", ours(), "--config run.json --output again");
    assert_eq!((same.status, count(&same, "WARN")), (Some(0), 0), "{same:#?}");
}
