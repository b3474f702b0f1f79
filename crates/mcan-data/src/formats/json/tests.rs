use super::*;

entry! {
    struct Row<'a>, "a row" {
        id: Int,
        word: Text<'a>,
    }
}

/// The rows of a file of this name and text, with `0` and `-` for what has no value.
fn rows(name: &str, text: &[u8]) -> Result<Vec<(i64, String)>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name);
    std::fs::write(&path, text)?;
    let mut rows = Vec::new();
    JsonFile::open(&path)?.for_each_in("rows", |row: Row| {
        let id = row.id.context("a row has no \"id\"")?.0;
        rows.push((id, row.word.map_or("-".into(), |word| word.to_string())));
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn one_object_is_json_lines_only_by_its_name() {
    let row = br#"{"id": 7, "word": 2.5}"#;
    assert_eq!(rows("a.jsonl", row).unwrap(), [(7, "2.5".to_owned())]);
    let message = rows("a.json", row).unwrap_err().to_string();
    assert!(message.contains("there is no list \"rows\""), "{message}");
    let both = [&row[..], b"\n", row].concat();
    assert_eq!(rows("a.json", &both).unwrap().len(), 2);
}

#[test]
fn what_is_read_in_another_sense_is_said() {
    let text = br#"[{"id": 1, "word": NaN}, {"id": NaN}]"#;
    let message = rows("a.json", text).unwrap_err().to_string();
    assert!(
        message.contains("of entry 2; NaN and infinities in it count as null"),
        "{message}"
    );
    let message = rows("a.json", br#"[{"word": 1}]"#).unwrap_err().to_string();
    assert!(
        message.contains("no \"id\"") && !message.contains("NaN"),
        "{message}"
    );
}

#[test]
fn a_second_list_and_text_of_another_encoding_are_errors() {
    let message = |text: &[u8]| rows("a.json", text).unwrap_err().to_string();
    let twice = message(br#"{"rows": [{"id": 1}], "rows": []}"#);
    assert!(twice.contains("a second list \"rows\""), "{twice}");
    let wide = message(b"\xff\xfe[\0]\0");
    assert!(wide.contains("text in UTF-16; save it in UTF-8"), "{wide}");
    let latin = message(b"[{\"word\": \"caf\xe9\"}]");
    assert!(latin.contains("not UTF-8 at byte 14"), "{latin}");
}
