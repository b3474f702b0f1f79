use super::*;

const SCORES: &str = "Overall Accuracy is: ";

#[test]
fn floats_look_as_in_python() {
    for (value, text) in [
        (8e-5, "8e-05"),
        (0.0004, "0.0004"),
        (0.00030000000000000003, "0.00030000000000000003"),
        (12.0, "12.0"),
        (1234.5, "1234.5"),
        (1e16, "1e+16"),
        (123456789012345680.0, "1.2345678901234568e+17"),
        (-0.5, "-0.5"),
        (0.0, "0.0"),
    ] {
        assert_eq!(python_float(format!("{value:e}")), text);
    }
    assert_eq!(python_float(format!("{:e}", 24.741917f32)), "24.741917");
    assert_eq!(python_float(format!("{:e}", f64::NAN)), "nan");
}

/// A log of two epochs, and the ends of its entries.
fn two_epochs() -> (String, Vec<usize>) {
    let time = "nowTime: 2026-11-23 09:27:02\n";
    let epoch = |n: u64| format!("epoch = {n}  loss = 24.741917\nlr = 0.0005\n\n");
    let accuracy = "Overall Accuracy is: 27.17\nother : 5.41 yes/no : 1.07 \n\n";
    let entries = [time, &epoch(1), accuracy, time, &epoch(2), accuracy];
    let ends = (0..=entries.len()).map(|count| entries[..count].concat().len());
    (entries.concat(), ends.collect())
}

#[test]
fn wherever_a_log_was_cut_the_next_run_completes_it() {
    let (text, ends) = two_epochs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.txt");
    for cut in 0..=text.len() {
        std::fs::write(&path, &text[..cut]).unwrap();
        let log = Log::open(&path, SCORES).unwrap();
        // The last empty line of an epoch's entry says nothing.
        let is_whole =
            |end: usize| end <= cut || text[..end].ends_with("0.0005\n\n") && end - 1 == cut;
        let count = ends.iter().rposition(|&end| is_whole(end)).unwrap();
        assert_eq!(log.state.begun, count == 1 || count == 4, "cut at {cut}");
        assert_eq!(log.state.lacks(1, false), count == 1, "cut at {cut}");
        let lacks_scores = count == 1 || count == 2;
        assert_eq!(log.state.lacks(1, true), lacks_scores, "cut at {cut}");
        let lacks_scores = count == 4 || count == 5;
        assert_eq!(log.state.lacks(2, true), lacks_scores, "cut at {cut}");
        let next = ends
            .iter()
            .position(|&end| cut < end)
            .unwrap_or(ends.len() - 1);
        log.append(&text[ends[next - 1]..ends[next]]).unwrap();
        let completed = std::fs::read_to_string(&path).unwrap();
        if cut < text.len() {
            assert_eq!(completed, text[..ends[next]], "cut at {cut}");
        }
    }
}

#[test]
fn no_line_of_a_log_that_an_editor_saved_is_lost() {
    let (text, _) = two_epochs();
    let entry = "epoch = 3  loss = 1.0\nlr = 0.5\n\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.txt");
    let note = "epoch = 2 looks odd";
    for (edited, epoch) in [
        (text.replace('\n', "\r\n"), Some(2)),
        (text.replace("\n\n", "\n"), Some(2)),
        (format!("\u{feff}{text}"), Some(2)),
        (format!("{text}{note}"), Some(2)),
        (format!("{note}\n{text}\0\0"), Some(2)),
        (text.replace("epoch = ", "Epoch "), None),
        (note.into(), None),
    ] {
        std::fs::write(&path, &edited).unwrap();
        let mut log = Log::open(&path, SCORES).unwrap();
        assert_eq!(log.state.epoch, epoch, "{edited:?}");
        log.end_epoch(3, 1.0, 0.5).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        let added = after.strip_prefix(&edited).unwrap();
        assert_eq!(added.trim_start_matches('\n'), entry, "{edited:?}");
        assert!(after.ends_with(&format!("\n{entry}")), "{after:?}");
    }
    std::fs::write(&path, [b"caf\xe9\n", text.as_bytes()].concat()).unwrap();
    assert_eq!(LogState::read(&path, SCORES).unwrap().epoch, Some(2));
}

#[test]
fn the_scores_of_any_metric_are_an_entry() {
    let text = "epoch = 1  loss = 2.0\nlr = 0.5\n\nOverall : 40.00\ncount : 35.00\n\n";
    assert!(!LogState::of(text.as_bytes(), "Overall : ").lacks(1, true));
    let torn = &text.as_bytes()[..text.len() - 5];
    assert!(LogState::of(torn, "Overall : ").lacks(1, true));
}

#[test]
fn an_entry_goes_to_the_file_that_has_the_name_now() {
    let folder = tempfile::tempdir().unwrap();
    let (path, saved) = (folder.path().join("log.txt"), folder.path().join("saved"));
    let mut log = Log::open(&path, SCORES).unwrap();
    log.end_epoch(1, 1.0, 0.5).unwrap();
    std::fs::copy(&path, &saved).unwrap();
    std::fs::rename(&saved, &path).unwrap();
    log.end_epoch(2, 1.0, 0.5).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("epoch = 1 ") && text.contains("epoch = 2 "),
        "{text}"
    );
}

#[test]
fn an_entry_that_does_not_fit_leaves_no_trace() {
    let Ok(mut log) = Log::open(Path::new("/dev/full"), SCORES) else {
        return crate::note!("skipped: there is no /dev/full");
    };
    let message = format!("{:#}", log.end_epoch(1, 1.0, 1.0).unwrap_err());
    assert!(
        message.contains("cannot write the log /dev/full") && message.contains("No space"),
        "{message}"
    );
}

#[test]
fn a_log_that_is_removed_under_a_run_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/log_run_x.txt");
    let mut log = Log::open(&path, SCORES).unwrap();
    log.end_epoch(1, 1.0, 0.5).unwrap();
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    log.end_epoch(2, 1.0, 0.5).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "epoch = 2  loss = 1.0\nlr = 0.5\n\n"
    );
}

#[test]
fn a_log_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/log_run_x.txt");
    Log::open(&path, SCORES)
        .unwrap()
        .end_epoch(1, 24.741917, 0.0005)
        .unwrap();
    let mut log = Log::open(&path, SCORES).unwrap();
    log.begin_epoch().unwrap();
    log.end_epoch(2, 8.0, 8e-5).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        ["epoch = 1  loss = 24.741917", "lr = 0.0005", ""]
    );
    assert!(
        lines[3].starts_with("nowTime: 20") && lines[3].len() == 28,
        "{}",
        lines[3]
    );
    assert_eq!(lines[4..], ["epoch = 2  loss = 8.0", "lr = 8e-05", ""]);
}
