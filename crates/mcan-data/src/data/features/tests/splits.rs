//! Images whose ids start anew in each split.

use super::*;

/// Image 7 of train and image 7 of val, in these folders of train and val.
fn open_both(folders: [&Path; 2]) -> Features {
    let place = |(folder, split): (&Path, &'static str)| FeaturePlace {
        folder: folder.to_owned(),
        split,
        names: FEATURE_FILES,
    };
    let places: Vec<FeaturePlace> = folders
        .into_iter()
        .zip(["train", "val"])
        .map(place)
        .collect();
    let spec = StreamSpec {
        padded_to: 100,
        width: 4,
        boxes: None,
    };
    let ids = [7, 7].map(ImageId::from).into();
    let splits = [Some("train"), Some("val")];
    Features::open(&places, StreamKind::Regions, spec, ids, &splits).unwrap()
}

fn row_counts(features: &Features) -> [usize; 2] {
    [0, 1].map(|image| f32s(features, image).len() / 4)
}

#[test]
fn an_image_is_that_of_its_own_split_in_banks_folders_and_files_beside_a_bank() {
    let root = tempfile::tempdir().unwrap();
    let [train, val] = ["train2014", "val2014"].map(|name| root.path().join(name));
    write_image(&train, 7, 1);
    write_image(&val, 8, 1);
    // Only train has an image of this number.
    assert_eq!(row_counts(&open_both([&train, &val])), [1, 1]);
    pack_folder(&val, Dtype::F32);
    assert_eq!(row_counts(&open_both([&train, &val])), [1, 1]);
    // The file comes after the bank was packed. Of its three rows one is all zeros.
    write_image(&val, 7, 3);
    assert_eq!(row_counts(&open_both([&train, &val])), [1, 2]);
    pack_folder(&train, Dtype::F32);
    assert_eq!(row_counts(&open_both([&train, &val])), [1, 2]);
    fs::remove_file(bank_path(&val)).unwrap();
    assert_eq!(row_counts(&open_both([&train, &val])), [1, 2]);
}
