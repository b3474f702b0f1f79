//! spaCy's tokenizer, run on one word at a time from the rules in a package's `tokenizer` file.
//!
//! The file is MessagePack: five expressions in Python's syntax (`prefix_search`, `suffix_search`, `infix_finditer`,
//! `token_match`, `url_match`) and `exceptions`, a map from words to their pieces. An absent entry has no effect, as in
//! spaCy 3; spaCy 2 used the rules of its installation in place of absent ones.
//!
//! Algorithm: <https://spacy.io/usage/linguistic-features#how-tokenizer-works>, as in the version that wrote the file.
//! Version 3 looks for a suffix behind the prefix, not in the whole word, and at the end it replaces exceptions that were
//! split.

use super::pattern::Pattern;
use anyhow::{Context, Result, bail};
use rmpv::Value;
use rustc_hash::FxHashMap;

/// Number and name of spaCy's symbol `ORTH`, the attribute that holds the text of a piece.
const ORTH: (u64, &str) = (65, "ORTH");

/// The rules of a `tokenizer` file.
#[derive(Debug)]
pub(super) struct Tokenizer {
    prefix: Option<Pattern>,
    suffix: Option<Pattern>,
    infix: Option<Pattern>,
    token_match: Option<Pattern>,
    url_match: Option<Pattern>,
    exceptions: FxHashMap<String, Vec<String>>,
    /// Version 3 only: exceptions that the expressions would split, with the pieces.
    phrases: Option<FxHashMap<String, Vec<String>>>,
    /// The largest number of pieces of a phrase.
    longest_phrase: usize,
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer` file.
    ///
    /// # Errors
    /// Bytes that are not MessagePack of the expected shape, or an expression that cannot be compiled.
    pub(super) fn from_msgpack(mut bytes: &[u8]) -> Result<Self> {
        let root = rmpv::decode::read_value(&mut bytes).context("it is not MessagePack")?;
        let fields = root.as_map().context("it is not a MessagePack map")?;
        let field = |name: &str| {
            fields
                .iter()
                .find(|(key, _)| text(key) == Some(name))
                .map(|(_, value)| value)
        };
        let expression =
            |name, compile: fn(&'static str, &str) -> Result<Pattern>| match field(name) {
                None | Some(Value::Nil) => Ok(None),
                Some(value) => {
                    let source = text(value).with_context(|| format!("its {name} is not text"))?;
                    (!source.is_empty())
                        .then(|| compile(name, source))
                        .transpose()
                }
            };
        let mut tokenizer = Self {
            prefix: expression("prefix_search", Pattern::search)?,
            suffix: expression("suffix_search", Pattern::search)?,
            infix: expression("infix_finditer", Pattern::search)?,
            token_match: expression("token_match", Pattern::anchored)?,
            url_match: expression("url_match", Pattern::anchored)?,
            exceptions: field("exceptions").map_or(Ok(FxHashMap::default()), read_exceptions)?,
            phrases: None,
            longest_phrase: 0,
        };
        // Only version 3.3 and later writes this key. Versions 3.0 to 3.2 differ for hardly any word.
        if let Some(heuristics) = field("faster_heuristics") {
            tokenizer.add_phrases(heuristics.as_bool().unwrap_or(true))?;
        }
        Ok(tokenizer)
    }

    /// The pieces of a word without white space.
    ///
    /// # Errors
    /// When an expression exceeds its limit on backtracking.
    pub(super) fn pieces(&self, word: &str) -> Result<Vec<String>> {
        let pieces = match self.exceptions.get(word) {
            Some(pieces) => pieces.clone(),
            None => self.split(word, true)?,
        };
        Ok(match &self.phrases {
            Some(phrases) => self.replace_phrases(pieces, phrases),
            None => pieces,
        })
    }

    /// Collects the phrases: the exceptions that an expression may split, or all exceptions if `only_split` is false.
    fn add_phrases(&mut self, only_split: bool) -> Result<()> {
        let mut phrases = FxHashMap::default();
        self.phrases = Some(FxHashMap::default());
        for word in self
            .exceptions
            .keys()
            .filter(|word| !word.contains(char::is_whitespace))
        {
            if only_split && !self.may_split(word)? {
                continue;
            }
            let pieces = self.split(word, false)?;
            self.longest_phrase = self.longest_phrase.max(pieces.len());
            phrases.insert(word.clone(), pieces);
        }
        self.phrases = Some(phrases);
        Ok(())
    }

    /// Whether a prefix, suffix or infix matches in `word`.
    fn may_split(&self, word: &str) -> Result<bool> {
        let infix = || {
            self.infix
                .as_ref()
                .map_or(Ok(false), |infix| infix.is_match(word))
        };
        Ok(
            match_chars(&self.prefix, word)? > 0
                || match_chars(&self.suffix, word)? > 0
                || infix()?,
        )
    }

    /// The prefixes, the core or its pieces, and the suffixes of a word. With `exceptions` false, exceptions are ignored.
    fn split(&self, word: &str, exceptions: bool) -> Result<Vec<String>> {
        let Affixes {
            prefixes,
            core,
            suffixes,
        } = self.split_affixes(word, exceptions)?;
        let mut pieces: Vec<String> = prefixes.into_iter().map(str::to_owned).collect();
        if let Some(exception) = self.exception(core, exceptions) {
            pieces.extend(exception.iter().cloned());
        } else if !core.is_empty() {
            if matches(&self.token_match, core)? || matches(&self.url_match, core)? {
                pieces.push(core.to_owned());
            } else {
                self.split_infixes(core, &mut pieces)?;
            }
        }
        pieces.extend(suffixes.into_iter().rev().map(str::to_owned));
        Ok(pieces)
    }

    fn exception(&self, word: &str, enabled: bool) -> Option<&Vec<String>> {
        self.exceptions.get(word).filter(|_| enabled)
    }

    /// Removes prefixes and suffixes until nothing changes, or until the core is an exception or matches `token_match`.
    fn split_affixes<'w>(&self, word: &'w str, exceptions: bool) -> Result<Affixes<'w>> {
        let mut affixes = Affixes {
            prefixes: vec![],
            core: word,
            suffixes: vec![],
        };
        let mut last_bytes = 0;
        while !affixes.core.is_empty() && affixes.core.len() != last_bytes {
            let core = affixes.core;
            if matches(&self.token_match, core)? || self.exception(core, exceptions).is_some() {
                break;
            }
            last_bytes = core.len();
            let (prefix, minus_prefix) = split_start(core, match_chars(&self.prefix, core)?);
            if !prefix.is_empty() && self.exception(minus_prefix, exceptions).is_some() {
                affixes.take_prefix(prefix);
                break;
            }
            let searched = if self.phrases.is_some() {
                minus_prefix
            } else {
                core
            };
            let (minus_suffix, suffix) = split_end(core, match_chars(&self.suffix, searched)?);
            if !suffix.is_empty() && self.exception(minus_suffix, exceptions).is_some() {
                affixes.take_suffix(suffix);
                break;
            }
            affixes.take_prefix(prefix);
            if prefix.len() + suffix.len() <= core.len() {
                affixes.take_suffix(suffix);
            }
        }
        Ok(affixes)
    }

    /// Splits `core` around its infixes. An infix at the very start does not count.
    fn split_infixes(&self, core: &str, pieces: &mut Vec<String>) -> Result<()> {
        let infixes = self
            .infix
            .as_ref()
            .map_or(Ok(vec![]), |infix| infix.matches(core))?;
        let mut start = 0;
        for (infix_start, infix_end) in infixes
            .into_iter()
            .filter(|&(infix_start, _)| infix_start > 0)
        {
            // Matches come in order. Only an expression with `\K` could make them overlap; such a match is ignored.
            if let (Some(before), Some(infix)) = (
                core.get(start..infix_start),
                core.get(infix_start..infix_end),
            ) {
                pieces.extend(
                    [before, infix]
                        .into_iter()
                        .filter(|piece| !piece.is_empty())
                        .map(str::to_owned),
                );
                start = infix_end;
            }
        }
        if start < core.len() {
            pieces.push(core[start..].to_owned());
        }
        Ok(())
    }

    /// The last step of version 3: a run of pieces that is a split exception is replaced by the pieces of the exception. Of
    /// overlapping runs, the longest and then leftmost wins. As in spaCy, a run that loses still blocks other runs.
    fn replace_phrases(
        &self,
        pieces: Vec<String>,
        phrases: &FxHashMap<String, Vec<String>>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for start in 0..pieces.len() {
            let mut run = String::new();
            for (end, piece) in (start + 1..)
                .zip(&pieces[start..])
                .take(self.longest_phrase)
            {
                run.push_str(piece);
                if phrases
                    .get(&run)
                    .is_some_and(|phrase| phrase[..] == pieces[start..end])
                {
                    found.push((start, end));
                }
            }
        }
        if found.is_empty() {
            return pieces;
        }
        found.sort_by_key(|&(start, end)| (std::cmp::Reverse(end - start), start));
        let mut seen = vec![false; pieces.len()];
        let mut replacements = FxHashMap::default();
        for (start, end) in found {
            if !seen[start] && !seen[end - 1] {
                replacements.insert(start, end);
            }
            seen[start..end].fill(true);
        }
        let mut replaced = Vec::with_capacity(pieces.len());
        let mut at = 0;
        while at < pieces.len() {
            let end = replacements.get(&at).copied().unwrap_or(at + 1);
            match self.exceptions.get(&pieces[at..end].concat()) {
                Some(exception) if replacements.contains_key(&at) => {
                    replaced.extend(exception.iter().cloned())
                }
                _ => replaced.extend_from_slice(&pieces[at..end]),
            }
            at = end;
        }
        replaced
    }
}

/// A word in parts: prefixes (outermost first), core, suffixes (outermost first).
struct Affixes<'w> {
    prefixes: Vec<&'w str>,
    core: &'w str,
    suffixes: Vec<&'w str>,
}

impl<'w> Affixes<'w> {
    /// Removes `prefix`, with which `core` starts.
    fn take_prefix(&mut self, prefix: &'w str) {
        if !prefix.is_empty() {
            self.core = &self.core[prefix.len()..];
            self.prefixes.push(prefix);
        }
    }

    /// Removes `suffix`, with which `core` ends.
    fn take_suffix(&mut self, suffix: &'w str) {
        if !suffix.is_empty() {
            self.core = &self.core[..self.core.len() - suffix.len()];
            self.suffixes.push(suffix);
        }
    }
}

/// The first `chars` characters, and the rest.
fn split_start(text: &str, chars: usize) -> (&str, &str) {
    text.split_at(
        text.char_indices()
            .nth(chars)
            .map_or(text.len(), |(at, _)| at),
    )
}

/// The text without its last `chars` characters, and these characters.
fn split_end(text: &str, chars: usize) -> (&str, &str) {
    let kept = text.chars().count().saturating_sub(chars);
    split_start(text, kept)
}

fn matches(pattern: &Option<Pattern>, text: &str) -> Result<bool> {
    pattern
        .as_ref()
        .map_or(Ok(false), |pattern| pattern.is_match(text))
}

fn match_chars(pattern: &Option<Pattern>, text: &str) -> Result<usize> {
    pattern
        .as_ref()
        .map_or(Ok(0), |pattern| pattern.match_chars(text))
}

/// The text of a MessagePack string, or of UTF-8 bytes, which older versions wrote.
fn text(value: &Value) -> Option<&str> {
    value
        .as_str()
        .or_else(|| std::str::from_utf8(value.as_slice()?).ok())
}

/// Reads the exceptions: `{word: [{ORTH: piece, ...}, ...]}`.
fn read_exceptions(value: &Value) -> Result<FxHashMap<String, Vec<String>>> {
    let entries = value.as_map().context("its exceptions are not a map")?;
    let mut exceptions = FxHashMap::default();
    for (word, pieces) in entries {
        let word = text(word).context("the name of one of its exceptions is not text")?;
        let pieces = pieces
            .as_array()
            .and_then(|pieces| pieces.iter().map(read_piece).collect::<Option<Vec<_>>>());
        match pieces {
            Some(pieces) if !word.is_empty() => exceptions.insert(word.to_owned(), pieces),
            Some(_) => continue,
            None => {
                bail!("its exception for {word:?} is not a list of pieces with a text ORTH each")
            }
        };
    }
    Ok(exceptions)
}

fn read_piece(attributes: &Value) -> Option<String> {
    let is_orth = |key: &Value| {
        key.as_u64() == Some(ORTH.0) || text(key).is_some_and(|k| k.eq_ignore_ascii_case(ORTH.1))
    };
    let (_, orth) = attributes.as_map()?.iter().find(|(key, _)| is_orth(key))?;
    text(orth).map(str::to_owned)
}
