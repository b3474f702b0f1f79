//! The names of files, and the archives that they are published in.

use super::*;

#[test]
fn file_names_give_image_ids_as_in_the_reference() {
    let id = |name| FEATURE_FILES.key(name).map_err(|e| e.to_string());
    assert_eq!(
        id("COCO_train2014_000000000009.jpg.npz"),
        Ok(Some(ImageKey::Number(9)))
    );
    assert_eq!(id("2407890.npz"), Ok(Some(ImageKey::Number(2407890))));
    assert_eq!(id("._COCO_train2014_000000000009.jpg.npz"), Ok(None));
    assert_eq!(id("README.md"), Ok(None));
    for wrong in [
        "COCO_train2014_.npz",
        "COCO_+9.npz",
        "COCO_99999999999999999999.npz",
        "mean.npz",
    ] {
        assert!(id(wrong).unwrap_err().contains(wrong));
    }
}

#[test]
fn a_file_is_found_in_its_published_archive() {
    let text = questions_json().to_string();
    let (test, dev) = (
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
    );
    let archive = zipped(&[
        (test, "{\"questions\": []}"),
        (dev, &text),
        ("readme.txt", "hello"),
    ]);
    let (folder, zip) = write_bytes("v2_Questions_Test_mscoco.zip", &archive);
    let named = folder.path().join(dev);
    let wanted = in_archive(&Vqa2, named.clone()).unwrap();
    assert_eq!(
        locate(&wanted).unwrap(),
        Some(Location {
            file: zip.clone(),
            member: Some(dev.to_owned())
        })
    );
    let file = QuestionFile::read(&wanted).unwrap();
    assert_eq!(seen(&file), seen(&question_file(&questions_json())));
    assert!(
        file.name()
            .ends_with(&format!("v2_Questions_Test_mscoco.zip ({dev})")),
        "{}",
        file.name()
    );
    assert_eq!(
        QuestionFile::read(&zip.join(dev))
            .unwrap()
            .questions()
            .len(),
        3
    );

    let unclear = format!("{:#}", QuestionFile::read(&zip).err().unwrap());
    assert!(
        unclear.contains(&format!("archive.zip/{test} or archive.zip/{dev}")),
        "{unclear}"
    );
    fs::rename(&zip, folder.path().join("VG_questions.zip")).unwrap();
    let absent = format!(
        "{:#}",
        QuestionFile::read(&folder.path().join("VG_questions.json"))
            .err()
            .unwrap()
    );
    assert!(
        absent.contains("it has no member VG_questions.json"),
        "{absent}"
    );
    let wanted = in_archive(&Vqa2, named).unwrap();
    let nowhere = format!("{:#}", QuestionFile::read(&wanted).err().unwrap());
    assert!(
        nowhere.contains("there is no file") && nowhere.contains(dev),
        "{nowhere}"
    );
}

#[test]
fn an_archive_with_one_json_member_needs_no_member_name() {
    let members = [
        ("__MACOSX/a.json", "?"),
        ("folder/a.json", &questions_json().to_string()),
    ];
    let (_folder, zip) = write_bytes("mine.zip", &zipped(&members));
    assert_eq!(QuestionFile::read(&zip).unwrap().questions().len(), 3);
    assert_eq!(
        locate(&zip).unwrap(),
        Some(Location {
            file: zip.clone(),
            member: None
        })
    );
}

#[test]
fn a_damaged_archive_is_an_error_that_names_it() {
    let mut archive = zipped(&[("a.json", &questions_json().to_string())]);
    let middle = archive.len() / 3;
    archive[middle] ^= 0xff;
    let (_folder, zip) = write_bytes("mine.zip", &archive);
    let message = format!("{:#}", QuestionFile::read(&zip).err().unwrap());
    assert!(
        message.contains("mine.zip") && message.contains("damaged"),
        "{message}"
    );
}
