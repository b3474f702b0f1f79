#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::datasets::vqa2::{read_answers, write_answers};

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("results.json", bytes);
    let Ok(answers) = read_answers(&path) else {
        return;
    };
    if answers.len() < 4 {
        let copy = mcan_fuzz::folder().join("copy.json");
        write_answers(
            &copy,
            answers
                .iter()
                .map(|entry| (entry.question_id, &*entry.answer)),
        )
        .expect("a folder of ours");
        assert_eq!(read_answers(&copy).expect("what was written"), answers);
    }
});
