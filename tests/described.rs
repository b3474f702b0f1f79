//! Follows the page "Your own data set" of the documentation: its files, its commands.

mod common;

use common::command;
use mcan_data::formats::npz::testing::feature_file;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../docs/src/your-own-data-set.md");

/// Writes the blocks of the page in this language to the files that the lines before them name.
fn write_blocks(folder: &Path, language: &str) {
    let start = format!("`:\n\n```{language}\n");
    for (at, _) in PAGE.match_indices(&start) {
        let name = PAGE[..at].rsplit('`').next().unwrap();
        let content = PAGE[at + start.len()..].split("\n```").next().unwrap();
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Writes features of 12 regions for each of the ten images.
fn write_features(folder: &Path) {
    for (split, images) in [("train", 1..7), ("val", 7..9), ("test", 9..11)] {
        let folder = folder.join("datasets/fruit_extract").join(split);
        fs::create_dir_all(&folder).unwrap();
        for image in images {
            let value = |i: usize| ((i * 37 + image * 11) % 101) as f32 / 101.0;
            let rows: Vec<f32> = (0..12 * 2048).map(value).collect();
            let file = feature_file(&rows, 2048, false, false);
            fs::write(folder.join(format!("bowl_{image:02}.npz")), file).unwrap();
        }
    }
}

#[test]
fn the_commands_of_the_page_pack_train_evaluate_answer_and_score() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    write_blocks(folder, "yaml");
    write_blocks(folder, "json");
    write_features(folder);
    let lines = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("    mcan "));
    let mut commands = 0;
    for line in lines {
        if line.contains("--RUN=score") {
            let answers = folder.join("results/cache/result_run_first.json");
            fs::copy(answers, folder.join("answers.json")).unwrap();
        }
        let flags: Vec<&str> = line.split_whitespace().chain(["--GPU=cpu"]).collect();
        let output = command(folder, &flags).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {message}");
        if line.contains("--RUN=score") {
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.starts_with("Overall Accuracy is: "), "{printed}");
        }
        commands += 1;
    }
    assert_eq!(commands, 5);
    assert!(
        folder
            .join("datasets/fruit_extract/val.safetensors")
            .exists()
    );
    let answers =
        fs::read_to_string(folder.join("results/result_test/result_run_first_epoch12.json"));
    let answers = answers.unwrap();
    for id in [9, 10] {
        assert!(
            answers.contains(&format!("\"question_id\": {id}}}")),
            "{answers}"
        );
    }
}
