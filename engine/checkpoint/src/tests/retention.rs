//! Which checkpoints stay.
use super::*;

fn kept(keep: Keep, losses: &[(u64, Option<f64>)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints::claim(folder.path(), keep).unwrap();
    let mut engine = engine();
    for &(step, validation_loss) in losses {
        train(&mut engine, step);
        let extra = Extra { validation_loss, ..Extra::default() };
        checkpoints.save(&Snapshot::take(&engine, extra).unwrap()).unwrap();
        let latest = std::fs::read_to_string(folder.path().join("latest")).unwrap();
        assert_eq!(latest, format!("step-{step}"));
    }
    let names = names(folder.path()).into_iter();
    names.filter_map(|name| Some(name.strip_prefix("step-")?.to_owned())).collect()
}

#[test]
fn the_newest_those_of_every_so_many_steps_and_the_best() {
    let losses = [3.0, 1.0, f64::NAN, 1.5, 1.0, 2.0]
        .map(Some)
        .into_iter()
        .enumerate()
        .map(|(i, l)| (i as u64 + 1, l));
    let losses: Vec<_> = losses.collect();
    let keep = |last, every_steps, best| Keep { last, every_steps, best };
    assert_eq!(kept(keep(1, 0, false), &losses), ["6"]);
    assert_eq!(kept(keep(2, 0, false), &losses), ["5", "6"]);
    assert_eq!(kept(keep(1, 3, false), &losses), ["3", "6"]);
    // Of equals the later one: it is the newer when the earlier is looked at.
    assert_eq!(kept(keep(1, 0, true), &losses), ["5", "6"]);
    assert_eq!(kept(keep(0, 0, false), &losses), ["6"], "the newest always stays");
    let none: Vec<_> = losses.iter().map(|(step, _)| (*step, None)).collect();
    assert_eq!(kept(keep(1, 0, true), &none), ["6"]);
}

/// A run that went back to an earlier step makes its own later ones, whatever lies there.
#[test]
fn the_newest_is_the_one_written_last() {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[1, 2, 4], 9));
    let mut checkpoints = saved(folder.path(), &[3], 9);
    assert_eq!(newest_step(folder.path()), Some(3));
    checkpoints.save(&snapshot(4)).unwrap();
    assert_eq!(newest_step(folder.path()), Some(4));
    let of_steps = ["latest", "step-1", "step-2", "step-3", "step-4", "step-4-2"];
    drop(checkpoints);
    assert_eq!(names(folder.path()), of_steps);
}

/// What is whole is not replaced: it may be the last that is good.
#[test]
fn a_step_that_is_saved_again_has_a_name_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[2, 2, 2], 2));
    assert_eq!(names(folder.path()), ["latest", "step-2-2", "step-2-3"]);
    assert_eq!(newest(folder.path()).unwrap().0.unwrap().path(), folder.path().join("step-2-3"));
    // The first of the names is free again; the newest is the one written last.
    drop(saved(folder.path(), &[2], 2));
    assert_eq!(names(folder.path()), ["latest", "step-2", "step-2-3"]);
    assert_eq!(newest(folder.path()).unwrap().0.unwrap().path(), folder.path().join("step-2"));
}

/// A tag is the user's: no step's name, none of ours; what it named before is there until the new one is.
#[test]
fn tags_stay_and_are_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = saved(folder.path(), &[1], 1);
    for tag in ["step-7", "step-7-2", "latest", "", ".x", "a/b"] {
        let error = checkpoints.save_tagged(tag, &snapshot(2)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{tag}` is no name for a checkpoint")), "{error}");
    }
    for tag in ["step-final", "mine", "mine"] {
        checkpoints.save_tagged(tag, &snapshot(2)).unwrap();
    }
    checkpoints.save(&snapshot(3)).unwrap();
    drop(checkpoints);
    assert_eq!(names(folder.path()), ["latest", "mine", "step-3", "step-final"]);
    // Killed between the two names.
    let at = |name: &str| folder.path().join(name);
    std::fs::rename(at("mine"), at(".unfinished-old-mine")).unwrap();
    std::fs::create_dir(at(".unfinished-mine")).unwrap();
    drop(Checkpoints::claim(folder.path(), Keep::default()).unwrap());
    assert_eq!(names(folder.path()), ["latest", "mine", "step-3", "step-final"]);
}
