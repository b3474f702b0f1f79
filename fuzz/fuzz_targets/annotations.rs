#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::datasets::Measure;
use mcan_data::datasets::vqa2::{AnnotationFile, Evaluator, Form, count_answers};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("annotations.json", bytes);
    check(&path, Form::VQA2);
    for form in Form::DESCRIBED {
        check(&path, form);
    }
});

fn check(path: &Path, form: Form) {
    let Ok(file) = AnnotationFile::read_as(path, form) else {
        return;
    };
    for i in 0..file.annotations().len() {
        assert_eq!(file.answers(i).len(), file.answer_kinds(i).len());
        file.answers(i)
            .iter()
            .for_each(|&answer| _ = file.string(answer));
    }
    let _ = count_answers([&file]);
    let _ = Evaluator::new(&file, Measure::Official);
}
