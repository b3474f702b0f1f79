#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::datasets::vqa2::QuestionFile;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("questions.json", bytes);
    let Ok(file) = QuestionFile::read(&path) else {
        return;
    };
    let words = file.distinct_words().len();
    for (i, question) in file.questions().iter().enumerate() {
        assert_eq!(file.position(question.question_id), Some(i));
        assert!(file.words(i).iter().all(|&word| (word as usize) < words));
    }
});
