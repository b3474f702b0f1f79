//! Files by hand: sound ones, and such as claim what they do not hold.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Cursor, Write};
use std::sync::LazyLock;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Ten to the fifteenth, as elements or bytes: more than any machine has.
pub const ABSURD: u64 = 1_000_000_000_000_000;

/// A `.npy` array of version 1.0 with this header.
pub fn npy_of(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len() + 1).unwrap().to_le_bytes();
    [
        b"\x93NUMPY\x01\x00",
        &length[..],
        header.as_bytes(),
        b"\n",
        data,
    ]
    .concat()
}

/// A `.npy` array in C order; `shape` as Python writes it.
pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy_of(
        &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"),
        data,
    )
}

/// As many little-endian float32 of one value.
pub fn floats(value: f32, count: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(count)
}

/// A deflated zip archive.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip_as(CompressionMethod::Deflated, members)
}

/// A zip archive of either method.
pub fn zip_as(method: CompressionMethod, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        let level = (method == CompressionMethod::Deflated).then_some(1);
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .compression_level(level);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The same with a number of the first directory entry replaced: its field at `offset` (APPNOTE.TXT, 4.3.12).
pub fn with_directory_field(zip: &[u8], offset: usize, field: &[u8]) -> Vec<u8> {
    let mut zip = zip.to_vec();
    let entry = zip
        .windows(4)
        .position(|bytes| bytes == b"PK\x01\x02")
        .unwrap();
    zip[entry + offset..entry + offset + field.len()].copy_from_slice(field);
    zip
}

/// Claims that the first member is this long.
pub fn with_size(zip: &[u8], bytes: u32) -> Vec<u8> {
    with_directory_field(zip, 24, &bytes.to_le_bytes())
}

/// A zip archive whose end record (zip64) claims this many members, which take no byte.
pub fn zip_of_members(count: u64, padding: usize) -> Vec<u8> {
    let mut zip = [b"PK\x03\x04", &vec![0; padding][..]].concat();
    let (directory, number) = ((zip.len() as u64).to_le_bytes(), count.to_le_bytes());
    let end64 = [
        &b"PK\x06\x06"[..],
        &44u64.to_le_bytes(),
        &[45, 0, 45, 0],
        &[0; 8],
        &number,
        &number,
        &[0; 8],
        &directory,
    ];
    let locator = [&b"PK\x06\x07"[..], &[0; 4], &directory, &[1, 0, 0, 0]];
    let end = [
        &b"PK\x05\x06"[..],
        &[0; 4],
        &[0xff; 4],
        &[0; 4],
        &[0xff; 4],
        &[0; 2],
    ];
    [end64.concat(), locator.concat(), end.concat()]
        .iter()
        .for_each(|record| zip.extend(record));
    zip
}

/// Gzip.
pub fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Gzip of a gigabyte of zeros behind `start`. (Several gzip files in a row are one.)
pub fn gz_bomb(start: &[u8]) -> Vec<u8> {
    static SIXTEENTH: LazyLock<Vec<u8>> = LazyLock::new(|| gz(&vec![0; 1 << 26]));
    [gz(start), SIXTEENTH.repeat(16)].concat()
}

/// A member of a tar archive: header and padded content.
pub fn member(name: &str, kind: tar::EntryType, claims: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(claims);
    header.set_cksum();
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [header.as_bytes(), content, &padding].concat()
}

/// A plain file in a tar archive.
pub fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(name, tar::EntryType::Regular, content.len() as u64, content)
}

/// Members, and the archive's end.
pub fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

/// JSON or pickle nested this deep.
pub fn nested(open: &str, inside: &str, close: &str, depth: usize) -> Vec<u8> {
    [open.repeat(depth), inside.into(), close.repeat(depth)]
        .concat()
        .into_bytes()
}

/// The first place of `old` replaced by `new`, which is as long.
pub fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes
        .windows(old.len())
        .position(|window| window == old)
        .expect("the piece to replace");
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}
