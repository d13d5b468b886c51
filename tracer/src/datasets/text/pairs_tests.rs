use super::*;
use crate::datasets::DatasetSpec;
use crate::datasets::tests::shared;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tempfile::TempDir;

const SOURCE: &str = "one two three\nfour\nfive six\n\nseven eight nine ten eleven twelve thirteen\nlast one\n";
const TARGET: &str = "eins zwei drei\nvier\nfünf sechs\nleer\nsieben acht\r\nletzter\n";

struct Files {
    dir: TempDir,
    options: DataOptions,
}

impl Files {
    fn new(source: &str, target: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(dir.path().join(name));
        let options = DataOptions {
            source: path("source"),
            target: path("target"),
            vocabulary_size: 300,
            validation_share: 0.2,
            ..DataOptions::default()
        };
        let files = Self { dir, options };
        files.write("source", source.as_bytes());
        files.write("target", target.as_bytes());
        files
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn open(&self) -> std::result::Result<Dataset, String> {
        let spec = DatasetSpec::find("text").unwrap();
        spec.open(&self.options, 0).map_err(|error| error.to_string())
    }
}

fn rows(split: &dyn Split, indices: &[u32]) -> (Vec<Vec<i64>>, Vec<Vec<i64>>) {
    let batch = split.load(indices, None).unwrap();
    assert_eq!(batch.len(), indices.len());
    let Batch::Text { source, target } = batch else { panic!("not text") };
    (source.try_into().unwrap(), target.try_into().unwrap())
}

fn all(split: &dyn Split) -> (Vec<Vec<i64>>, Vec<Vec<i64>>) {
    rows(split, &(0..split.len() as u32).collect::<Vec<_>>())
}

#[test]
fn sentences_are_padded() {
    let files = Files::new(SOURCE, TARGET);
    let set = files.open().unwrap();
    // Of six lines, one is empty; of the other five, one is for validation.
    assert_eq!((set.train.len(), set.validation.len()), (4, 1));
    let Task::Text { source: 32, target: 32, vocabulary: size } = set.task else { panic!("{:?}", set.task) };
    let vocabulary = set.vocabulary.as_ref().unwrap();
    assert_eq!(size as usize, vocabulary.size());
    let (sources, targets) = rows(set.train.as_ref(), &[1, 0, 1]);
    assert_eq!(sources[0], sources[2]);
    assert_ne!(sources[0], sources[1]);
    for (row, begin, length) in
        sources.iter().map(|row| (row, None, 32)).chain(targets.iter().map(|row| (row, Some(BOS), 33)))
    {
        assert_eq!(row.len(), length);
        let tokens = &row[usize::from(begin.is_some())..];
        assert_eq!(begin.map(i64::from), begin.map(|_| row[0]));
        let end = tokens.iter().position(|&token| token == i64::from(EOS)).unwrap();
        assert!(end > 0 && tokens[..end].iter().all(|&token| token > 3));
        assert!(tokens[end + 1..].iter().all(|&token| token == i64::from(PAD)));
    }
    let text = |row: &[i64]| vocabulary.decode(&row.iter().map(|&token| token as u32).collect::<Vec<_>>());
    let (sources, targets) = all(set.train.as_ref());
    let index = sources.iter().position(|row| text(row) == "one two three").unwrap();
    assert_eq!(text(&targets[index]), "eins zwei drei");
    // References are the lines of the file.
    let (_, targets) = all(set.validation.as_ref());
    assert_eq!(set.references(&[0, 0]), [text(&targets[0]), text(&targets[0])]);
}

#[test]
fn long_sentences_are_left_out_of_training_and_truncated_in_validation() {
    let mut files = Files::new(SOURCE, TARGET);
    files.write("validation", b"a very long sentence, as nobody has ever seen one\nb\n");
    files.write("lines", "ein sehr langer Satz, wie ihn noch niemand sah\nb\n".as_bytes());
    files.options.validation_source = Some(files.dir.path().join("validation"));
    files.options.validation_target = Some(files.dir.path().join("lines"));
    files.options.max_length = 20;
    let set = files.open().unwrap();
    assert_eq!((set.train.len(), set.validation.len()), (4, 2), "{:?}", set.description);
    assert_eq!(set.description["left out"], "1 of 5 training sentences longer than 20 tokens");
    assert_eq!(set.description["truncated"], "1 of 2 validation sentences");
    let (sources, targets) = all(set.validation.as_ref());
    assert_eq!((sources[0][19], targets[0][20], targets[0].len()), (i64::from(EOS), i64::from(EOS), 21));
    // References for BLEU are not truncated.
    assert_eq!(set.references(&[0]), ["ein sehr langer Satz, wie ihn noch niemand sah"]);
    files.options.max_length = 2;
    let error = files.open().unwrap_err();
    assert!(error.starts_with("--max-length: is 2, but all 5 training sentences are longer"), "{error}");
    files.options.max_length = 1;
    assert!(files.open().unwrap_err().starts_with("--max-length: is 1, but must be from 2"));
}

#[test]
fn packed_files_equal_plain_ones() {
    let files = Files::new(SOURCE, TARGET);
    let plain = files.open().unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(SOURCE.as_bytes()).unwrap();
    files.write("source", &encoder.finish().unwrap());
    let packed = files.open().unwrap();
    assert_eq!(all(plain.train.as_ref()), all(packed.train.as_ref()));
    assert_eq!(all(plain.validation.as_ref()), all(packed.validation.as_ref()));
    // A byte order mark and carriage returns are not text.
    files.write("source", format!("\u{feff}{}", SOURCE.replace('\n', "\r\n")).as_bytes());
    let marked = files.open().unwrap();
    assert_eq!(all(plain.train.as_ref()), all(marked.train.as_ref()));
}

#[test]
fn files_that_do_not_match_are_refused() {
    let files = Files::new(SOURCE, "eins\nzwei\n");
    let error = files.open().unwrap_err();
    assert!(error.starts_with("--target: ") && error.contains("has 2 lines, but "), "{error}");
    assert!(error.contains("source has 6;"), "{error}");
    let error = Files::new("a\n\nb\n", "a\nb\n\n").open().unwrap_err();
    assert!(error.starts_with("--source: ") && error.contains("fewer than two lines"), "{error}");
    assert!(Files::new("", TARGET).open().unwrap_err().contains("source: is empty"));
    assert!(Files::new(SOURCE, "\n\n\n").open().unwrap_err().contains("target: is empty"));
    files.write("target", b"eins\nzw\xffei\n");
    assert!(files.open().unwrap_err().contains("line 2 is not UTF-8"));
    std::fs::remove_file(files.dir.path().join("target")).unwrap();
    assert!(files.open().unwrap_err().contains("target: No such file"));
}

#[test]
fn missing_flags_are_named() {
    let mut files = Files::new(SOURCE, TARGET);
    files.options.validation_target = files.options.target.clone();
    assert!(files.open().unwrap_err().starts_with("--validation-source: is needed with --validation-target"));
    files.options.target = None;
    assert!(files.open().unwrap_err().starts_with("--target: is needed by --dataset text"));
    files.options.vocabulary_size = 10;
    files.options.target = files.options.source.clone();
    files.options.validation_target = None;
    assert!(files.open().unwrap_err().starts_with("--vocabulary-size: is 10"));
    let options = DataOptions { data_dir: files.dir.path().to_owned(), ..DataOptions::default() };
    let error = DatasetSpec::find("multi30k").unwrap().open(&options, 0).unwrap_err().to_string();
    assert!(error.contains("train.en") && error.contains("fetch.py multi30k"), "{error}");
}

#[test]
fn real_captions_are_read() {
    let Some(path) = shared("multi30k") else { return };
    // 2,000 of the training lines: builds without optimisation take their time.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("multi30k")).unwrap();
    for (file, most) in [("train.en", 2000), ("train.de", 2000), ("val.en", 1014), ("val.de", 1014)] {
        let text = String::from_utf8(Origin::Fetched("multi30k").read(&path.join(file)).unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().take(most).collect();
        std::fs::write(dir.path().join("multi30k").join(file), lines.join("\n")).unwrap();
    }
    let options = DataOptions { data_dir: dir.path().to_owned(), vocabulary_size: 2000, ..DataOptions::default() };
    let open = || DatasetSpec::find("multi30k").unwrap().open(&options, 0).unwrap();
    let set = open();
    let vocabulary = set.vocabulary.as_ref().unwrap();
    assert_eq!((set.validation.len(), vocabulary.size()), (1014, 2000));
    assert!(set.train.len() > 1_750, "{:?}", set.description);
    assert_eq!(set.references(&[0]), ["Eine Gruppe von Männern lädt Baumwolle auf einen Lastwagen"]);
    let (_, targets) = rows(set.validation.as_ref(), &[0]);
    let tokens: Vec<u32> = targets[0].iter().map(|&token| token as u32).collect();
    assert_eq!(vocabulary.decode(&tokens), set.references(&[0])[0]);
    assert!(open().vocabulary.unwrap().to_json() == vocabulary.to_json());
}
