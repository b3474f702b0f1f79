use super::world::{BACKGROUNDS, CELL_WIDTH, CELLS, Group, Painter, REGION_WIDTH, Scene};
use super::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

pub(super) const SMALL: DemoOptions = DemoOptions {
    seed: 5,
    train_images: 12,
    val_images: 5,
    test_images: 3,
};

pub(super) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The content of every file below `folder`, by path relative to `root`.
fn contents(root: &Path, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut contents(root, &path));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    found
}

#[test]
fn the_same_seed_gives_the_same_files_and_another_seed_gives_others() {
    for set in SETS {
        let written = |seed| {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), set.dataset, &DemoOptions { seed, ..SMALL }).unwrap();
            contents(root.path(), root.path())
        };
        let (first, other) = (written(5), written(6));
        assert!(first == written(5), "{}", set.dataset);
        assert!(first.keys().eq(other.keys()));
        let mut same = first.keys().filter(|path| first[*path] == other[*path]);
        let expected = (set.dataset == "vqa").then_some(Path::new("vqa/answer_dict.json"));
        assert_eq!(same.next().map(PathBuf::as_path), expected);
        assert_eq!(same.next(), None);
    }
}

#[test]
fn every_feature_folder_has_files() {
    for set in SETS {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), set.dataset, &SMALL).unwrap();
        for folder in set.feature_folders {
            let folder = root.path().join(set.features).join(folder);
            assert!(fs::read_dir(&folder).unwrap().count() > 0, "{folder:?}");
        }
        assert!(root.path().join(set.questions).is_dir());
    }
}

#[test]
fn every_data_set_has_a_demo_and_another_name_is_an_error() {
    assert!(
        crate::datasets::BENCHMARKS
            .iter()
            .all(|set| find(set.name()).is_ok())
    );
    let message = find("okvqa").err().unwrap().to_string();
    assert!(
        message.contains("okvqa") && message.contains("vqa, gqa, clevr"),
        "{message}"
    );
}

/// The groups that `features` show: for each row, the thing or background with the nearest prototypes.
fn look(painter: &Painter, features: &[f32]) -> Vec<Group> {
    let mut groups: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for feature in features.chunks(painter.width) {
        let distance = |looks: &[&Vec<i32>]| -> f32 {
            let at =
                |i: usize| looks.iter().map(|prototype| prototype[i]).sum::<i32>() as f32 / 8.0;
            feature
                .iter()
                .enumerate()
                .map(|(i, value)| (value - at(i)).powi(2))
                .sum()
        };
        let background = painter
            .backgrounds
            .iter()
            .map(|look| distance(&[look]))
            .fold(f32::INFINITY, f32::min);
        let mut nearest = (background, None);
        for (object, thing) in painter.objects.iter().enumerate() {
            for (color, hue) in painter.colors.iter().enumerate() {
                for place in &painter.places {
                    let here = distance(&[thing, hue, place]);
                    if here < nearest.0 {
                        nearest = (here, Some((object, color)));
                    }
                }
            }
        }
        if let Some(thing) = nearest.1 {
            *groups.entry(thing).or_default() += 1;
        }
    }
    groups
        .into_iter()
        .map(|((object, color), count)| Group {
            object,
            color,
            count,
        })
        .collect()
}

#[test]
fn regions_and_grid_each_determine_the_scene() {
    let mut random = random(1, 0);
    let painters = [REGION_WIDTH, CELL_WIDTH].map(|width| Painter::new(width, &mut random));
    assert_eq!(painters[0].backgrounds.len(), BACKGROUNDS);
    for _ in 0..4 {
        let mut scene = Scene::draw(&mut random);
        let regions = painters[0].regions(&scene, &mut random);
        let grid = painters[1].grid(&scene, &mut random);
        assert_eq!(grid.len(), CELLS * CELL_WIDTH);
        scene.groups.sort_by_key(|group| group.object);
        assert_eq!(look(&painters[0], &regions.features), scene.groups);
        assert_eq!(look(&painters[1], &grid), scene.groups);
    }
}

#[test]
fn a_data_set_without_images_or_with_too_many_is_an_error_with_the_split() {
    let root = tempfile::tempdir().unwrap();
    for (set, val_images) in SETS.into_iter().zip([0, MAX_IMAGES + 1, 0]) {
        let options = DemoOptions {
            val_images,
            ..SMALL
        };
        let refused = write(root.path(), set.dataset, &options).unwrap_err();
        assert!(refused.to_string().contains("val images"), "{refused}");
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
