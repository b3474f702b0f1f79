//! What Python's `json` reads and the standard does not allow: `NaN`, infinities, and halves of surrogate pairs.

use aho_corasick::AhoCorasick;
use std::borrow::Cow;

/// `text` as the standard allows it. `NaN` and infinities become `null`, because only a field that nobody needs can have
/// them. Half of a surrogate pair becomes U+FFFD, the character for what cannot be read.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    // Most files have none of these; finding that out is much faster than parsing.
    let signs = AhoCorasick::new(["NaN", "Infinity", "\\ud", "\\uD"]);
    if signs.is_ok_and(|signs| !signs.is_match(text)) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let (mut cleaned, mut copied, mut at) = (String::new(), 0, 0);
    let mut in_string = false;
    while let Some(&byte) = bytes.get(at) {
        let rest = &text.as_bytes()[at..];
        let (length, replacement) = match (byte, in_string) {
            (b'"', _) => {
                in_string = !in_string;
                (1, None)
            }
            (b'\\', true) => escape(rest),
            (b'N' | b'I' | b'-', false) => number(rest),
            _ => (1, None),
        };
        if let Some(replacement) = replacement {
            cleaned.push_str(text.get(copied..at).unwrap_or_default());
            cleaned.push_str(replacement);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    cleaned.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(cleaned)
}

/// The length of the escape at the start of `text`, and what to write in its place if it is half of a pair.
fn escape(text: &[u8]) -> (usize, Option<&'static str>) {
    const HIGH: std::ops::Range<u32> = 0xD800..0xDC00;
    const LOW: std::ops::Range<u32> = 0xDC00..0xE000;
    match code_unit(text) {
        None => (2, None),
        Some(unit) if HIGH.contains(&unit) => match code_unit(&text[6..]) {
            Some(next) if LOW.contains(&next) => (12, None),
            _ => (6, Some("\\ufffd")),
        },
        Some(unit) if LOW.contains(&unit) => (6, Some("\\ufffd")),
        Some(_) => (6, None),
    }
}

/// The number of the escape that `text` begins with: a backslash, `u` and four hexadecimal digits.
fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = digits.iter().map(|&digit| char::from(digit).to_digit(16));
    digits.reduce(|number, digit| Some(16 * number? + digit?))?
}

/// The length of the number at the start of `text` that the standard does not know, and `null` in its place.
fn number(text: &[u8]) -> (usize, Option<&'static str>) {
    let known = ["NaN", "Infinity", "-Infinity"];
    let found = known
        .iter()
        .find(|number| text.starts_with(number.as_bytes()));
    found.map_or((1, None), |number| (number.len(), Some("null")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn what_python_writes_is_read() {
        for (text, cleaned) in [
            (
                r#"{"a": NaN, "b": [-Infinity,Infinity]}"#,
                r#"{"a": null, "b": [null,null]}"#,
            ),
            (
                r#"["NaN -Infinity \" NaN", NaN]"#,
                r#"["NaN -Infinity \" NaN", null]"#,
            ),
            (r#"["\ud83d\ude00"]"#, r#"["\ud83d\ude00"]"#),
            (
                r#"["a\uD83d", "\ude00b", "\ud83d\ud83d\ude00"]"#,
                r#"["a\ufffd", "\ufffdb", "\ufffd\ud83d\ude00"]"#,
            ),
            (r#"["\\ud83d"]"#, r#"["\\ud83d"]"#),
            (r#"["\ud8"#, r#"["\ud8"#),
        ] {
            assert_eq!(clean(text), cleaned);
        }
    }

    /// A value with texts that look like what is replaced.
    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            r#"(NaN|-?Infinity|\\ud83d|"|\\|\u{1f600}|é|, ){0,6}"#
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, move |inner| {
            let entries = prop::collection::vec((text.clone(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                entries.prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_text_of_the_standard_stays_as_it_is(value in any_value()) {
            let text = value.to_string();
            prop_assert_eq!(clean(&text), &*text);
            // Python writes each character beyond ASCII as an escape, of two halves where it must.
            let escaped: String = text.encode_utf16().map(|unit| match unit {
                0..0x80 => char::from(unit as u8).to_string(),
                unit => format!("\\u{unit:04x}"),
            }).collect();
            prop_assert_eq!(clean(&escaped), &*escaped);
            prop_assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
        }

        #[test]
        fn no_text_is_too_odd(text in r#"(["\\udD8-9a-fNI-]|NaN|Infinity|\\ud83d|\\ude00|é){0,20}"#) {
            clean(&text);
        }
    }
}
