#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::data::answers::AnswerList;

fuzz_target!(|bytes: &[u8]| {
    let path = mcan_fuzz::file("answer_dict.json", bytes);
    if let Ok(list) = AnswerList::load(&path) {
        assert!(!list.is_empty());
        assert_eq!(list.answers().count(), list.len());
    }
});
