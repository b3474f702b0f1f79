//! Text as the reference treats it: the words of a question, and the normal form of an answer.
//!
//! Both equal the result of Python for every text (`str.lower`, `str.split`, `\d`), because published embeddings and
//! accuracies depend on it. Training targets and the evaluation share this module.

mod contractions;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

/// Characters that are deleted from a question; `-` and `/` become spaces.
const DELETED: [char; 12] = ['.', ',', '\'', '!', '?', '"', '(', ')', '*', '#', ':', ';'];

/// The punctuation of an answer, for the evaluation. Periods have a rule of their own.
const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',',
    '?', '!',
];

/// The largest number of periods that are removed from an answer: the reference passes `re.UNICODE`, which is 32, where `re.sub`
/// expects a count.
const PERIODS_REMOVED: usize = 32;

/// A question in lower case without its punctuation. [`split`] gives its words.
pub(crate) fn clean_question(question: &str) -> String {
    let space_out = |c| if matches!(c, '-' | '/') { ' ' } else { c };
    question
        .to_lowercase()
        .chars()
        .filter(|c| !DELETED.contains(c))
        .map(space_out)
        .collect()
}

/// The words of a question.
#[cfg(test)]
pub(crate) fn words(question: &str) -> Vec<String> {
    split(&clean_question(question))
        .map(str::to_owned)
        .collect()
}

/// Python's `str.split()`: the non-empty pieces between white space.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Python's `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `str.isspace()`: Unicode white space and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// The normal form of an answer, for training targets and the answer list.
///
/// The reference also removes commas, but [`process_punctuation`] leaves none.
pub(crate) fn normalize_answer(answer: &str) -> String {
    process_digit_article(&process_punctuation(answer))
}

/// The evaluation's punctuation rule. A punctuation mark is deleted when the same mark touches a space anywhere in `text`,
/// or when `text` has a comma between digits; otherwise it becomes a space. Then periods without a digit behind them are
/// deleted.
pub(crate) fn process_punctuation(text: &str) -> String {
    let deleted = if has_comma_between_digits(text) {
        u128::MAX
    } else {
        ascii_beside_space(text)
    };
    let replace = |c: char| match c {
        c if !PUNCTUATION.contains(&c) => Some(c),
        c if deleted >> (c as u32) & 1 == 1 => None,
        _ => Some(' '),
    };
    remove_periods(&text.chars().filter_map(replace).collect::<String>())
}

/// A bit for each ASCII character that stands next to a space somewhere in `text`.
fn ascii_beside_space(text: &str) -> u128 {
    let bit = |byte: u8| if byte.is_ascii() { 1 << byte } else { 0 };
    text.as_bytes()
        .windows(2)
        .fold(0, |found, pair| match pair {
            [other, b' '] | [b' ', other] => found | bit(*other),
            _ => found,
        })
}

fn has_comma_between_digits(text: &str) -> bool {
    text.match_indices(',').any(|(at, _)| {
        let (before, after) = (
            text[..at].chars().next_back(),
            text[at + 1..].chars().next(),
        );
        before.is_some_and(is_decimal) && after.is_some_and(is_decimal)
    })
}

fn remove_periods(text: &str) -> String {
    let mut left = PERIODS_REMOVED;
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '.' && left > 0 && !chars.peek().copied().is_some_and(is_decimal) {
            left -= 1;
        } else {
            kept.push(c);
        }
    }
    kept
}

/// Python's `\d`: a decimal digit of any script.
fn is_decimal(c: char) -> bool {
    #[allow(
        clippy::expect_used,
        reason = "a constant pattern: a test matches it, so it compiles"
    )]
    static DECIMAL: LazyLock<fancy_regex::Regex> =
        LazyLock::new(|| fancy_regex::Regex::new(r"\d").expect("a valid pattern"));
    c.is_ascii_digit()
        || !c.is_ascii()
            && DECIMAL
                .is_match(c.encode_utf8(&mut [0; 4]))
                .unwrap_or(false)
}

/// The evaluation's word rule: lower case, number words up to ten as digits, no articles, contractions with their
/// apostrophes, single spaces.
pub(crate) fn process_digit_article(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = split(&lower)
        .map(as_digits)
        .filter(|word| !matches!(*word, "a" | "an" | "the"));
    words
        .map(contractions::expand)
        .collect::<Vec<_>>()
        .join(" ")
}

fn as_digits(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        _ => word,
    }
}
