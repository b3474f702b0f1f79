#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan::data::vqa::{AnnotationFile, QuestionFile};
use mcan::evaluation::Evaluator;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("questions.json", bytes);
    if let Ok(file) = QuestionFile::read(&path) {
        let words = file.distinct_words().len();
        for i in 0..file.questions().len() {
            assert!(file.words(i).iter().all(|&word| (word as usize) < words));
        }
    }
    if let Ok(file) = AnnotationFile::read(&path) {
        for i in 0..file.annotations().len() {
            assert_eq!(file.answers(i).len(), file.answer_kinds(i).len());
            file.answers(i).iter().for_each(|&answer| _ = file.string(answer));
        }
        let _ = Evaluator::new(&file);
    }
});
