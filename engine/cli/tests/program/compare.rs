use crate::{checkout, trainyard, write};

/// The configurations that the project carries: what is accepted, what is turned away and why.
#[test]
fn verdicts_side_by_side() {
    let folder = checkout("engine/cli/tests/deepspeed");
    let ran = trainyard(&folder, &["compare", ".", "--verdicts", "verdicts.tsv"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    for line in [
        "## verdicts: 10 configurations",
        "| accepts | 3 | 2 | 1 |",
        "| rejects | 1 | 0 | 3 |",
        "83.3 % (5 of 6)",
        "75.0 % (3 of 4)",
        "| refused | sparse_attention asks for block-sparse attention",
        "| unknown | optimizer: unknown key \"eps\"; it belongs in optimizer.params | `stray_keys.json` |",
        "| unknown | unknown key \"max_grad_norm\"; did you mean \"gradient_clipping\"? | `stray_keys.json` |",
        "| `curved.json` | total_num_steps is missing | ",
        "| `python.json` | fp16.enabled is no boolean | True is not JSON; write true",
        "| `batch.json` | 60 != 4 * 1 * 8 | train_batch_size = 60 is not a multiple of micro-batch 4 x 8",
        "compile: unknown key \"enabled\"",
        "fp16.min_loss_scale = 0 is not >= 1",
        "## Why they differ",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} in {}", ran.stdout);
    }
}

#[test]
fn a_table_that_is_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "odd.tsv", "name\tverdict\na.json\taccept\n");
    let ran = trainyard(folder.path(), &["compare", ".", "--verdicts", "odd.tsv"]);
    assert_eq!(ran.status, Some(1));
    let sentence = "odd.tsv: there is no column `file` or `config` in the header";
    assert!(ran.stderr.contains(sentence), "{}", ran.stderr);
    let ran = trainyard(folder.path(), &["compare", ".", "--verdicts", "none.tsv"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("cannot read none.tsv"), "{}", ran.stderr);
    // A file of the table that is not there is one that is turned away.
    write(folder.path(), "one.tsv", "file\tverdict\na.json\taccept\n");
    let ran = trainyard(folder.path(), &["compare", ".", "--verdicts", "one.tsv"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.stdout.contains("there is no such file"), "{}", ran.stdout);
}
