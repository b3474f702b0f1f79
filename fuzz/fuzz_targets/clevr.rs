#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::datasets::clevr::{Evaluator, QuestionFile};
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("CLEVR_questions.json", bytes);
    let Ok(file) = QuestionFile::read(&path, &["train"]) else {
        return;
    };
    let words: HashSet<&str> = file.distinct_words().collect();
    let answers: HashSet<&str> = file.distinct_answers().collect();
    for i in 0..file.len() {
        assert!(file.words(i).len() <= file.longest_question());
        assert!(file.words(i).all(|word| words.contains(word)));
        assert!(file.answer(i).is_none_or(|answer| answers.contains(answer)));
        let _ = (file.image_index(i), file.function(i));
    }
    let _ = Evaluator::new(&file);
});
