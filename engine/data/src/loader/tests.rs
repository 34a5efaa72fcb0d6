use super::*;
use crate::tokens::tests::shipped;
use std::collections::BTreeSet;
use std::fs;
use tempfile::TempDir;

/// A vocabulary of 26 letters and a text of `documents` lines.
struct Fixture {
    folder: TempDir,
    config: DataConfig,
}

impl Fixture {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let letters: Vec<String> = ('a'..='z').map(String::from).collect();
        let vocabulary = format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n{}\n", letters.join("\n"));
        fs::write(folder.path().join("vocabulary"), vocabulary).unwrap();
        fs::write(folder.path().join("text"), text).unwrap();
        let config = DataConfig {
            vocabulary: Some(folder.path().join("vocabulary")),
            sequence_length: 16,
            validation_share: 0.2,
            cache: Some(folder.path().join("cache")),
            ..DataConfig::new(folder.path().join("text"))
        };
        Self { folder, config }
    }

    /// 50 documents, of which every sequence differs from every other.
    fn usual() -> Self {
        let letter = |i: u32| char::from(b'a' + (i * i * 7 + i / 26 * 3 + i / 5) as u8 % 26);
        let document =
            |d: u32| (0..20 + d % 30).map(|t| format!("{} ", letter(d * 61 + t))).collect();
        Self::new(&(0..50).map(document).collect::<Vec<String>>().join("\n"))
    }

    fn open(&self) -> MlmData {
        MlmData::open(&self.config, 7).unwrap()
    }

    fn error(&self) -> String {
        MlmData::open(&self.config, 7).err().expect("this should fail").to_string()
    }
}

fn shape(micro_batch: usize, accumulation: usize, rank: usize, world_size: usize) -> BatchShape {
    let share = Share { rank, world_size };
    BatchShape { micro_batch, gradient_accumulation_steps: accumulation, share }
}

/// Tokens as shown, and the positions and labels in them.
type Row = (Vec<i64>, Vec<(i64, i64)>);
type Rows = Vec<Row>;

/// The rows of a batch.
fn rows(batch: &MlmBatch) -> Rows {
    let numbers = |tensor| Vec::<i64>::try_from(tensor).unwrap();
    let time = batch.ids.size()[1];
    let masked = numbers(&batch.positions).into_iter().zip(numbers(&batch.labels));
    let masked: Vec<(i64, i64)> = masked.collect();
    assert_eq!(batch.count, masked.len() as i64);
    numbers(&batch.ids.view(-1))
        .chunks(time as usize)
        .zip((0..).map(|row| row * time..(row + 1) * time))
        .map(|(ids, places)| {
            let mine = masked.iter().filter(|(at, _)| places.contains(at));
            (ids.to_vec(), mine.map(|&(at, label)| (at - places.start, label)).collect())
        })
        .collect()
}

/// The rows of so many steps, each step's micro-batches joined.
fn steps(data: &MlmData, shape: BatchShape, start: u64, count: usize) -> Vec<Rows> {
    let batches = data.train_batches(shape, start).unwrap();
    batches.take(count).map(|step| step.unwrap().iter().flat_map(rows).collect()).collect()
}

/// The tokens before masking.
fn original((ids, masked): &Row) -> Vec<i64> {
    let mut ids = ids.clone();
    for &(at, label) in masked {
        ids[at as usize] = label;
    }
    ids
}

#[test]
fn a_step_has_its_micro_batches() {
    let data = Fixture::usual().open();
    let step = data.train_batches(shape(3, 2, 0, 1), 0).unwrap().next().unwrap().unwrap();
    assert_eq!(step.len(), 2);
    for batch in &step {
        assert_eq!(batch.ids.size(), [3, 16]);
        for row in rows(batch) {
            assert_eq!((row.0[0], row.0[15]), (2, 3));
            assert_eq!(row.1.len(), 2); // 15 % of 13 or 14
            assert!(original(&row).iter().all(|&id| (2..31).contains(&id) && id != 4));
        }
    }
}

#[test]
fn sequences_are_masked_each_in_its_own_places() {
    let data = Fixture::usual().open();
    let rows = steps(&data, shape(1, 1, 0, 1), 0, 60).concat();
    // Without a separator inside, all have the same places to choose from.
    let plain = rows.iter().filter(|row| original(row)[..15].iter().all(|&id| id != 3));
    let places: Vec<Vec<i64>> =
        plain.map(|row| row.1.iter().map(|&(at, _)| at).collect()).collect();
    let different = places.iter().collect::<BTreeSet<_>>().len();
    assert!(places.len() > 20 && different * 2 > places.len(), "{different} of {}", places.len());
}

