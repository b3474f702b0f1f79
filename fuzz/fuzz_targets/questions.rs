#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::datasets::vqa2::{Form, QuestionFile};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("questions.json", bytes);
    check(&path, Form::VQA2);
    for form in Form::DESCRIBED {
        check(&path, form);
    }
});

fn check(path: &Path, form: Form) {
    let Ok(file) = QuestionFile::read_as(path, form) else {
        return;
    };
    let words = file.distinct_words().len();
    for (i, question) in file.questions().iter().enumerate() {
        assert_eq!(file.position(question.question_id), Some(i));
        assert!(file.words(i).iter().all(|&word| (word as usize) < words));
    }
}
