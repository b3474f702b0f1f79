//! Files of both formats that are damaged or of another format.

use super::*;
use crate::formats::pickle;
use proptest::prelude::*;

/// The first three pickles of the older format.
const MAGIC: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fn error_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pkl");
    std::fs::write(&path, bytes).unwrap();
    format!("{:#}", Archive::open(&path).err().unwrap())
}

fn assert_says(message: &str, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn a_file_of_another_format_is_named() {
    assert_says(&error_of(b"hello, world\n"), &["neither a zip archive nor"]);
    assert_says(
        &error_of(b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}}.."),
        &["safetensors"],
    );
    assert_says(&error_of(b"PK\x03\x04 and no more"), &["zip directory"]);
    assert_says(&error_of(b"\x80\x02K\x01."), &["not one of torch.save"]);
}

#[test]
fn tensors_beyond_their_storage_or_the_file_are_refused() {
    let tensor = |numel: &[u8], offset: &[u8], shape: &[u8], stride: &[u8]| {
        let storage = [
            b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu",
            numel,
            b"tQ",
        ]
        .concat();
        let rebuild: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n";
        let storage_list = b"\x80\x02](X\x01\0\0\x000e.\x02\0\0\0\0\0\0\0\0\0\x80?\0\0\0@";
        [
            MAGIC,
            rebuild,
            &storage,
            offset,
            shape,
            stride,
            b"\x89}tR.",
            storage_list,
        ]
        .concat()
    };
    let folder = tempfile::tempdir().unwrap();
    let open = |bytes: &[u8]| {
        let path = folder.path().join("file.pkl");
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::open(&path)?;
        let Value::Tensor(view) = &archive.value else {
            panic!("no tensor")
        };
        archive.elements(view).map(<[u8]>::to_vec)
    };
    let numbers = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
    for (shape, stride) in [
        (&b"K\x02\x85"[..], &b"K\x01\x85"[..]),
        (b"K\x01K\x02\x86", b"K\x07K\x01\x86"),
    ] {
        let sound = tensor(b"K\x02", b"K\x00", shape, stride);
        assert_eq!(open(&sound).unwrap(), numbers);
    }
    for (numel, offset, shape, stride, words) in [
        (
            &b"K\x02"[..],
            &b"K\x01"[..],
            &b"K\x02\x85"[..],
            &b"K\x01\x85"[..],
            "reaches beyond",
        ),
        (
            b"K\x02",
            b"K\x00",
            b"K\x02\x85",
            b"J\xff\xff\xff\xff\x85",
            "impossible",
        ),
        (
            b"K\x02",
            b"K\x00",
            b"J\xff\xff\xff\xff\x85",
            b"K\x01\x85",
            "impossible",
        ),
        (
            b"K\x02",
            b"K\x00",
            b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86",
            b"K\x00K\x00\x86",
            "more elements than the file",
        ),
        (b"K\x02", b"K\x00", b"K\x02\x85", b")", "impossible"),
        (b"K\x09", b"K\x00", b"K\x09\x85", b"K\x01\x85", "too few"),
    ] {
        let message = format!(
            "{:#}",
            open(&tensor(numel, offset, shape, stride)).unwrap_err()
        );
        assert_says(&message, &[words]);
    }
}

fn read_all(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    if let Ok(archive) = Archive::open(path) {
        let mut found = Vec::new();
        tensors(&archive.value, &mut found);
        for view in found {
            if archive.elements(&view).is_ok() {
                let numel = view.numel().unwrap() as u64;
                assert!(numel <= bytes.len() as u64 * MAX_EXPANSION);
            }
        }
    }
}

fn tensors(value: &Value, found: &mut Vec<Arc<TensorView>>) {
    match value {
        Value::Tensor(view) => found.push(view.clone()),
        Value::List(items) | Value::Tuple(items) => {
            items.iter().for_each(|item| tensors(item, found))
        }
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            entries.iter().for_each(|(key, value)| {
                tensors(key, found);
                tensors(value, found);
            })
        }
        _ => {}
    }
}

fn small_files() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints");
    ["small_zip.pkl", "small_legacy.pkl"]
        .iter()
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .collect()
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pkl");
    for bytes in small_files() {
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for length in (1..bytes.len()).rev() {
            file.set_len(length as u64).unwrap();
            let total = bytes.len();
            assert!(Archive::open(&path).is_err(), "{length} of {total} bytes");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_storage_of_a_zip_is_noticed() {
    let mut file = small_files().swap_remove(0);
    let at = file
        .windows(4)
        .position(|w| w == 2.0f32.to_le_bytes())
        .unwrap();
    file[at] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.pkl");
    std::fs::write(&path, file).unwrap();
    let archive = Archive::open(&path).unwrap();
    let mut found = Vec::new();
    tensors(&archive.value, &mut found);
    let errors = found.iter().filter_map(|view| archive.elements(view).err());
    let messages: Vec<String> = errors.map(|error| error.to_string()).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_says(&messages[0], &["checksum"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic(start in 0usize..4, rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let folder = tempfile::tempdir().unwrap();
        let start = [&b""[..], b"PK\x03\x04", b"\x80\x02", MAGIC][start];
        read_all(&folder.path().join("any.pkl"), &[start, &rest].concat());
    }

    #[test]
    fn mutated_files_never_panic(
        which in 0usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = small_files().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        read_all(&folder.path().join("mutated.pkl"), &file);
    }

    #[test]
    fn mutated_pickles_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let file = small_files().swap_remove(1);
        let mut pickle = file[MAGIC.len()..].to_vec();
        for (at, byte) in changes {
            let at = at.index(pickle.len());
            pickle[at] = byte;
        }
        let _ = pickle::read(&pickle);
    }
}
