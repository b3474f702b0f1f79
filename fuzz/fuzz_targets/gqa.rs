#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::datasets::gqa::{Choices, Evaluator, QuestionFile, read_dictionary};
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("gqa.json", bytes);
    let _ = read_dictionary(&path);
    let choices = Choices::read(&path).ok();
    for with_details in [false, true] {
        let Ok(file) = QuestionFile::read(&path, with_details) else {
            continue;
        };
        let words: HashSet<&str> = file.distinct_words().collect();
        let answers: HashSet<&str> = file.distinct_answers().collect();
        for i in 0..file.len() {
            assert_eq!(file.position(file.id(i)), Some(i));
            assert!(file.words(i).len() <= file.longest_question());
            assert!(file.words(i).all(|word| words.contains(word)));
            assert!(file.answer(i).is_none_or(|answer| answers.contains(answer)));
            let _ = (file.image(i), file.details(i));
        }
        let _ = Evaluator::new(file, None);
    }
    if let (Ok(file), Some(choices)) = (QuestionFile::read(&path, true), choices) {
        let _ = Evaluator::new(file, Some(choices));
    }
});
