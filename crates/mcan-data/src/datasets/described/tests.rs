use super::*;
use crate::data::Dataset;
use crate::data::answers::AnswerList;
use crate::data::vocab::Vocabulary;
use crate::datasets::{benchmark, names};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

const PAGE: &str = include_str!("../../../../../docs/src/your-own-data-set.md");

fn described(text: &str) -> Described {
    description::read("mine", "mine.yml", text).unwrap()
}

/// A folder with these files.
fn folder_of(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

/// The parsed files of all splits of a data set whose files are in `folder`.
fn parsed(described: &Described, folder: &Path) -> Box<dyn QuestionFiles> {
    let nothing = BTreeMap::new();
    let places = places(Some(folder), &nothing);
    let files = described.splits().iter().map(|split| SplitFiles {
        split: split.name,
        questions: Some(places.questions(described, split).unwrap()),
        annotations: places.annotations(described, split).unwrap(),
    });
    described.read(&files.collect::<Vec<_>>()).unwrap()
}

fn places<'a>(folder: Option<&'a Path>, nothing: &'a BTreeMap<String, PathBuf>) -> Places<'a> {
    Places {
        dataset: folder,
        features: folder,
        question_files: nothing,
        annotation_files: nothing,
        feature_folders: nothing,
    }
}

/// The training samples of these splits, with the answers that are counted in the data set.
fn trained(
    described: &Described,
    files: &dyn QuestionFiles,
    splits: &[SplitName],
) -> (Dataset, AnswerList) {
    let words = described.vocabulary_splits().iter();
    let words = words.flat_map(|split| files.words(split).unwrap());
    let vocabulary = Vocabulary::new(&["PAD", "UNK"], words);
    let answers = files.count_answers(described.answer_splits()).unwrap();
    let dataset = files.for_training(
        splits,
        &vocabulary,
        &answers,
        14,
        LossKind::BinaryCrossEntropy,
    );
    (dataset.unwrap(), answers)
}

#[test]
fn the_built_in_descriptions_are_those_of_three_published_data_sets() {
    assert_eq!(built_in().collect::<Vec<_>>(), ["okvqa", "vizwiz", "vqacp"]);
    let files = |name: &str, split: &str| {
        let benchmark = benchmark(name).unwrap();
        let split = crate::datasets::files::split(benchmark, split).unwrap();
        (split.questions, split.annotations)
    };
    assert_eq!(
        files("okvqa", "val"),
        (
            "OpenEnded_mscoco_val2014_questions.json",
            Some("mscoco_val2014_annotations.json")
        )
    );
    assert_eq!(
        files("vqacp", "test"),
        (
            "vqacp_v2_test_questions.json",
            Some("vqacp_v2_test_annotations.json")
        )
    );
    assert_eq!(files("vizwiz", "test"), ("test.json", None));
    let of = |name| benchmark(name).unwrap();
    assert_eq!(of("vqacp").evaluated_split(), "test");
    assert!(of("okvqa").test_splits().is_empty());
    assert_eq!(of("vizwiz").archive("val.json"), Some("Annotations.zip"));
    assert_eq!(of("okvqa").archive("a.json"), None);
    for name in built_in() {
        let benchmark = of(name);
        let (kind, nothing) = (StreamKind::Regions, BTreeMap::new());
        for split in benchmark.splits() {
            let places = places(None, &nothing);
            let found = benchmark.feature_places(split, kind, &places).unwrap();
            assert_eq!(found.len(), if name == "vqacp" { 2 } else { 1 });
        }
    }
}

#[test]
fn an_unknown_data_set_is_an_error_that_names_those_known_and_the_file_that_would_describe_it() {
    let message = format!("{:#}", benchmark("nothing").err().unwrap());
    let known = names().join(", ");
    assert!(known.contains("vqa, gqa, clevr") && known.ends_with("okvqa, vizwiz, vqacp"));
    for part in ["DATASET = nothing", &known, "configs/datasets/nothing.yml"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    for name in ["../okvqa", "", "a/b", "a\nb"] {
        assert!(find(name).unwrap().is_none(), "{name:?}");
    }
}

const SMALL: &str = "
splits:
  train: {questions: q.json, annotations: a.json, features: [one, two]}
  held: {questions: hq.json, annotations: ha.json, features: [one, two]}
  more: {questions: q.json, annotations: a.json}
train:
  all: [train, more]
evaluate: held
answers: {at_least: 1}
";

fn question(id: i64, image: Value, text: &str) -> Value {
    json!({"question_id": id, "image_id": image, "question": text})
}

fn annotation(id: i64, image: Value, answers: &[&str]) -> Value {
    let answers: Vec<Value> = answers.iter().map(|text| json!({"answer": text})).collect();
    json!({"question_id": id, "image_id": image, "answers": answers})
}

#[test]
fn a_data_set_in_vqas_format_is_read_trained_answered_and_scored() {
    let mine = described(SMALL);
    let folder = folder_of(&[
        ("q.json", json!([question(1, 7.into(), "What is it?")])),
        (
            "a.json",
            json!({"annotations": [annotation(1, 7.into(), &["dog", "cat", "cat"])]}),
        ),
        (
            "hq.json",
            json!({"questions": [question(5, 8.into(), "What is that?")]}),
        ),
        ("ha.json", json!([annotation(5, 8.into(), &["cat"; 10])])),
    ]);
    let mut files = parsed(&mine, folder.path());
    let (dataset, answers) = trained(&mine, &*files, &["train", "more"]);
    let rare = described(&SMALL.replace("{at_least: 1}", "{}"));
    let message = parsed(&rare, folder.path()).count_answers(&["train"]);
    let message = format!("{:#}", message.unwrap_err());
    assert!(
        message.contains("lower answers.at_least") && message.contains("more than 8 times"),
        "{message}"
    );
    // Without a multiple_choice_answer, the answer of most annotators is counted.
    assert!(answers.answers().eq(["cat"]));
    assert_eq!(
        (dataset.len(), dataset.image_splits()),
        (2, &[Some("train")][..])
    );
    assert_eq!(dataset.targets(0), [(0, 0.6)]);

    let vocabulary = Vocabulary::new(&["PAD", "UNK"], files.words("held").unwrap());
    let asked = files.for_answering("held", &vocabulary, 14).unwrap();
    assert_eq!(asked.question_ids(), [5.into()]);
    let metric = files.metric("held", Measure::Official).unwrap();
    let answers = [(asked.question_id(0).clone(), "cat")];
    // Ten answers that are equal in every field are those of ten annotators.
    let scores = metric.score(&answers).unwrap();
    assert_eq!(scores.headline, 100.0);
    assert_eq!(scores.printed, "Overall Accuracy is: 100.00\n\n");
    let written = folder.path().join("answers.json");
    mine.write_answers(&written, &answers).unwrap();
    assert_eq!(
        fs::read_to_string(&written).unwrap(),
        r#"[{"answer": "cat", "question_id": 5}]"#
    );
    let (questions, annotations) = (folder.path().join("hq.json"), folder.path().join("ha.json"));
    let told = mine.score(&written, &questions, Some(&annotations), Measure::Share);
    let told = told.unwrap();
    assert!(
        told.starts_with("Overall Accuracy is: 100.00") && !told.contains("Type"),
        "{told}"
    );
}

#[test]
fn a_file_is_found_in_the_archive_that_it_was_published_in() {
    let folder = folder_of(&[("q.json.zip", json!(1)), ("all.zip", json!(2))]);
    let nothing = BTreeMap::new();
    let places = places(Some(folder.path()), &nothing);
    for (line, archive) in [("", "q.json.zip"), ("archive: all.zip", "all.zip")] {
        let mine = described(&format!("{SMALL}{line}"));
        let found = places.questions(&mine, &mine.splits()[0]).unwrap();
        assert_eq!(found, folder.path().join(archive).join("q.json"));
    }
}

#[test]
fn splits_in_the_same_folders_share_their_images() {
    let mine = described(SMALL);
    let nothing = BTreeMap::new();
    let places = places(Some(Path::new("f")), &nothing);
    let found = places.feature_places(&mine, &["train", "held", "more"], StreamKind::Regions);
    let found: Vec<_> = found
        .unwrap()
        .into_iter()
        .map(|place| (place.folder, place.split))
        .collect();
    assert_eq!(
        found,
        [("f/one".into(), "train"), ("f/two".into(), "train")]
    );
    assert_eq!(
        ["train", "held", "more"].map(|split| mine.image_split(split)),
        [Some("train"), Some("train"), None]
    );
    let apart = described(&SMALL.replace(
        "hq.json, annotations: ha.json, features: [one, two]",
        "hq.json, annotations: ha.json, features: three",
    ));
    assert_eq!(apart.image_split("held"), Some("held"));
    let among = described(&SMALL.replace(
        "hq.json, annotations: ha.json, features: [one, two]",
        "hq.json, annotations: ha.json, features: two",
    ));
    assert_eq!(
        [among.image_split("held"), among.image_split("train")],
        [None, None]
    );
    let elsewhere = BTreeMap::from([("held".to_owned(), PathBuf::from("x"))]);
    let places = Places {
        feature_folders: &elsewhere,
        ..places
    };
    let found = places
        .feature_places(&mine, &["held"], StreamKind::Regions)
        .unwrap();
    assert_eq!((found.len(), &*found[0].folder), (1, Path::new("x")));
}

const VIZWIZ: &str = "
format: vizwiz
splits:
  train: {questions: train.json, annotations: train.json, features: train}
  test: {questions: test.json, features: test}
train: {train: train}
evaluate: train
test: test
answers: {at_least: 1}
";

#[test]
fn a_data_set_in_vizwizs_format_is_read_trained_answered_and_scored() {
    let mine = described(VIZWIZ);
    let entry = |image: &str, text: &str, answer: &str| {
        let answer = json!({"answer": answer, "answer_confidence": "yes"});
        json!({"image": image, "question": text, "answer_type": "other", "answerable": 1, "answers": vec![answer; 10]})
    };
    let folder = folder_of(&[
        (
            "train.json",
            json!([
                entry("b.jpg", "What is this?", "soap"),
                entry("a.jpg", "And this?", "tea")
            ]),
        ),
        (
            "test.json",
            json!([{"image": "c.jpg", "question": "What?"}]),
        ),
    ]);
    let mut files = parsed(&mine, folder.path());
    let (dataset, answers) = trained(&mine, &*files, &["train"]);
    assert!(answers.answers().eq(["soap", "tea"]));
    assert_eq!(dataset.question_ids(), ["b.jpg".into(), "a.jpg".into()]);
    assert_eq!(dataset.distinct_images(), ["b".into(), "a".into()]);
    assert_eq!(dataset.targets(1), [(1, 1.0)]);

    let vocabulary = Vocabulary::new(&["PAD", "UNK"], files.words("test").unwrap());
    let asked = files.for_answering("test", &vocabulary, 14).unwrap();
    assert_eq!(
        (asked.question_id(0), asked.image_id(0)),
        (&"c.jpg".into(), &"c".into())
    );
    let written = folder.path().join("answers.json");
    mine.write_answers(
        &written,
        &[("b.jpg".into(), "soap"), ("a.jpg".into(), "milk")],
    )
    .unwrap();
    assert_eq!(
        fs::read_to_string(&written).unwrap(),
        r#"[{"image": "b.jpg", "answer": "soap"}, {"image": "a.jpg", "answer": "milk"}]"#
    );
    let train = folder.path().join("train.json");
    let told = mine
        .score(&written, &train, Some(&train), Measure::Official)
        .unwrap();
    assert!(told.starts_with("Overall Accuracy is: 50.00\n\nPer Answer Type Accuracy is the following:\nother : 50.00\n"), "{told}");

    let metric = files.metric("train", Measure::Official).unwrap();
    let message = |answers: &[(QuestionId, &str)]| metric.score(answers).unwrap_err().to_string();
    let missing = message(&[("b.jpg".into(), "soap")]);
    assert!(
        missing.ends_with("train.json: 1 missing (a.jpg)"),
        "{missing}"
    );
    let stranger = message(&[("c.jpg".into(), "soap")]);
    assert!(
        stranger.contains("train.json does not annotate the question c.jpg"),
        "{stranger}"
    );
}

#[test]
fn an_error_in_a_file_of_vizwizs_format_names_file_and_image() {
    let entry = json!({"image": "a.jpg", "question": "What?", "answers": [{"answer": "x"}]});
    for (content, reason) in [
        (json!([entry, entry]), "the image \"a.jpg\" is there twice"),
        (
            json!([{"question": "What?"}]),
            "a question has no \"image\"",
        ),
        (
            json!([{"image": "a.jpg", "question": 1.5, "answers": []}]),
            "question a.jpg has 0 answers",
        ),
        (
            json!([{"image": "a.jpg"}]),
            "question a.jpg has no \"question\"",
        ),
    ] {
        let folder = folder_of(&[("train.json", content)]);
        let path = Some(folder.path().join("train.json"));
        let file = |questions, annotations| SplitFiles {
            split: "train",
            questions,
            annotations,
        };
        let read = |file| described(VIZWIZ).read(&[file]).map(drop);
        let errors = [
            read(file(path.clone(), None)),
            read(file(None, path.clone())),
        ];
        let messages = errors.map(|read| {
            format!(
                "{:#}",
                read.err().unwrap_or_else(|| anyhow::anyhow!("none"))
            )
        });
        let told = messages
            .iter()
            .any(|message| message.contains(reason) && message.contains("train.json"));
        assert!(told, "{reason}: {messages:?}");
    }
    for (content, reason) in [
        (json!([{"answer": "x"}]), "an answer has no \"image\""),
        (
            json!([{"image": "a.jpg"}]),
            "the entry of image a.jpg has no \"answer\"",
        ),
        (
            json!([{"image": "a.jpg", "answer": "x"}, {"image": "a.jpg", "answer": "x"}]),
            "image a.jpg is answered twice",
        ),
    ] {
        let folder = folder_of(&[("train.json", json!([entry])), ("mine.json", content)]);
        let [train, results] = ["train.json", "mine.json"].map(|name| folder.path().join(name));
        let score = described(VIZWIZ).score(&results, &train, Some(&train), Measure::Official);
        let message = format!("{:#}", score.unwrap_err());
        assert!(
            message.contains(reason) && message.contains("mine.json"),
            "{reason}: {message}"
        );
    }
}

#[test]
fn every_error_in_a_description_names_the_file_and_the_key() {
    for (old, new, reason) in [
        (
            "evaluate: held",
            "evaluate: [held, train]",
            "evaluate: it has a list where a text is expected",
        ),
        (
            "evaluate: held",
            "evaluate: hold",
            "evaluate: there is no split \"hold\", only train, held, more",
        ),
        (
            "evaluate: held",
            "",
            "the key evaluate is missing; it says which split --RUN=val answers",
        ),
        (
            "evaluate: held",
            "evaluate: more",
            "evaluate: the split more has no features; add the key splits.more.features",
        ),
        (
            "evaluate: held",
            "evaluate: held\ntest: more",
            "test: the split more has no features",
        ),
        (
            "evaluate: held",
            "evaluate: held\nformats: vqa",
            "there is no key formats; use one of source, folder, feature_folder,",
        ),
        (
            "evaluate: held",
            "evaluate: held\nformat: coco",
            "format: \"coco\" is none of vqa, vizwiz",
        ),
        (
            "evaluate: held",
            "evaluate: held\nimages: text",
            "images: \"text\" is none of number, name",
        ),
        (
            "evaluate: held",
            "evaluate: held\nmetric: bleu",
            "metric: \"bleu\" is none of official, exact, share",
        ),
        (
            "evaluate: held",
            "evaluate: held\nformat: vizwiz\nimages: number",
            "images: in the format vizwiz, images have names",
        ),
        (
            "evaluate: held",
            "evaluate: held\nregions: 36",
            "regions: it has 36 where a list of 2 whole numbers from 1 to 1048576 is expected",
        ),
        (
            "evaluate: held",
            "evaluate: held\nregions: [36, 0]",
            "regions: it has a list where a list of 2 whole numbers",
        ),
        (
            "evaluate: held",
            "evaluate: held\nvocabulary: [train, 7]",
            "vocabulary: it has 7 where a text or a list of texts is expected",
        ),
        (
            "evaluate: held",
            "evaluate: held\nvocabulary: [train, train]",
            "vocabulary: \"train\" is there twice",
        ),
        (
            "evaluate: held",
            "evaluate: held\nfolder: {a: b}",
            "folder: it has lines of the form KEY: value where a text or a list",
        ),
        (
            "at_least: 1",
            "at_least: 0",
            "answers.at_least: it has 0 where a whole number from 1 to 1048576 is expected",
        ),
        (
            "at_least: 1",
            "atleast: 1",
            "there is no key answers.atleast; use one of file, from, at_least",
        ),
        (
            "at_least: 1",
            "from: other",
            "answers.from: there is no split \"other\"",
        ),
        (
            "answers: {at_least: 1}",
            "answers: all",
            "answers: it has the text \"all\" where lines of the form KEY: value is expected",
        ),
        (
            "all: [train, more]",
            "all: [trian]",
            "train.all: there is no split \"trian\"",
        ),
        (
            "all: [train, more]",
            "all: []",
            "train.all: it lists no split to train on",
        ),
        (
            "all: [train, more]",
            "all: [more]",
            "train.all: no split of it has features",
        ),
        (
            "train:\n  all: [train, more]",
            "",
            "the key train is missing; it lists the words for --SPLIT",
        ),
        (
            "annotations: ha.json, ",
            "",
            "evaluate: the split held has no annotations; add the key splits.held.annotations",
        ),
        (
            "{questions: q.json, annotations: a.json, f",
            "{annotations: a.json, f",
            "the key splits.train.questions is missing; it says which file has the questions",
        ),
        (
            "questions: hq.json",
            "questions: hq.json, feature: x",
            "there is no key splits.held.feature; use one of questions, annotations, features",
        ),
        (
            "questions: hq.json",
            "questions: false",
            "splits.held.questions: it has false where a text is expected",
        ),
        (
            "held: {questions: hq.json, annotations: ha.json, features: [one, two]}",
            "held: hq.json",
            "splits.held: it has the text \"hq.json\" where lines of the form KEY: value",
        ),
        (
            "  held:",
            "  a/b:",
            "splits: the name \"a/b\" of a split is a part of file names",
        ),
    ] {
        let text = SMALL.replace(old, new);
        assert_ne!(text, SMALL, "{old}");
        let read = description::read("mine", "mine.yml", &text);
        let message = format!(
            "{:#}",
            read.err().unwrap_or_else(|| anyhow::anyhow!("none"))
        );
        assert!(
            message.starts_with("mine.yml: ") && message.contains(reason),
            "{reason}: {message}"
        );
    }
    for (text, reason) in [
        ("", "mine.yml: the key splits is missing"),
        ("a", "mine.yml: expected lines of the form KEY: value"),
        ("splits: [", "mine.yml is not valid YAML"),
    ] {
        let message = format!(
            "{:#}",
            description::read("mine", "mine.yml", text).unwrap_err()
        );
        assert!(message.contains(reason), "{reason}: {message}");
    }
}

/// The blocks of code of the page in this language, each with the file that the line before it names.
fn blocks(language: &str) -> Vec<(String, String)> {
    let start = format!("`:\n\n```{language}\n");
    let parts = PAGE.match_indices(&start).map(|(at, _)| {
        let name = PAGE[..at].rsplit('`').next().unwrap();
        let content = PAGE[at + start.len()..].split("\n```").next().unwrap();
        (name.to_owned(), content.to_owned())
    });
    parts.collect()
}

#[test]
fn the_data_set_of_the_documentation_is_read_trained_answered_and_scored() {
    let [(name, text)] = &blocks("yaml")[..] else {
        panic!("one description is expected")
    };
    assert_eq!(name, &file_name("fruit"));
    let fruit = description::read("fruit", name, text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in blocks("json") {
        let path = Path::new(&path);
        assert_eq!(path.parent(), Some(Path::new(fruit.folders().0[0])));
        fs::write(folder.path().join(path.file_name().unwrap()), content).unwrap();
    }
    let mut files = parsed(&fruit, folder.path());
    let (_, splits) = fruit.trainings()[1];
    let (dataset, answers) = trained(&fruit, &*files, splits);
    assert_eq!((dataset.len(), answers.len()), (8, 6));
    assert!((0..8).all(|i| dataset.targets(i).len() == 1));
    let vocabulary = Vocabulary::new(&["PAD", "UNK"], files.words("train").unwrap());
    let asked = files.for_answering("test", &vocabulary, 14).unwrap();
    let mut images = dataset.distinct_images().to_vec();
    images.extend_from_slice(asked.distinct_images());
    let expected: Vec<_> = (1..=10)
        .map(|i| format!("bowl_{i:02}").as_str().into())
        .collect();
    assert_eq!(images, expected);
    let metric = files
        .metric(fruit.evaluated_split(), fruit.usual_measure())
        .unwrap();
    let scores = metric
        .score(&[(7.into(), "banana"), (8.into(), "yes")])
        .unwrap();
    assert_eq!(
        scores.printed,
        "Overall Accuracy is: 50.00\n\nPer Answer Type Accuracy is the following:\nother : 100.00\nyes/no : 0.00\n"
    );
}

#[test]
fn the_page_of_the_documentation_has_a_row_for_each_key() {
    let message = description::read("mine", "mine.yml", &format!("{SMALL}\nx: 1")).unwrap_err();
    let message = message.to_string();
    let (_, keys) = message.split_once("use one of ").unwrap();
    for key in keys.split(", ") {
        assert!(PAGE.contains(&format!("\n| `{key}` | ")), "{key}");
    }
    for name in built_in() {
        assert!(PAGE.contains(&format!("`--DATASET={name}`")), "{name}");
    }
}
