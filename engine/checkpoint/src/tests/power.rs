//! A loss of power behind each call of a save: what no synchronisation had covered may be there or not.
use super::*;
use crate::{Disk, Sink, SystemDisk};
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
enum Call {
    CreateFolder(PathBuf),
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Does what it is asked for, and takes note.
#[derive(Debug, Default)]
struct NotingDisk {
    calls: Arc<Mutex<Vec<Call>>>,
}

impl NotingDisk {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Disk for NotingDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.note(Call::CreateFolder(path.to_owned()));
        SystemDisk.create_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.note(Call::Create(path.to_owned()));
        let (file, calls) = (SystemDisk.create(path)?, self.calls.clone());
        Ok(Box::new(NotingSink { path: path.to_owned(), file, calls }))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.note(Call::SyncFolder(path.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Call::Rename(from.to_owned(), to.to_owned()));
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(Call::Remove(path.to_owned()));
        SystemDisk.remove(path)
    }
}

struct NotingSink {
    path: PathBuf,
    file: Box<dyn Sink>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Write for NotingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.lock().unwrap().push(Call::Write(self.path.clone(), bytes.to_vec()));
        self.file.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for NotingSink {
    fn sync(&mut self) -> io::Result<()> {
        self.calls.lock().unwrap().push(Call::Sync(self.path.clone()));
        Ok(())
    }
}

/// Files and folders by number. Of a folder: its entries at its last synchronisation, and after each change since.
/// Of a file: its content, and how much of it is on the disk.
#[derive(Debug)]
enum Node {
    Folder(Vec<BTreeMap<String, usize>>),
    File(Vec<u8>, usize),
}

struct Model {
    root: PathBuf,
    nodes: Vec<Node>,
}

impl Model {
    /// Of what is in a folder, all of it on the disk.
    fn of(root: &Path) -> Self {
        let mut model = Model { root: root.to_owned(), nodes: Vec::new() };
        model.read(root);
        model
    }

    fn read(&mut self, path: &Path) -> usize {
        let place = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(Node::Folder(Vec::new()));
            let entries = names(path).into_iter();
            let entries = entries.map(|name| (name.clone(), self.read(&path.join(name)))).collect();
            self.nodes[place] = Node::Folder(vec![entries]);
        } else {
            let content = std::fs::read(path).unwrap();
            let length = content.len();
            self.nodes.push(Node::File(content, length));
        }
        place
    }

    fn find(&self, path: &Path) -> usize {
        let below = path.strip_prefix(&self.root).expect("a path below the root");
        below.iter().fold(0, |at, name| match &self.nodes[at] {
            Node::Folder(states) => states.last().unwrap()[name.to_str().unwrap()],
            Node::File(..) => panic!("{} is below a file", path.display()),
        })
    }

    /// Changes the entries of the folder that `path` lies in; `name` is that of `path` there.
    fn change(
        &mut self,
        path: &Path,
        change: impl FnOnce(&mut BTreeMap<String, usize>, String) -> Option<usize>,
    ) {
        let at = self.find(path.parent().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Node::Folder(states) = &mut self.nodes[at] else { panic!("no folder") };
        let mut entries = states.last().unwrap().clone();
        change(&mut entries, name);
        states.push(entries);
    }

    fn add(&mut self, path: &Path, node: Node) {
        let place = self.nodes.len();
        self.nodes.push(node);
        self.change(path, |entries, name| entries.insert(name, place));
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::CreateFolder(path) => self.add(path, Node::Folder(vec![BTreeMap::new()])),
            Call::Create(path) => self.add(path, Node::File(Vec::new(), 0)),
            Call::Write(path, bytes) => {
                let at = self.find(path);
                if let Node::File(content, _) = &mut self.nodes[at] {
                    content.extend(bytes);
                }
            }
            Call::Sync(path) => {
                let at = self.find(path);
                if let Node::File(content, synced) = &mut self.nodes[at] {
                    *synced = content.len();
                }
            }
            Call::SyncFolder(path) => {
                let at = self.find(path);
                if let Node::Folder(states) = &mut self.nodes[at] {
                    states.drain(..states.len() - 1);
                }
            }
            Call::Rename(from, to) => {
                let place = self.find(from);
                if from.parent() == to.parent() {
                    let old = from.file_name().unwrap().to_str().unwrap().to_owned();
                    self.change(to, |entries, new| {
                        entries.remove(&old);
                        entries.insert(new, place)
                    });
                } else {
                    self.change(to, |entries, new| entries.insert(new, place));
                    self.change(from, |entries, old| entries.remove(&old));
                }
            }
            Call::Remove(path) => {
                let at = self.find(path);
                if let Node::Folder(states) = &self.nodes[at] {
                    let inside: Vec<_> = states.last().unwrap().keys().cloned().collect();
                    for name in inside {
                        self.apply(&Call::Remove(path.join(name)));
                    }
                }
                self.change(path, |entries, name| entries.remove(&name));
            }
        }
    }

    /// Puts what a loss of power leaves into `to`: which of a folder's states, and how much of what is not on the disk
    /// of a file, is for `pick` to say, which gets how many there are to choose from.
    fn left(&self, at: usize, to: &Path, pick: &mut impl FnMut(usize) -> usize) {
        match &self.nodes[at] {
            Node::File(content, synced) => {
                let more = pick(content.len() - synced + 1);
                std::fs::write(to, &content[..synced + more]).unwrap();
            }
            Node::Folder(states) => {
                std::fs::create_dir_all(to).unwrap();
                for (name, &place) in &states[pick(states.len())] {
                    self.left(place, &to.join(name), pick);
                }
            }
        }
    }
}

#[test]
fn power_may_go_behind_any_call() {
    [3, 2].into_iter().for_each(power_goes);
}

/// In a save of step 3, or of step 2 again.
fn power_goes(of_step: u64) {
    let folder = tempfile::tempdir().unwrap();
    drop(saved(folder.path(), &[1, 2], 1));
    let mut model = Model::of(folder.path());
    let disk = NotingDisk::default();
    let calls = disk.calls.clone();
    let keep = Keep { last: 1, ..Keep::default() };
    let mut checkpoints = Checkpoints::over(folder.path(), keep, Arc::new(disk)).unwrap();
    checkpoints.save(&snapshot(of_step)).unwrap();
    let calls = calls.lock().unwrap().clone();
    assert!(calls.len() > 25, "{}", calls.len());
    let mut random = rand::rngs::StdRng::seed_from_u64(3);
    let mut seen = BTreeMap::new();
    for (index, call) in calls.iter().enumerate() {
        model.apply(call);
        for variant in 0..6 {
            let left = tempfile::tempdir().unwrap();
            let mut pick = |choices: usize| match variant {
                0 => 0,
                1 => choices - 1,
                _ => random.random_range(0..choices),
            };
            model.left(0, left.path(), &mut pick);
            let step = newest_step(left.path());
            let at = format!("behind call {index} ({call:?}), variant {variant}");
            assert!(step == Some(2) || step == Some(of_step), "{at}: {step:?}");
            *seen.entry(step).or_insert(0) += 1;
            // Whoever comes next can go on in it.
            drop(saved(left.path(), &[4], 1));
            assert_eq!(newest_step(left.path()), Some(4), "{at}");
        }
    }
    assert_eq!(seen.len(), if of_step == 3 { 2 } else { 1 }, "{seen:?}");
    // Once the save has returned, nothing can take it away.
    let left = tempfile::tempdir().unwrap();
    model.left(0, left.path(), &mut |_| 0);
    assert_eq!(newest_step(left.path()), Some(of_step));
}
