//! What a file is, told by its first bytes: browsers, servers and users give files names that say something else.

/// How many first bytes of a file [`looks_like`] needs.
pub const BYTES: usize = 512;

/// What a file that begins with `start` looks like, as in "it is a web page"; `None` if nothing is recognised.
pub fn looks_like(start: &[u8]) -> Option<&'static str> {
    const SIGNS: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "a zip archive"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"BZh", "compressed with bzip2"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!", "a RAR archive"),
        (b"\x93NUMPY", "a NumPy array (.npy)"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\xba\x16\x4f\x2f", "a binary model of fastText"),
        (
            b"version https://git-lfs",
            "a pointer of Git LFS, not the file itself (git lfs pull fetches it)",
        ),
        (b"\xff\xfe\0\0", "text in UTF-32; save it in UTF-8"),
        (b"\0\0\xfe\xff", "text in UTF-32; save it in UTF-8"),
        (b"\xff\xfe", "text in UTF-16; save it in UTF-8"),
        (b"\xfe\xff", "text in UTF-16; save it in UTF-8"),
        (b"%PDF", "a PDF"),
        (b"\x89PNG", "a picture"),
        (b"\xff\xd8\xff", "a picture"),
        (b"\x7fELF", "a program"),
    ];
    if start.is_empty() {
        return Some("empty");
    }
    if is_tar(start) {
        return Some("a tar archive");
    }
    if is_web_page(start) {
        return Some("a web page; the download has failed, fetch it again");
    }
    let found = SIGNS.iter().find(|(sign, _)| start.starts_with(sign));
    found.map(|(_, text)| *text)
}

/// Whether `start` is the start of a tar archive: its first header has the mark of POSIX, or, as the oldest programs write
/// it, only the right checksum.
pub fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar") || start.get(..BYTES).is_some_and(has_tar_checksum)
}

/// Whether a block has its checksum where the header of a tar archive has it: the sum of its bytes in octal digits, made
/// with spaces in the place of the checksum itself.
fn has_tar_checksum(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let text = block[CHECKSUM].split(|byte| b" \0".contains(byte));
    let digits = text.filter(|digits| !digits.is_empty()).take(1);
    let stored =
        digits.map(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
    let others = block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]);
    let sum = others.map(|&byte| u32::from(byte)).sum::<u32>() + 8 * u32::from(b' ');
    stored.flatten().next() == Some(sum)
}

/// Whether `start` is the start of a web page or of another XML file.
fn is_web_page(start: &[u8]) -> bool {
    let text = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    let tags = ["<!doctype", "<html", "<head", "<?xml", "<error"];
    tags.iter().any(|tag| {
        let begins = text.get(..tag.len());
        begins.is_some_and(|begins| begins.eq_ignore_ascii_case(tag.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_content() {
        let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
        // As 7th Edition Unix, and some libraries today, write it.
        let mut header = tar::Header::new_old();
        header.set_path("12.npz").unwrap();
        header.set_cksum();
        let old_tar = header.as_bytes();
        for (start, expected) in [
            (&b""[..], "empty"),
            (b"\n <!DOCTYPE HTML><html>", "a web page"),
            (b"<Error><Code>AccessDenied", "a web page"),
            (b"PK\x03\x04rest", "a zip archive"),
            (b"\x1f\x8b\x08", "compressed with gzip"),
            (
                b"version https://git-lfs.github.com/spec/v1",
                "a pointer of Git LFS",
            ),
            (&tar, "a tar archive"),
            (old_tar, "a tar archive"),
            (b"\xff\xfe[\0", "text in UTF-16"),
            (b"\xff\xfe\0\0[\0\0\0", "text in UTF-32"),
        ] {
            let found = looks_like(start).unwrap();
            assert!(found.starts_with(expected), "{start:?}: {found}");
        }
        assert_eq!(looks_like(b"the 0.1 0.2"), None);
        assert_eq!(looks_like(&[b' '; BYTES]), None);
        assert_eq!(looks_like(&[b'7'; BYTES]), None);
        assert_eq!(looks_like(b"{\"questions\": []}"), None);
    }
}
