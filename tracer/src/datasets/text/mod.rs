//! Sentences and their translations, with one vocabulary of byte pairs for both languages.

mod pairs;

pub(super) use pairs::{multi30k, own};

use crate::error::{Result, TracerError};
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer, Trainer};

/// Pads a sentence to the length of its batch.
pub const PAD: u32 = 0;
/// Starts a target.
pub const BOS: u32 = 1;
/// Ends a sentence.
pub const EOS: u32 = 2;
/// Stands for unknown text, which does not occur, because every byte is a token.
pub const UNK: u32 = 3;

/// The spellings of the tokens above. They have spaces, which no other token's spelling has, so
/// that no text is encoded as one of them.
const SPECIAL: [&str; 4] = ["< pad >", "< bos >", "< eos >", "< unk >"];
/// Minimum occurrences of a pair.
const MIN_COUNT: u64 = 2;
/// Maximum number of tokens.
const MAX_SIZE: usize = 1 << 20;
/// Minimum number of tokens: the special ones and every byte.
const MIN_SIZE: usize = SPECIAL.len() + 256;

/// A vocabulary of byte pairs, which divides words into frequent sequences of bytes.
///
/// The same lines and size give the same vocabulary in every run, whatever the number of threads.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
}

impl Vocabulary {
    /// Learns a vocabulary of at most `size` tokens from lines.
    pub fn learn<T: AsRef<str> + Sync>(lines: &[T], size: usize) -> Result<Self> {
        if size < MIN_SIZE {
            let reason = format!(
                "is {size}, but must be at least {MIN_SIZE}, for every byte and {} special tokens",
                SPECIAL.len()
            );
            return Err(TracerError::Flag { flag: "--vocabulary-size", reason });
        }
        if size > MAX_SIZE {
            let reason = format!("is {size}, but must be at most {MAX_SIZE}");
            return Err(TracerError::Flag { flag: "--vocabulary-size", reason });
        }
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(size)
            .min_frequency(MIN_COUNT)
            .special_tokens(SPECIAL.map(|token| AddedToken::from(token, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut model = BPE::default();
        // Only the model knows the special tokens; a tokenizer would look for them in the text.
        let learnt = trainer.feed(lines.iter(), split_words).and_then(|()| trainer.train(&mut model));
        learnt.expect("any text divides into words, and words into pairs");
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(splitter())).with_decoder(Some(splitter()));
        Ok(Self { tokenizer })
    }

    /// Encodes a text, trimmed, as tokens without BOS and EOS.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let encoding = self.tokenizer.encode_fast(text.trim(), false);
        encoding.expect("every byte has a token").get_ids().to_vec()
    }

    /// Decodes tokens up to the first EOS; skips PAD, BOS, UNK and numbers that are not tokens.
    ///
    /// Invalid UTF-8, which a model may produce, becomes U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let size = self.size() as u32;
        let text = tokens.iter().copied().take_while(|&token| token != EOS).filter(|token| (4..size).contains(token));
        let text = self.tokenizer.decode(&text.collect::<Vec<u32>>(), false);
        text.expect("bytes can always be decoded").trim().to_owned()
    }

    /// Number of tokens, including the special ones.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Formats it as JSON of the `tokenizers` library.
    pub fn to_json(&self) -> String {
        self.tokenizer.to_string(true).expect("a vocabulary is strings and numbers")
    }

    /// Writes it as JSON of the `tokenizers` library.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_json())
            .map_err(|error| TracerError::Vocabulary { path: path.to_owned(), reason: error.to_string() })
    }

    /// Reads a file of [`Vocabulary::save`].
    pub fn load(path: &Path) -> Result<Self> {
        let bad = |reason: String| TracerError::Vocabulary { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| bad(format!("is not a vocabulary: {error}")))?;
        for (token, number) in SPECIAL.iter().zip(0..) {
            if tokenizer.token_to_id(token) != Some(number) {
                return Err(bad(format!("is not a vocabulary of this program: its token {number} is not {token}")));
            }
        }
        Ok(Self { tokenizer })
    }
}

/// Divides text into words with the space before them, and spells the words in bytes.
fn splitter() -> ByteLevel {
    ByteLevel::new(true, false, true)
}

fn split_words(line: &str) -> tokenizers::Result<Vec<String>> {
    let mut words = PreTokenizedString::from(line.trim());
    splitter().pre_tokenize(&mut words)?;
    let words = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(words.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 5] = [
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
        "Two young, White males are outside near many bushes.",
        "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
        "A little girl climbing into a wooden playhouse.",
        "A little girl climbing on a wooden <pad> house, < pad > < pad >.",
    ];

    #[test]
    fn text_survives_encoding_and_decoding() {
        let vocabulary = Vocabulary::learn(&LINES, 300).unwrap();
        assert_eq!(vocabulary.size(), 300);
        for text in LINES.into_iter().chain(["", "unseen: ÆØ 漢字 🦀 <eos> < eos > \"a\"  b\t1,000.5", "x"]) {
            let tokens = vocabulary.encode(text);
            assert!(tokens.iter().all(|&token| (4..300).contains(&token)), "{text}: {tokens:?}");
            assert_eq!(vocabulary.decode(&tokens), text);
        }
        // Frequent words take fewer tokens than letters.
        assert!(vocabulary.encode("wooden").len() < 6);
        let mut tokens = vec![BOS];
        tokens.extend(vocabulary.encode("a girl"));
        tokens.extend([PAD, UNK, 100_000, EOS, 50, 60]);
        assert_eq!(vocabulary.decode(&tokens), "a girl");
        assert_eq!(vocabulary.encode(" a girl\n"), vocabulary.encode("a girl"));
        // Part of a letter.
        let half = vocabulary.encode("漢")[..2].to_vec();
        assert!(vocabulary.decode(&half).contains('\u{fffd}'));
    }

    #[test]
    fn the_same_lines_give_the_same_vocabulary() {
        let lines: Vec<String> = (0..300).map(|i| LINES[i % 5].chars().skip(i % 17).collect()).collect();
        let first = Vocabulary::learn(&lines, 400).unwrap().to_json();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(first == pool.install(|| Vocabulary::learn(&lines, 400).unwrap().to_json()));
        }
        let fewer = Vocabulary::learn(&["ab"], 1000).unwrap();
        assert_eq!(fewer.size(), MIN_SIZE);
        let error = Vocabulary::learn(&LINES, 259).unwrap_err().to_string();
        assert!(error.starts_with("--vocabulary-size: is 259, but must be at least 260"), "{error}");
    }

    #[test]
    fn vocabularies_are_saved_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocabulary.json");
        let vocabulary = Vocabulary::learn(&LINES, 300).unwrap();
        vocabulary.save(&path).unwrap();
        let loaded = Vocabulary::load(&path).unwrap();
        assert_eq!(loaded.to_json(), vocabulary.to_json());
        assert_eq!(loaded.encode(LINES[0]), vocabulary.encode(LINES[0]));
        assert_eq!(loaded.decode(&loaded.encode(LINES[0])), LINES[0]);

        let load = || Vocabulary::load(&path).unwrap_err().to_string();
        std::fs::write(&path, vocabulary.to_json().replace("< bos >", "<s>")).unwrap();
        assert!(load().contains("its token 1 is not < bos >"), "{}", load());
        std::fs::write(&path, "{}").unwrap();
        assert!(load().contains("vocabulary.json: is not a vocabulary"), "{}", load());
        std::fs::remove_file(&path).unwrap();
        assert!(load().contains("No such file"));
        assert!(vocabulary.save(&path.join("below")).is_err());
    }
}
