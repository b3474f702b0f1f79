use super::*;
use proptest::prelude::*;

/// Random difficult texts with the results of the reference, written by tests/data/text_cases.py. `MCAN_TEXT_CASES` names
/// a longer list of the same kind.
#[test]
fn every_stored_text_has_the_results_of_the_reference() {
    let stored = match std::env::var_os("MCAN_TEXT_CASES") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("../../tests/data/text_cases.json").to_owned(),
    };
    let cases: Vec<[String; 5]> = serde_json::from_str(&stored).unwrap();
    assert!(cases.len() >= 500);
    for [text, distinct_words, punctuation, digit_article, normalized] in cases {
        let distinct: indexmap::IndexSet<String> = words(&text).into_iter().collect();
        let joined = distinct
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("|");
        assert_eq!(joined, distinct_words, "words of {text:?}");
        assert_eq!(
            process_punctuation(&text),
            punctuation,
            "punctuation of {text:?}"
        );
        assert_eq!(
            process_digit_article(&text),
            digit_article,
            "digits and articles of {text:?}"
        );
        assert_eq!(
            normalize_answer(&text),
            normalized,
            "normal form of {text:?}"
        );
    }
}

#[test]
fn a_question_is_lower_cased_stripped_and_split() {
    assert_eq!(
        words("What's the man's T-shirt/jacket (colour)?"),
        ["whats", "the", "mans", "t", "shirt", "jacket", "colour"]
    );
    assert_eq!(words("a\x1cb\u{3000}c\u{85}d"), ["a", "b", "c", "d"]);
    assert_eq!(words("ΟΔΟΣ İ"), ["οδος", "i\u{307}"]);
    assert!(words(" ?! ").is_empty());
}

#[test]
fn punctuation_depends_on_the_whole_text() {
    assert_eq!(process_punctuation("a-b"), "a b");
    assert_eq!(process_punctuation("a-b -c"), "ab c");
    assert_eq!(process_punctuation("1,000-2"), "10002");
    assert_eq!(process_punctuation("٣,٤;x"), "٣٤x");
    assert_eq!(process_punctuation("2.5 p.m."), "2.5 pm");
}

#[test]
fn only_the_first_32_periods_are_removed() {
    assert_eq!(process_punctuation(&".".repeat(40)), ".".repeat(8));
    assert_eq!(
        process_punctuation(&format!("3.5{}", ".x".repeat(33))),
        format!("3.5{}.x", "x".repeat(32))
    );
}

#[test]
fn numbers_articles_and_contractions_are_replaced() {
    assert_eq!(
        normalize_answer("The Two dogs, and A cat"),
        "2 dogs and cat"
    );
    assert_eq!(normalize_answer("dont know"), "don't know");
    assert_eq!(normalize_answer("the"), "");
}

proptest! {
    #[test]
    fn a_normal_form_has_no_comma_no_article_and_single_spaces(text in r"\PC{0,40}|[a-c ,.;0-9-]{0,40}") {
        let normal = normalize_answer(&text);
        prop_assert!(!normal.contains(','));
        prop_assert!(normal.split(' ').all(|word| normal.is_empty() || !matches!(word, "" | "a" | "an" | "the")));
    }

    #[test]
    fn words_are_never_empty_and_hold_no_white_space(text in any::<String>()) {
        prop_assert!(words(&text).iter().all(|word| !word.is_empty() && !word.contains(is_space)));
    }
}
