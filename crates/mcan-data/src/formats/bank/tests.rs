use super::*;
use proptest::prelude::*;
use std::fs;

pub(crate) fn open(bytes: &[u8]) -> Result<Bank> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    Bank::open(file.path(), Array::Regions, 4)
}

pub(crate) fn numbers(bank: &Bank) -> Vec<u64> {
    let number = |key: &ImageKey| match key {
        ImageKey::Number(number) => *number,
        ImageKey::Text(text) => panic!("{text}"),
    };
    bank.keys().iter().map(number).collect()
}

pub(crate) fn all_rows(bank: &Bank) -> Vec<(u64, Vec<f32>)> {
    let read = |(index, id)| {
        let mut values = Vec::new();
        bank.append_f32(index, usize::MAX, &mut values).unwrap();
        (id, values)
    };
    numbers(bank).into_iter().enumerate().map(read).collect()
}

/// A bank made with the safetensors library from the arrays given.
fn bank(rows: usize, columns: usize, offset: &[i64], image_id: &[i64]) -> Vec<u8> {
    let x = vec![0; rows * columns * 4];
    let integers = |values: &[i64]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let (offset_bytes, id_bytes) = (integers(offset), integers(image_id));
    let view =
        |dtype, shape, data| safetensors::tensor::TensorView::new(dtype, shape, data).unwrap();
    let arrays = [
        ("x", view(Stored::F32, vec![rows, columns], &x)),
        (
            "offset",
            view(Stored::I64, vec![offset.len()], &offset_bytes),
        ),
        (
            "image_id",
            view(Stored::I64, vec![image_id.len()], &id_bytes),
        ),
    ];
    safetensors::serialize(arrays, None).unwrap()
}

#[test]
fn banks_that_do_not_add_up_are_refused() {
    let good = bank(3, 4, &[0, 2, 3], &[5, 9]);
    assert_eq!(numbers(&open(&good).unwrap()), [5, 9]);
    for (bytes, expected) in [
        (Vec::new(), "bank"),
        (good[..good.len() - 1].to_vec(), "bank"),
        ([good.as_slice(), &[0]].concat(), "bank"),
        (
            bank(3, 5, &[0, 2, 3], &[5, 9]),
            "but IMG_FEAT_SIZE (FEAT_SIZE for a model of OpenVQA) is 4",
        ),
        (bank(3, 4, &[0, 2, 4], &[5, 9]), "does not divide"),
        (bank(3, 4, &[0, 4, 3], &[5, 9]), "does not divide"),
        (bank(3, 4, &[1, 2, 3], &[5, 9]), "does not divide"),
        (bank(3, 4, &[0, 3], &[5, 9]), "does not divide"),
        (bank(3, 4, &[], &[]), "does not divide"),
        (bank(3, 4, &[0, -2, 3], &[5, 9]), "negative"),
        (bank(3, 4, &[0, 2, 3], &[5, 5]), "image 5 twice"),
    ] {
        let message = format!("{:#}", open(&bytes).err().unwrap());
        assert!(
            message.contains(expected) && message.contains("--RUN=pack"),
            "{expected}: {message}"
        );
    }
    let bank = open(&good).unwrap();
    assert!(bank.append_f32(2, 100, &mut Vec::new()).is_err());
    assert!(bank.append_f16(0, 100, &mut Vec::new()).is_err());
}

#[test]
fn a_bank_of_a_later_version_is_refused_by_name() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let id = 7i64.to_le_bytes();
    let offset: Vec<u8> = [0i64, 1].iter().flat_map(|v| v.to_le_bytes()).collect();
    let x = [0; 16];
    let view =
        |dtype, shape, data| safetensors::tensor::TensorView::new(dtype, shape, data).unwrap();
    for (version, reason) in [
        ("1", None),
        ("2", None),
        ("3", Some("version 3")),
        ("x", Some("no number")),
    ] {
        let arrays = [
            ("x", view(Stored::F32, vec![1, 4], &x[..])),
            ("offset", view(Stored::I64, vec![2], &offset)),
            ("image_id", view(Stored::I64, vec![1], &id)),
        ];
        let metadata = [("version".to_owned(), version.to_owned())].into();
        let bytes = safetensors::serialize(arrays, Some(metadata)).unwrap();
        fs::write(path.path(), bytes).unwrap();
        let message = Bank::open(path.path(), Array::Regions, 4)
            .err()
            .map(|e| format!("{e:#}"));
        match reason {
            None => assert_eq!(message, None),
            Some(reason) => assert!(message.unwrap().contains(reason), "{version}"),
        }
    }
}

