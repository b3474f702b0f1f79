use super::*;
use crate::datasets::demo::tests::{SMALL, read_json};
use crate::datasets::demo::world::CELLS;
use ndarray::{Array0, Array2};
use ndarray_npy::ReadNpyExt;
use std::collections::BTreeMap;
use std::fs::File;
use zip::{CompressionMethod, ZipArchive};

fn read(root: &Path, name: &str) -> Map<String, Value> {
    let path = root.join("gqa").join(format!("{name}.json"));
    read_json(&path).as_object().unwrap().clone()
}

#[test]
fn the_files_agree_and_have_every_field() {
    let root = tempfile::tempdir().unwrap();
    let report = write(root.path(), &SMALL).unwrap();
    let of = |name: &str| read(root.path(), &format!("questions1.2/{name}_questions"));
    let test = of("submission_all");
    let counts = [
        report.train_questions,
        report.val_questions,
        report.test_questions,
    ];
    assert_eq!((report.images, counts), (23, [72, 30, test.len()]));
    let mut ids = BTreeSet::new();
    for (name, is_number) in [
        ("train_balanced", true),
        ("val_all", true),
        ("testdev_all", false),
    ] {
        for (id, question) in of(name) {
            assert!(id.len() == 8 && ids.insert(id.clone()), "{id}");
            let image = question["imageId"].as_str().unwrap();
            assert_eq!(!image.starts_with('n'), is_number);
            for folder in ["gqa-frcn", "gqa-grid"] {
                let features = format!("gqa_extract/{folder}/{image}.npz");
                assert!(root.path().join(features).is_file());
            }
            let answer = question["answer"].as_str().unwrap();
            assert_eq!(
                question["fullAnswer"].as_str().unwrap().to_lowercase(),
                format!("{answer}.")
            );
            for key in ["detailed", "semantic", "structural"] {
                assert!(question["types"][key].is_string(), "{question}");
            }
            assert!(question["isBalanced"].is_boolean() && question["groups"]["local"].is_string());
            assert_eq!(question["entailed"][0], Value::from(id));
            for (step, node) in question["semantic"].as_array().unwrap().iter().enumerate() {
                assert!(node["operation"].is_string() && node["argument"].is_string());
                let mut inputs = node["dependencies"].as_array().unwrap().iter();
                assert!(
                    inputs.all(|input| input.as_u64().unwrap() < step as u64),
                    "{question}"
                );
            }
        }
    }
    assert!(ids.iter().any(|id| id.starts_with('0')));
    assert!(test.keys().all(|id| ids.insert(id.clone())));
    let keys = |question: &Value| question.as_object().unwrap().len();
    assert!(test.values().all(|question| keys(question) == 3));
}

#[test]
fn balanced_files_are_a_part_of_all_and_entailed_questions_and_choices_exist() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &SMALL).unwrap();
    for split in ["val", "testdev"] {
        let all = read(root.path(), &format!("questions1.2/{split}_all_questions"));
        let balanced = read(
            root.path(),
            &format!("questions1.2/{split}_balanced_questions"),
        );
        let marked = all
            .iter()
            .filter(|(_, question)| question["isBalanced"] == Value::Bool(true));
        assert!(marked.eq(balanced.iter()));
        assert!(balanced.len() < all.len());
        for question in all.values() {
            let mut entailed = question["entailed"].as_array().unwrap().iter();
            assert!(entailed.all(|id| all.contains_key(id.as_str().unwrap())));
        }
    }
    let all = read(root.path(), "questions1.2/val_all_questions");
    let choices = read(root.path(), "eval/val_choices");
    assert!(all.keys().eq(choices.keys()));
    for (id, choice) in &choices {
        let (valid, plausible) = (&choice["valid"], &choice["plausible"]);
        assert!(
            valid.as_array().unwrap().contains(&all[id]["answer"]),
            "{id}"
        );
        let mut plausible = plausible.as_array().unwrap().iter();
        assert!(plausible.all(|answer| valid.as_array().unwrap().contains(answer)));
    }
}

#[test]
fn features_are_stored_with_the_regions_as_rows() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &SMALL).unwrap();
    let open = |folder: &str| {
        let path = root
            .path()
            .join(format!("gqa_extract/{folder}/2300034.npz"));
        ZipArchive::new(File::open(path).unwrap()).unwrap()
    };
    let mut regions = open("gqa-frcn");
    let compression = regions.by_name("x.npy").unwrap().compression();
    assert_eq!(compression, CompressionMethod::Stored);
    let x = Array2::<f32>::read_npy(regions.by_name("x.npy").unwrap()).unwrap();
    let boxes = Array2::<f32>::read_npy(regions.by_name("bbox.npy").unwrap()).unwrap();
    assert_eq!((x.ncols(), boxes.ncols()), (REGION_WIDTH, 4));
    assert_eq!(x.nrows(), boxes.nrows());
    let mut number = |name| {
        let array = regions.by_name(name).unwrap();
        Array0::<i64>::read_npy(array).unwrap().into_scalar()
    };
    assert_eq!((number("width.npy"), number("height.npy")), (640, 480));
    let x = Array2::<f32>::read_npy(open("gqa-grid").by_name("x.npy").unwrap()).unwrap();
    assert_eq!(x.shape(), [CELLS, CELL_WIDTH]);
    assert!(!x.is_standard_layout());
}

#[test]
fn every_kind_of_question_occurs_and_no_answer_dominates() {
    let mut random = random(2, 0);
    let mut counts: BTreeMap<_, BTreeMap<&str, usize>> = BTreeMap::new();
    for _ in 0..30_000 {
        let scene = Scene::draw(&mut random);
        let mut asker = Asker {
            scene: &scene,
            random: &mut random,
        };
        let (question, entailed) = asker.ask();
        for entailed in entailed {
            assert_ne!(entailed.types[0], "query");
        }
        let answers = counts
            .entry((question.types[2], question.global))
            .or_default();
        *answers.entry(question.answer).or_default() += 1;
    }
    // Of the nine detailed types, categoryThis has a group for each of three categories.
    assert_eq!(counts.len(), 11, "{:?}", counts.keys());
    for (kind, answers) in counts {
        let (total, most) = (
            answers.values().sum::<usize>(),
            answers.values().max().unwrap(),
        );
        let (share, fair) = (*most as f64 / total as f64, 1.0 / answers.len() as f64);
        assert!(share < fair + 0.1, "{kind:?}: {answers:?}");
    }
}
