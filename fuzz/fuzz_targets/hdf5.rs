#![no_main]

use libfuzzer_sys::fuzz_target;
use mcan_data::data::features::FileNames;
use mcan_data::data::pack::{PackOptions, pack};
use mcan_data::data::source::Layout;
use mcan_data::data::streams::StreamKind;
use mcan_data::datasets::gqa::Published;
use mcan_data::formats::bank::{Bank, Dtype, ImageKey};

const FEATURE_SIZE: usize = 4;
const INFO: &[u8] = br#"{"n1": {"file": 0, "idx": 1, "objectsNum": 6, "width": 640, "height": 480},
    "7": {"file": 0, "idx": 0, "objectsNum": 2, "width": 640, "height": 480}}"#;
const NAMES: FileNames = FileNames {
    image: |name| Some(ImageKey::Text(name.to_owned())),
    expected: "<image id>.npz",
    split: None,
    rows_first: true,
};

// The input is one of GQA's published files of features, beside a sound file of its images.
fuzz_target!(|bytes: &[u8]| {
    for (kind, name) in [
        (StreamKind::Regions, "objects"),
        (StreamKind::Grid, "spatial"),
    ] {
        mcan_fuzz::file(&format!("gqa_{name}_info.json"), INFO);
        mcan_fuzz::file(&format!("gqa_{name}_0.h5"), bytes);
        let target = mcan_fuzz::folder().join("features.safetensors");
        let layout = Layout {
            kind,
            names: NAMES,
            feature_size: FEATURE_SIZE,
        };
        for skip_bad in [false, true] {
            let Ok(mut images) = Published::open(mcan_fuzz::folder(), layout, skip_bad) else {
                continue;
            };
            let options = PackOptions {
                kind,
                dtype: Dtype::F16,
                feature_size: FEATURE_SIZE,
                skip_bad,
            };
            let packed = pack(mcan_fuzz::folder(), &mut images, &target, options, &|_| {
                Ok(())
            });
            if let Ok(report) = packed {
                let bank =
                    Bank::open(&target, kind.array(), FEATURE_SIZE).expect("what was packed");
                assert_eq!(bank.keys().len(), report.images);
                assert!(skip_bad || report.images == 2);
            }
        }
    }
});
