use super::*;
use crate::data::features::tests::{open_named, rows, shared, write_image};
use crate::data::features::{FileNames, bank_path, image_number};
use crate::data::source::{FileSource, Layout};
use crate::data::{ImageId, Values};
use crate::datasets::vqa2::FEATURE_FILES;
use crate::formats::bank::tests::{all_rows, numbers, open};
use crate::formats::bank::{Array, Bank};
use crate::formats::npz;
use crate::formats::npz::testing::feature_file;
use flate2::{Compression, write::GzEncoder};
use half::f16;
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype as Stored;
use std::fs;
use std::io::Write;

const OPTIONS: PackOptions = PackOptions {
    kind: StreamKind::Regions,
    dtype: Dtype::F32,
    feature_size: 4,
    skip_bad: false,
};

fn pack_files(
    source: &Path,
    target: &Path,
    options: PackOptions,
    progress: &dyn Fn(usize) -> Result<()>,
) -> Result<Report> {
    pack_named(source, FEATURE_FILES, target, options, progress)
}

fn pack_named(
    source: &Path,
    names: FileNames,
    target: &Path,
    options: PackOptions,
    progress: &dyn Fn(usize) -> Result<()>,
) -> Result<Report> {
    let layout = Layout {
        kind: options.kind,
        names,
        feature_size: options.feature_size,
    };
    let mut images = FileSource::open(source, layout).unwrap();
    pack(source, &mut images, target, options, progress)
}

fn name(image_id: u64) -> String {
    format!("train2014/COCO_train2014_{image_id:012}.jpg.npz")
}

fn tar_gz(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.append_dir("train2014/", ".").unwrap();
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // The name is written directly, because the library refuses names that lead out of the folder.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// Images 1 to `n`, image i having i regions.
fn members(n: u64) -> Vec<(String, Vec<u8>)> {
    let file = |id: u64| {
        feature_file(
            &rows(id, id as usize),
            4,
            id.is_multiple_of(2),
            id.is_multiple_of(3),
        )
    };
    (1..=n).map(|id| (name(id), file(id))).collect()
}

fn pack_archive(archive: &[u8], options: PackOptions) -> Result<(Report, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("train2014.tar.gz");
    let target = folder.path().join("train2014.safetensors");
    fs::write(&source, archive).unwrap();
    fs::write(&target, "the bank of before").unwrap();
    let report = pack_files(&source, &target, options, &|_| Ok(()));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "only the archive and the bank are there"
    );
    let written = fs::read(&target).unwrap();
    if report.is_err() {
        assert_eq!(written, b"the bank of before");
    }
    Ok((report?, written))
}

fn error(archive: &[u8], options: PackOptions) -> String {
    format!("{:#}", pack_archive(archive, options).unwrap_err())
}

#[test]
fn an_archive_and_its_folder_make_the_same_bank_with_every_region() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("val2014");
    let n = 150;
    (1..=n).for_each(|id| write_image(&images, id, id as usize));
    let target = folder.path().join("val2014.safetensors");
    let progress = std::cell::RefCell::new(Vec::new());
    let report = pack_files(&images, &target, OPTIONS, &|done| {
        progress.borrow_mut().push(done);
        Ok(())
    })
    .unwrap();
    assert_eq!((report.images, report.rows), (150, 150 * 151 / 2));
    assert!(progress.borrow().is_sorted() && progress.borrow().last() == Some(&150));
    let (again, bytes) = pack_archive(&tar_gz(&members(n)), OPTIONS).unwrap();
    assert_eq!(again, report);
    assert!(bytes == fs::read(target).unwrap());
    let expected: Vec<_> = (1..=n).map(|id| (id, rows(id, id as usize))).collect();
    assert_eq!(all_rows(&open(&bytes).unwrap()), expected);
    let bank = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(bank.tensor("bbox").unwrap().shape(), [report.rows, 4]);
    let wh: Vec<u8> = [640i32, 480].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(
        bank.tensor("image_wh")
            .unwrap()
            .data()
            .chunks(8)
            .all(|image| image == wh)
    );
}

#[test]
fn an_archive_keeps_its_order_and_only_the_file_name_counts() {
    let mut files = members(3);
    files.reverse();
    files[0].0 = "./some/where/COCO_train2014_000000000003.jpg.npz".into();
    files.push(("train2014/README".into(), b"hello".to_vec()));
    let (_, bytes) = pack_archive(&tar_gz(&files), OPTIONS).unwrap();
    assert_eq!(numbers(&open(&bytes).unwrap()), [3, 2, 1]);
}

/// Files named by a text, as GQA's would be.
const TEXTS: FileNames = FileNames {
    image: |name| Some(ImageKey::Text(name.to_owned())),
    expected: "<image id>.npz",
    split: None,
    rows_first: false,
};