#[test]
fn resuming_gives_the_same_batches() {
    let data = Fixture::usual().open();
    let shape = shape(4, 2, 0, 1);
    let whole = steps(&data, shape, 0, 30);
    assert!(data.train_batches(shape, 0).unwrap().steps_per_epoch() < 12, "the test spans epochs");
    for start in [1, 7, 29] {
        assert_eq!(steps(&data, shape, start as u64, 30 - start), whole[start..]);
    }
    let again = Fixture::usual().open();
    assert_eq!(steps(&again, shape, 0, 30), whole);
    steps(&data, shape, u64::MAX - 1, 1);
}

#[test]
fn ranks_together_see_what_one_rank_sees() {
    let data = Fixture::usual().open();
    let whole = steps(&data, shape(12, 1, 0, 1), 0, 14);
    for (micro_batch, accumulation, world_size) in
        [(3, 4, 1), (6, 1, 2), (2, 3, 2), (4, 1, 3), (2, 2, 3)]
    {
        let ranks: Vec<_> = (0..world_size)
            .map(|rank| steps(&data, shape(micro_batch, accumulation, rank, world_size), 0, 14))
            .collect();
        for (step, expected) in whole.iter().enumerate() {
            let together: Rows = ranks.iter().flat_map(|rank| rank[step].clone()).collect();
            assert_eq!(together, *expected, "{world_size} ranks, step {step}");
        }
    }
}

#[test]
fn an_epoch_has_every_sequence_at_most_once() {
    let data = Fixture::usual().open();
    let shape = shape(5, 1, 0, 1);
    let per_epoch = data.training_sequences() / 5;
    assert_ne!(data.training_sequences() % 5, 0, "the test needs a rest");
    let all = steps(&data, shape, 0, per_epoch * 2);
    let epochs: Vec<Vec<Vec<i64>>> =
        all.chunks(per_epoch).map(|steps| steps.iter().flatten().map(original).collect()).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), per_epoch * 5);
    }
    assert_ne!(epochs[0], epochs[1]);
    // The same sequence is masked otherwise in another epoch.
    let masks = |epoch: usize| -> std::collections::BTreeMap<_, _> {
        let rows = all[epoch * per_epoch..][..per_epoch].iter().flatten();
        rows.map(|row| (original(row), row.1.clone())).collect()
    };
    let (first, second) = (masks(0), masks(1));
    let same = first.iter().filter(|(key, mask)| second.get(*key) == Some(mask)).count();
    assert!(same * 4 < first.len(), "{same} of {}", first.len());
}

#[test]
fn validation_is_always_the_same_and_apart() {
    let fixture = Fixture::usual();
    let data = fixture.open();
    let validation = |data: &MlmData, batch, rank, world_size| -> Rows {
        let share = Share { rank, world_size };
        data.validation_batches(batch, share).unwrap().flat_map(|batch| rows(&batch)).collect()
    };
    let whole = validation(&data, 4, 0, 1);
    assert_eq!(whole.len(), data.validation_sequences());
    assert_ne!(whole.len() % 4, 0, "the test needs a last, smaller batch");
    assert_eq!(validation(&MlmData::open(&fixture.config, 8).unwrap(), 7, 0, 1), whole);

    let mut ranks: Rows = (0..3).flat_map(|rank| validation(&data, 2, rank, 3)).collect();
    let mut expected = whole.clone();
    ranks.sort();
    expected.sort();
    assert_eq!(ranks, expected);
    assert!(validation(&data, 2, 99, 100).is_empty());

    let trained: BTreeSet<_> = steps(&data, shape(1, 1, 0, 1), 0, data.training_sequences())
        .concat()
        .iter()
        .map(original)
        .collect();
    assert!(whole.iter().all(|row| !trained.contains(&original(row))));

    let few = DataConfig { max_validation_sequences: Some(3), ..fixture.config.clone() };
    let few = validation(&MlmData::open(&few, 7).unwrap(), 2, 0, 1);
    assert!(few.len() == 3 && few.iter().all(|row| whole.contains(row)));
}

#[test]
fn compressed_text_is_the_same_text() {
    let mut fixture = Fixture::usual();
    let plain = steps(&fixture.open(), shape(4, 1, 0, 1), 0, 5);
    let packed = fixture.folder.path().join("packed");
    let text = fs::read(fixture.config.text.as_ref().unwrap()).unwrap();
    fs::write(&packed, zstd::encode_all(&text[..], 3).unwrap()).unwrap();
    fixture.config.text = Some(packed);
    assert_eq!(steps(&fixture.open(), shape(4, 1, 0, 1), 0, 5), plain);
    fixture.config.cache = None;
    assert_eq!(steps(&fixture.open(), shape(4, 1, 0, 1), 0, 5), plain);
}

