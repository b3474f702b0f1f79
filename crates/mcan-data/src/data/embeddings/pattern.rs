//! The Python regular expressions of spaCy's files, run by `fancy-regex`, because they use look-around.
//!
//! In spaCy's expressions, Python's `re` and `fancy-regex` differ in `\w`, in escaped punctuation such as `\<`, and in set
//! notation inside character classes; [`translate`] rewrites these. Both match leftmost-first. `$` before a final newline
//! is not handled, because words have no white space.

use anyhow::{Context, Result};
use fancy_regex::{Regex, RegexBuilder};

/// The number of backtracking steps after which a search ends with an error.
const MAX_BACKTRACKS: usize = 1_000_000;

/// An expression of the tokenizer, with its name in the file.
#[derive(Debug)]
pub(super) struct Pattern {
    name: &'static str,
    regex: Regex,
}

impl Pattern {
    /// `re.compile(python)`, for searching.
    ///
    /// # Errors
    /// When `fancy-regex` does not understand the expression, or the expression exceeds its limits.
    pub(super) fn search(name: &'static str, python: &str) -> Result<Self> {
        Self::compile(name, translate(python))
    }

    /// `re.compile(python)`, for matching at the start of a text only.
    ///
    /// # Errors
    /// Those of [`Pattern::search`].
    pub(super) fn anchored(name: &'static str, python: &str) -> Result<Self> {
        Self::compile(name, format!(r"\A(?:{})", translate(python)))
    }

    fn compile(name: &'static str, pattern: String) -> Result<Self> {
        let regex = RegexBuilder::new(&pattern)
            .backtrack_limit(MAX_BACKTRACKS)
            .build();
        let regex =
            regex.with_context(|| format!("the tokenizer's {name} expression cannot be used"))?;
        Ok(Self { name, regex })
    }

    /// Whether there is a match.
    pub(super) fn is_match(&self, text: &str) -> Result<bool> {
        self.regex
            .is_match(text)
            .with_context(|| self.too_long(text))
    }

    /// The length in characters of the first match; 0 if there is none.
    pub(super) fn match_chars(&self, text: &str) -> Result<usize> {
        let found = self.regex.find(text).with_context(|| self.too_long(text))?;
        Ok(found.map_or(0, |found| found.as_str().chars().count()))
    }

    /// The byte ranges of all matches, in order.
    pub(super) fn matches(&self, text: &str) -> Result<Vec<(usize, usize)>> {
        let found = self
            .regex
            .find_iter(text)
            .map(|found| found.map(|found| (found.start(), found.end())));
        found
            .collect::<Result<_, _>>()
            .with_context(|| self.too_long(text))
    }

    fn too_long(&self, text: &str) -> String {
        format!(
            "the tokenizer's {} expression takes too long for {text:?}",
            self.name
        )
    }
}

/// Rewrites a Python expression in the syntax of `fancy-regex`.
fn translate(python: &str) -> String {
    let mut rust = String::with_capacity(python.len() + 64);
    let mut chars = python.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => rust.push_str(&escape(chars.next(), false)),
            '[' => translate_class(&mut chars, &mut rust),
            _ => rust.push(c),
        }
    }
    rust
}

/// Rewrites a character class, from after its `[` to its `]`. Python has no nested classes and no `&&`, `--`, `~~` in them.
fn translate_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, rust: &mut String) {
    rust.push('[');
    if let Some(caret) = chars.next_if_eq(&'^') {
        rust.push(caret);
    }
    let mut previous = None;
    while let Some(c) = chars.next() {
        match c {
            ']' if previous.is_some() => return rust.push(']'),
            '\\' => rust.push_str(&escape(chars.next(), true)),
            '-' if previous != Some('-') => rust.push('-'),
            '[' | ']' | '&' | '~' | '-' => rust.extend(['\\', c]),
            _ => rust.push(c),
        }
        previous = Some(c);
    }
}

/// Rewrites `\` and the next character. Python's `\w` is letters, numbers and `_`, without combining marks.
fn escape(next: Option<char>, in_class: bool) -> String {
    match next {
        Some('w') if in_class => r"\p{L}\p{N}_".into(),
        Some('w') => r"[\p{L}\p{N}_]".into(),
        Some('W') => r"[^\p{L}\p{N}_]".into(),
        Some('Z') if !in_class => r"\z".into(),
        Some(c @ ('<' | '>')) => c.into(),
        Some(c) if !c.is_ascii() => c.into(),
        Some(c) => format!("\\{c}"),
        None => "\\".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(python: &str, text: &str) -> usize {
        Pattern::search("test", python)
            .unwrap()
            .match_chars(text)
            .unwrap()
    }

    #[test]
    fn python_syntax_means_what_it_means_in_python() {
        assert_eq!(first(r"^\<\w+\>$", "<añ5²_>"), 7);
        assert_eq!(
            first(r"^\w+", "e\u{301}a"),
            1,
            "a combining mark is no word character"
        );
        assert_eq!(first(r"[[a&&b~~]+$", "x[a&b~"), 5);
        assert_eq!(first(r"[+--]+$", "x+,-"), 3, "a range from + to -");
        assert_eq!(first(r"[]a]+$", "x]a"), 2);
        assert_eq!(first(r"[^]a]+", "]axy"), 2);
        assert_eq!(
            first(r"[\u00A6-\uffff\U0001F600]+", "a¦\u{ff5e}\u{1F600}"),
            3
        );
        assert_eq!(first(r"(?<=[0-9])(?:km|km²|k)$", "10km²"), 3);
        assert_eq!(
            first(r"a|ab", "ab"),
            1,
            "the first alternative wins, not the longest"
        );
    }

    #[test]
    fn an_anchored_pattern_does_not_search() {
        let pattern = Pattern::anchored("test", "(?u)b|c$").unwrap();
        assert!(pattern.is_match("ba").unwrap() && pattern.is_match("c").unwrap());
        assert!(!pattern.is_match("ab").unwrap() && !pattern.is_match("ac").unwrap());
    }

    #[test]
    fn a_bad_expression_is_an_error_with_its_name() {
        for bad in [
            "(",
            "[a",
            "a\\",
            r"[\ud800-\udfff]",
            "(?P<a>",
            "(a{1000}){1000}{1000}",
        ] {
            let error = Pattern::search("suffix_search", bad).unwrap_err();
            assert!(error.to_string().contains("suffix_search"), "{error:#}");
        }
    }

    #[test]
    fn endless_backtracking_is_an_error() {
        let pattern = Pattern::search("infix_finditer", r"(?:(a+)\1?)+b").unwrap();
        let error = pattern
            .matches(&format!("b{}", "a".repeat(60)))
            .unwrap_err();
        assert!(format!("{error:#}").contains("infix_finditer"), "{error:#}");
    }
}