#[test]
fn text_ids_are_packed_and_found_and_leading_zeros_keep_them_apart() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("images");
    fs::create_dir(&folder).unwrap();
    let names = ["n161313", "7", "07", "2354786"];
    for (image, name) in (1..).zip(names) {
        let file = feature_file(&rows(image, 1), 4, true, false);
        fs::write(folder.join(format!("{name}.npz")), file).unwrap();
    }
    let read = |folder: &Path| {
        let ids: Vec<ImageId> = names.into_iter().map(ImageId::from).collect();
        let features = open_named(&[folder.to_owned()], TEXTS, 4, 9, ids.into()).unwrap();
        let mut out = features.no_values(0);
        (0..names.len())
            .for_each(|image| assert_eq!(features.append(image, &mut out, None).unwrap(), 1));
        out
    };
    let expected = Values::F32((1..=4).flat_map(|image| rows(image, 1)).collect());
    assert_eq!(read(&folder), expected);
    let moved = root.path().join("packed");
    pack_named(&folder, TEXTS, &bank_path(&moved), OPTIONS, &|_| Ok(())).unwrap();
    assert_eq!(read(&moved), expected);

    let mixed = FileNames {
        image: |name| image_number(name).or_else(|| Some(ImageKey::Text(name.to_owned()))),
        ..TEXTS
    };
    fs::remove_file(folder.join("07.npz")).unwrap();
    let error = pack_named(&folder, mixed, &bank_path(&moved), OPTIONS, &|_| Ok(())).unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("image n161313 is a text"), "{message}");
}

#[test]
fn packing_in_f16_reports_the_largest_rounding() {
    let mut files = members(2);
    let values = [0.1, 1000.3, -65504.0, 6e-8];
    files.push((name(3), feature_file(&values, 4, true, true)));
    let options = PackOptions {
        dtype: Dtype::F16,
        ..OPTIONS
    };
    let (report, bytes) = pack_archive(&tar_gz(&files), options).unwrap();
    let (rounding, image) = report.largest_rounding.unwrap();
    assert_eq!(image, ImageKey::Number(3));
    assert!((0.1..=0.25).contains(&rounding), "{rounding}");
    let bank = open(&bytes).unwrap();
    for (read, exact) in all_rows(&bank)[2].1.iter().zip(values) {
        assert!(
            (read - exact).abs() <= exact.abs() / 2048.0 + 3e-8,
            "{read} {exact}"
        );
    }
    let mut out = Vec::new();
    bank.append_f16(1, 1, &mut out).unwrap();
    let rounded: Vec<f16> = rows(2, 1).into_iter().map(f16::from_f32).collect();
    assert_eq!(out, rounded);
    files.push((
        name(4),
        feature_file(&[0.0, 65505.0, 0.0, 0.0], 4, true, true),
    ));
    let message = error(&tar_gz(&files), options);
    assert!(
        message.contains("000000000004")
            && message.contains("65505")
            && message.contains("BANK_DTYPE=f32"),
        "{message}"
    );
    pack_archive(&tar_gz(&files), OPTIONS).unwrap();
}

#[test]
fn a_damaged_member_is_an_error_or_is_left_out_and_listed() {
    let mut files = members(100);
    let half = files[70].1.len() / 2;
    files[70].1.truncate(half);
    files[20].1 = feature_file(&[1.0, f32::NAN, 0.0, 0.0], 4, true, true);
    let archive = tar_gz(&files);
    let message = error(&archive, OPTIONS);
    assert!(
        message.contains("000000000021.jpg.npz") && message.contains("NaN"),
        "{message}"
    );
    assert!(message.contains("PACK_SKIP_BAD"), "{message}");
    let (report, bytes) = pack_archive(
        &archive,
        PackOptions {
            skip_bad: true,
            ..OPTIONS
        },
    )
    .unwrap();
    assert_eq!(report.images, 98);
    assert!(
        report.skipped[0].contains("000000000021") && report.skipped[1].contains("000000000071")
    );
    assert!(!numbers(&open(&bytes).unwrap()).contains(&71));
    let message = error(
        &tar_gz(&files[70..71]),
        PackOptions {
            skip_bad: true,
            ..OPTIONS
        },
    );
    assert!(message.contains("no usable"), "{message}");
}

#[test]
fn a_file_without_boxes_gets_boxes_of_zeros() {
    let x = npz::testing::npy(1, 64, &npz::testing::f4(true, "(4, 2)"), &[1; 32]);
    let file = npz::testing::zip(true, &[("x.npy", x)]);
    let (_, bytes) = pack_archive(&tar_gz(&[(name(1), file)]), OPTIONS).unwrap();
    let bank = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(bank.tensor("bbox").unwrap().data(), [0; 32]);
}

