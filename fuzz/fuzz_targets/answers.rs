#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan::data::answers::AnswerList;
use mcan::evaluation::read_answers;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("answers.json", bytes);
    if let Ok(list) = AnswerList::load(&path) {
        assert!(!list.is_empty());
    }
    let _ = read_answers(&path);
});