#[test]
fn the_fingerprint_tells_data_apart() {
    let print = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::usual();
        change(&mut fixture);
        let [one, two] =
            [7, 8].map(|seed| MlmData::open(&fixture.config, seed).unwrap().fingerprint());
        assert_eq!(one, two, "the seed has no part in it");
        one
    };
    let base = print(&|_| {});
    assert_eq!(base, print(&|_| {}), "the folder has no part in it");
    assert_eq!(base, print(&|fixture| fixture.config.cache = None));
    let append = |path: &Option<PathBuf>, more: &str| {
        let path = path.as_deref().unwrap();
        fs::write(path, fs::read_to_string(path).unwrap() + more).unwrap();
    };
    let others = [
        base,
        print(&|fixture| append(&fixture.config.text, "\nz")),
        print(&|fixture| append(&fixture.config.vocabulary, "zz\n")),
        print(&|fixture| fixture.config.sequence_length = 17),
        print(&|fixture| fixture.config.validation_share = 0.3),
        print(&|fixture| fixture.config.mask_probability = 0.2),
        print(&|fixture| fixture.config.max_validation_sequences = Some(2)),
    ];
    assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
}

#[test]
fn bad_input_is_one_clear_sentence() {
    let line = "a b c d e f g h i j k l m n o p\n";
    for (text, expected) in [
        ("".to_owned(), "is empty: it should hold one document on each line"),
        (
            "a b\nc".to_owned(),
            "has 3 tokens, fewer than the 14 of one sequence of 16: give more text or lower sequence_length",
        ),
        (
            line.to_owned(),
            "has 1 document; at least 2 are needed, one to train and one to validate on: put one document on each line",
        ),
        ("a b c d e f g h i j\n".repeat(5), " has 10 tokens to validate on, fewer than the 14 of"),
        (
            format!("{line}{line}").replace(char::is_alphabetic, "?"),
            "has nothing but [UNK] to train on",
        ),
    ] {
        let fixture = Fixture::new(&text);
        let error = fixture.error();
        assert!(error.starts_with("text file ") && error.contains(expected), "{error}");
    }
    let mut fixture = Fixture::usual();
    let error = fixture.open().train_batches(shape(1000, 1, 0, 1), 0).err().unwrap().to_string();
    let numbers = "fewer than one batch of 1000 (1000 in a micro-batch x 1 accumulated x 1 ranks)";
    assert!(error.contains(numbers), "{error}");
    let error = fixture.open().validation_batches(0, Share::WHOLE).err().unwrap().to_string();
    assert_eq!(error, "validation batch = 0 is not at least 1");
    let text = fixture.config.text.take();
    assert_eq!(
        fixture.error(),
        "data.text is not set: give the path of a text file, one document on each line"
    );
    fixture.config.text = text;
    fixture.config.vocabulary = None;
    assert_eq!(
        fixture.error(),
        "data.vocabulary is not set: give the path of a BERT vocabulary file"
    );
    fixture.config.sequence_length = 2;
    assert_eq!(fixture.error(), "data.sequence_length = 2 is not in [8, 65536]");
}

/// The shipped text as the examples use it.
#[test]
fn the_shipped_text() {
    let folder = tempfile::tempdir().unwrap();
    let config = DataConfig {
        vocabulary: Some(shipped("bert-base-uncased-vocab.txt")),
        cache: Some(folder.path().into()),
        ..DataConfig::new(shipped("sotu.txt.zst"))
    };
    let data = MlmData::open(&config, 1).unwrap();
    assert_eq!((data.documents(), data.vocabulary_size()), (233, 30_522));
    let sequences = data.training_sequences() + data.validation_sequences();
    assert!((data.tokens() / 126).abs_diff(sequences) < 10);
    let step = data.train_batches(shape(16, 1, 0, 1), 1000).unwrap().next().unwrap().unwrap();
    assert_eq!(step[0].ids.size(), [16, 128]);
    assert!((16 * 17..=16 * 19).contains(&step[0].count), "{}", step[0].count);
}

#[test]
fn a_vocabulary_of_its_own() {
    let mut fixture = Fixture::usual();
    let given = fixture.open();
    assert_eq!(given.own_vocabulary(), None);
    let train = crate::Method::WordPiece;
    fixture.config.tokenizer = Some(crate::TokenizerConfig { train, vocabulary_size: 256 });
    assert!(fixture.error().contains("data.vocabulary and data.tokenizer are both set"));
    let path = fixture.config.vocabulary.take().unwrap();
    let own = fixture.open();
    // Each letter is a word by itself.
    let text = fs::read_to_string(fixture.config.text.as_ref().unwrap()).unwrap();
    let letters: BTreeSet<char> = text.chars().filter(char::is_ascii_lowercase).collect();
    assert_eq!(own.vocabulary_size(), 5 + letters.len());
    // The same as from a file that holds it.
    fs::write(&path, own.own_vocabulary().unwrap()).unwrap();
    fixture.config.tokenizer = None;
    fixture.config.vocabulary = Some(path);
    let from_file = fixture.open();
    assert_eq!(own.fingerprint(), from_file.fingerprint());
    assert_eq!(own.tokenizer().lines(), from_file.tokenizer().lines());
}