#[test]
fn damaged_and_dangerous_archives_are_errors() {
    let good = members(3);
    let with = |name: &str| {
        let mut files = good.clone();
        files[1].0 = name.into();
        tar_gz(&files)
    };
    let whole = tar_gz(&good);
    let mut flipped = whole.clone();
    let crc = flipped.len() - 6;
    flipped[crc] ^= 1;
    let link = |kind: tar::EntryType| {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive
            .append_link(&mut header, name(1), "/etc/passwd")
            .unwrap();
        archive.into_inner().unwrap().finish().unwrap()
    };
    for (archive, expected) in [
        (
            with("../COCO_train2014_000000000002.jpg.npz"),
            "outside of the archive's folder",
        ),
        (
            with("/tmp/COCO_train2014_000000000002.jpg.npz"),
            "outside of the archive's folder",
        ),
        (
            with("a/../../COCO_train2014_000000000002.jpg.npz"),
            "outside of the archive's folder",
        ),
        (
            with("other/COCO_train2014_000000000001.jpg.npz"),
            "are both image 1",
        ),
        (
            with("other/COCO_train2014_x.jpg.npz"),
            "no image id in its name",
        ),
        (
            with("other/COCO_train2014_18446744073709551615.npz"),
            "no image id in its name",
        ),
        (link(tar::EntryType::Symlink), "not a plain file"),
        (link(tar::EntryType::Link), "not a plain file"),
        (flipped, "cut short or damaged"),
        (whole[..whole.len() - 1].to_vec(), "cut short or damaged"),
        (whole[..whole.len() / 2].to_vec(), "cut short or damaged"),
        (Vec::new(), "it is empty"),
        (b"PK\x03\x04 is no tar.gz".to_vec(), "a zip archive"),
        (tar_gz(&[]), "no usable"),
    ] {
        for skip_bad in [false, true] {
            let message = error(
                &archive,
                PackOptions {
                    skip_bad,
                    ..OPTIONS
                },
            );
            assert!(
                message.contains(expected) && message.contains("train2014.tar.gz"),
                "{expected}: {message}"
            );
        }
    }
}

#[test]
fn an_odd_feature_size_leaves_the_arrays_aligned() {
    let values = [1.0, 2.0, 3.0];
    let archive = tar_gz(&[(name(1), feature_file(&values, 3, true, true))]);
    let (_, bytes) = pack_archive(
        &archive,
        PackOptions {
            dtype: Dtype::F16,
            feature_size: 3,
            ..OPTIONS
        },
    )
    .unwrap();
    let (header_bytes, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert!(
        header
            .tensors()
            .values()
            .filter(|t| t.dtype != Stored::U8)
            .all(|t| t.data_offsets.0 % 8 == 0)
    );
    assert_eq!((header_bytes + 8) % 8, 0);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &bytes).unwrap();
    assert_eq!(
        all_rows(&Bank::open(file.path(), Array::Regions, 3).unwrap()),
        [(1, values.to_vec())]
    );
}

#[test]
fn the_published_features_pack_within_f16_rounding() {
    let Some(folder) = shared("real/mini/datasets/coco_extract/train2014") else {
        return;
    };
    let target = tempfile::tempdir().unwrap();
    let made = |dtype| {
        let path = target.path().join(format!("{dtype:?}.safetensors"));
        let report = pack_files(
            &folder,
            &path,
            PackOptions {
                dtype,
                feature_size: 2048,
                ..OPTIONS
            },
            &|_| Ok(()),
        )
        .unwrap();
        assert_eq!((report.images, report.rows), (2, 60));
        all_rows(&Bank::open(&path, Array::Regions, 2048).unwrap())
    };
    for ((id, exact), (same, rounded)) in made(Dtype::F32).into_iter().zip(made(Dtype::F16)) {
        assert_eq!(id, same);
        assert!(
            exact
                .iter()
                .zip(rounded)
                .all(|(e, r)| (e - r).abs() <= e.abs() / 2048.0 + 3e-8)
        );
    }
}

proptest! {
    #[test]
    fn mutated_archives_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut archive = tar::Builder::new(Vec::new());
        let content = feature_file(&rows(2, 2), 4, true, false);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name(2), content.as_slice()).unwrap();
        let mut plain = archive.into_inner().unwrap();
        for (at, value) in &flips {
            *at.get_mut(&mut plain) = *value;
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::none());
        packed.write_all(&plain).unwrap();
        let _ = pack_archive(&packed.finish().unwrap(), OPTIONS);
    }
}
