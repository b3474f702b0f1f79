//! How many rows there are of each kind of damage, and that docs/src/reliability.md says so.

/// The columns of the table in the documentation, and how the names of their rows are told. The first that fits counts.
const DAMAGES: [(&str, &[&str]); 12] = [
    (
        "leaves its folder",
        &[
            "out of its folder",
            "out of the folder",
            "absolute path",
            "is a path",
        ],
    ),
    (
        "unmatched",
        &[
            "without question",
            "without image",
            "without annotation",
            "of another image",
        ],
    ),
    (
        "nested",
        &["nested", "holds itself", "grows by sharing", "aliases"],
    ),
    ("absurd size", &["absurd size", "bomb", "gigabyte"]),
    ("NaN, infinity", &["NaN", "infinit"]),
    ("duplicate", &["duplicate", "twice"]),
    ("truncated", &["truncated", "cut short"]),
    ("empty", &["empty"]),
    (
        "wrong shape",
        &["wrong shape", "another shape", "number of layers"],
    ),
    (
        "wrong type",
        &[
            "wrong type",
            "encrypted",
            "compressed",
            "wrong magic",
            "wrong version",
            "another protocol",
        ],
    ),
    ("missing", &["missing"]),
    ("other", &[""]),
];

/// In the order in which the documentation has them.
const COLUMNS: [&str; 12] = [
    "empty",
    "truncated",
    "wrong type",
    "wrong shape",
    "NaN, infinity",
    "duplicate",
    "missing",
    "unmatched",
    "absurd size",
    "nested",
    "leaves its folder",
    "other",
];

const DOCUMENT: &str = include_str!("../../docs/src/reliability.md");

fn damage(row: &str) -> &'static str {
    let fits = |words: &[&str]| words.iter().any(|word| row.contains(word));
    DAMAGES
        .iter()
        .find(|(_, words)| fits(words))
        .map_or("other", |(name, _)| name)
}

fn header() -> String {
    format!("| kind of file | {} | all |", COLUMNS.join(" | "))
}

/// Whether the documentation has the line of this kind of file; else what it should be.
pub fn check_line<'a>(kind: &str, rows: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let damages: Vec<&str> = rows.map(damage).collect();
    let count = |column: &&str| match damages.iter().filter(|damage| *damage == column).count() {
        0 => String::new(),
        some => some.to_string(),
    };
    let line = format!(
        "| {kind} | {} | {} |",
        COLUMNS.iter().map(count).collect::<Vec<_>>().join(" | "),
        damages.len()
    );
    let found = DOCUMENT.lines().any(|there| there == line);
    if found {
        Ok(())
    } else {
        Err(format!("docs/src/reliability.md lacks the line\n{line}"))
    }
}

#[test]
fn the_documented_numbers_of_malformed_files_add_up() {
    let lines = DOCUMENT
        .lines()
        .skip_while(|line| *line != header())
        .skip(2);
    let kinds: Vec<&str> = lines.take_while(|line| line.starts_with('|')).collect();
    let all = |line: &&str| {
        line.trim_end_matches(" |")
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let sum: usize = kinds.iter().map(all).sum();
    assert!(
        sum > 0,
        "docs/src/reliability.md lacks the table under\n{}",
        header()
    );
    let row = format!(
        "| malformed files, through the program (`tests/bad_input`) | {sum} per test run | nothing |"
    );
    assert!(
        DOCUMENT.contains(&row),
        "docs/src/reliability.md lacks the line\n{row}"
    );
}
