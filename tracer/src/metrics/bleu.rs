//! BLEU (Papineni et al., ACL 2002) as `sacrebleu` computes it by default.
//!
//! It is computed over a corpus with one reference per sentence, case-sensitive n-grams up to 4,
//! tokens of mteval-v13a, exponential smoothing and the brevity penalty. The signature is
//! `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp` (Post, A Call for Clarity in Reporting BLEU
//! Scores, WMT 2018), as in published results. `tests/reference/bleu.py` made the reference values
//! in `bleu.json`.

use std::collections::HashMap;

const ORDER: usize = 4;

/// Computes the BLEU of hypotheses against their references, from 0 to 100.
///
/// It is 0 if no token is correct, or if no hypothesis has four tokens.
///
/// # Panics
///
/// If the numbers of references and hypotheses differ.
pub fn corpus_bleu(hypotheses: &[String], references: &[String]) -> f64 {
    assert_eq!(hypotheses.len(), references.len(), "each hypothesis has one reference");
    let mut correct = [0_u64; ORDER];
    let mut total = [0_u64; ORDER];
    let (mut length, mut reference_length) = (0, 0);
    for (hypothesis, reference) in hypotheses.iter().zip(references) {
        let (hypothesis, reference) = (tokenize(hypothesis), tokenize(reference));
        let (hypothesis, reference) = (split_words(&hypothesis), split_words(&reference));
        length += hypothesis.len();
        reference_length += reference.len();
        for n in 1..=ORDER {
            let known = count_n_grams(&reference, n);
            for (n_gram, count) in count_n_grams(&hypothesis, n) {
                total[n - 1] += count;
                correct[n - 1] += count.min(known.get(n_gram).copied().unwrap_or(0));
            }
        }
    }
    if correct == [0; ORDER] || total.contains(&0) {
        return 0.0;
    }
    // Each order without a match counts half as much as the previous such order (NIST's smoothing).
    let mut smoothing = 1.0;
    let mut logarithms = 0.0;
    for (&correct, &total) in correct.iter().zip(&total) {
        let precision = if correct == 0 {
            smoothing *= 2.0;
            100.0 / (smoothing * total as f64)
        } else {
            100.0 * correct as f64 / total as f64
        };
        logarithms += precision.ln();
    }
    let brevity = if length < reference_length { (1.0 - reference_length as f64 / length as f64).exp() } else { 1.0 };
    brevity * (logarithms / ORDER as f64).exp()
}

fn split_words(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|word| !word.is_empty()).collect()
}

fn count_n_grams<'a, 'b>(words: &'b [&'a str], n: usize) -> HashMap<&'b [&'a str], u64> {
    let mut counts = HashMap::new();
    for n_gram in words.windows(n) {
        *counts.entry(n_gram).or_default() += 1;
    }
    counts
}

/// Whether a letter is white space in Python, which has four separators more than Unicode.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// Separates punctuation by spaces, as mteval-v13a does for European languages.
fn tokenize(line: &str) -> String {
    let line = line.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut letters = vec![' '];
    for letter in line.chars() {
        if matches!(letter, ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~') {
            letters.extend([' ', letter, ' ']);
        } else {
            letters.push(letter);
        }
    }
    letters.push(' ');
    let digit = |letter: char| letter.is_ascii_digit();
    let mark = |letter: char| matches!(letter, '.' | ',');
    // Separate full stops and commas, unless after a digit ...
    let letters = replace_pairs(&letters, |a, b| !digit(a) && mark(b), |a, b| [a, ' ', b, ' ']);
    // ... or before a digit; and separate dashes after a digit.
    let letters = replace_pairs(&letters, |a, b| mark(a) && !digit(b), |a, b| [' ', a, ' ', b]);
    let letters = replace_pairs(&letters, |a, b| digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    letters.into_iter().collect()
}

/// Replaces matching pairs of letters from the left; pairs do not overlap, as with a regular
/// expression.
fn replace_pairs(
    letters: &[char],
    matches: impl Fn(char, char) -> bool,
    replacement: impl Fn(char, char) -> [char; 4],
) -> Vec<char> {
    let mut replaced = Vec::with_capacity(2 * letters.len());
    let mut rest = letters;
    while let [first, tail @ ..] = rest {
        match tail {
            [second, tail @ ..] if matches(*first, *second) => {
                replaced.extend(replacement(*first, *second));
                rest = tail;
            }
            _ => {
                replaced.push(*first);
                rest = tail;
            }
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Reference {
        corpora: Vec<Corpus>,
        tokens: Vec<(String, String)>,
    }

    #[derive(serde::Deserialize)]
    struct Corpus {
        name: String,
        hypotheses: Vec<String>,
        references: Vec<String>,
        bleu: f64,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../../tests/reference/bleu.json")).unwrap()
    }

    #[test]
    fn agrees_with_sacrebleu() {
        let corpora = reference().corpora;
        assert!(corpora.len() >= 15);
        for Corpus { name, hypotheses, references, bleu } in corpora {
            let ours = corpus_bleu(&hypotheses, &references);
            assert!((ours - bleu).abs() <= 1e-9, "{name}: {ours} is not sacrebleu's {bleu}");
        }
    }

    #[test]
    fn tokenizes_as_sacrebleu() {
        for (line, expected) in reference().tokens {
            let line = tokenize(&line);
            assert_eq!(split_words(&line).join(" "), expected);
        }
    }

    #[test]
    fn nothing_scores_nothing() {
        assert!(corpus_bleu(&[], &[]) == 0.0);
    }

    #[test]
    #[should_panic(expected = "each hypothesis has one reference")]
    fn lists_of_different_lengths_are_a_mistake() {
        corpus_bleu(&["a".to_owned()], &[]);
    }
}
