//! The errors of serde_json in a user's words.

use serde_json::Error;
use serde_json::error::Category;

/// Why a text cannot be read, without the place.
pub(super) fn reason(error: &Error) -> String {
    let text = error.to_string();
    let text = without_place(without_place(&text));
    if error.classify() == Category::Data {
        return wrong_type(text).unwrap_or_else(|| text.to_owned());
    }
    let known = [
        ("EOF while parsing", "it ends too early; it is cut short"),
        ("trailing comma", "there is a comma behind the last element"),
        ("trailing characters", "there is more behind the end"),
        ("key must be a string", "a name in double quotes is missing"),
        ("expected value", "there is no value here"),
        ("expected ident", "there is no value here"),
        ("expected `:`", "a colon is missing"),
        ("expected `,` or", "a comma is missing"),
        (
            "control character",
            "there is a line break or a control character inside a text",
        ),
        (
            "invalid escape",
            "there is a backslash in a text that escapes nothing",
        ),
        ("invalid number", "there is no such number"),
        ("number out of range", "there is a number too large"),
        ("recursion limit", "it is nested too deeply"),
    ];
    let found = known.iter().find(|(sign, _)| text.starts_with(sign));
    found.map_or(text, |(_, words)| words).to_owned()
}

/// `text` without the place at its end. An error that was made of another one has two.
fn without_place(text: &str) -> &str {
    let is_place = |rest: &str| {
        rest.bytes()
            .all(|byte| byte.is_ascii_digit() || b" column".contains(&byte))
    };
    match text.rsplit_once(" at line ") {
        Some((before, rest)) if is_place(rest) => before,
        _ => text,
    }
}

/// An error of a type in a user's words; another message as it is.
pub(crate) fn in_plain_words(message: &str) -> String {
    wrong_type(message).unwrap_or_else(|| message.to_owned())
}

/// "invalid type: string "x", expected a whole number" in a user's words; `None` for another message.
fn wrong_type(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("invalid length ") {
        let (length, expected) = rest.split_once(", expected ")?;
        if expected.starts_with("fewer elements") {
            return Some(format!("it has {length} parts, which are too many"));
        }
        return Some(format!(
            "it has {length} parts where {expected} is expected"
        ));
    }
    // The message may begin with the name of the key.
    let (before, rest) = match text.split_once("invalid type: ") {
        Some(parts) => parts,
        None => text.split_once("invalid value: ")?,
    };
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let quoted = |text: &str| text.trim_matches('`').to_owned();
    let found = match found.split_once(' ') {
        Some(("string", text)) => format!("the text {}", shortened(text)),
        Some(("integer", number)) => format!("the number {}", quoted(number)),
        Some(("floating", number)) => {
            format!("the number {}", quoted(number.trim_start_matches("point ")))
        }
        Some(("boolean", word)) => quoted(word),
        Some(("unit" | "Option", _)) => "null".into(),
        _ if found == "map" => "an object".into(),
        _ if found == "sequence" => "a list".into(),
        _ => found.to_owned(),
    };
    // What serde calls the types of its own.
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a string" => "a text",
        other => other,
    };
    Some(format!(
        "{before}it has {found} where {expected} is expected"
    ))
}

fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// A piece of `text` around a place, from 1, for the user to find it.
pub(super) fn near(text: &str, line: usize, column: usize) -> Option<String> {
    const AROUND: usize = 20;
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    // Columns count bytes.
    let at = column.saturating_sub(1).min(line.len());
    let mut start = at.saturating_sub(AROUND);
    let mut end = (at + AROUND).min(line.len());
    while !line.is_char_boundary(start) {
        start -= 1;
    }
    while !line.is_char_boundary(end) {
        end += 1;
    }
    let piece = line[start..end].trim();
    (!piece.is_empty()).then(|| piece.to_owned())
}