#[test]
fn a_bank_with_texts_and_cells_comes_back() {
    let mut file = std::io::Cursor::new(Vec::new());
    let mut bank = Writer::new(&mut file, Array::Grid, Dtype::F32, 2).unwrap();
    let values = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]];
    let keys = ["n07", "08"].map(|text| ImageKey::Text(text.to_owned()));
    for (key, values) in keys.iter().zip(&values) {
        let features = Encoded::new(values, 2, Dtype::F32).unwrap();
        bank.push(key, &features, None, Some((640, 480))).unwrap();
    }
    let features = Encoded::new(&values[0], 2, Dtype::F32).unwrap();
    let number = bank.push(&ImageKey::Number(8), &features, None, None);
    assert!(number.unwrap_err().to_string().contains("image 8"));
    bank.finish().unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), file.into_inner()).unwrap();
    let bank = Bank::open(path.path(), Array::Grid, 2).unwrap();
    assert_eq!(bank.keys(), keys);
    let mut read = Vec::new();
    bank.append_f32(1, 9, &mut read).unwrap();
    assert_eq!(read, values[1]);
    assert_eq!(
        (bank.boxes(0, 9).unwrap(), bank.image_size(1)),
        (None, Some((640, 480)))
    );
    let message = format!(
        "{:#}",
        Bank::open(path.path(), Array::Regions, 2).err().unwrap()
    );
    assert!(message.contains("no array x"), "{message}");
    let narrow = Bank::open(path.path(), Array::Grid, 3).err().unwrap();
    let expected = "its grid cells have 2 values, but the width in GRID_FEAT_SIZE is 3";
    assert!(format!("{narrow:#}").contains(expected), "{narrow:#}");
}

proptest! {
    #[test]
    fn mutated_banks_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = bank(3, 4, &[0, 2, 3], &[5, 9]);
        for (at, value) in &flips {
            *at.get_mut(&mut bytes) = *value;
        }
        if let Ok(bank) = open(&bytes) {
            all_rows(&bank);
        }
    }
}

#[test]
fn images_go_into_their_rooms_in_any_order() {
    let keys = [3, 7, 9].map(ImageKey::Number);
    let values = |image: usize| vec![image as f32; 4 * image];
    let order: Vec<_> = keys.iter().cloned().zip(0..).collect();
    let written = |images: &[usize], rooms: Option<&[(ImageKey, usize)]>| {
        let mut file = std::io::Cursor::new(Vec::new());
        let mut bank = Writer::new(&mut file, Array::Regions, Dtype::F32, 4)?;
        rooms.map_or(Ok(()), |rooms| bank.reserve(rooms))?;
        for &image in images {
            let features = Encoded::new(&values(image), 4, Dtype::F32)?;
            let size = (640, image as i32);
            bank.push(&keys[image], &features, Some(&values(image)), Some(size))?;
        }
        bank.finish()?;
        anyhow::Ok(file.into_inner())
    };
    let in_order = written(&[0, 1, 2], None).unwrap();
    assert!(written(&[2, 0, 1], Some(&order)).unwrap() == in_order);
    let error = |images: &[usize]| written(images, Some(&order)).unwrap_err().to_string();
    assert_eq!(error(&[0, 2]), "image 7 is missing");
    assert_eq!(error(&[0, 1, 1]), "no room was left for image 7");
    let narrow: Vec<_> = keys.iter().cloned().zip([0, 2, 2]).collect();
    let error = written(&[1], Some(&narrow)).unwrap_err().to_string();
    assert_eq!(error, "no room was left for image 7");
}
