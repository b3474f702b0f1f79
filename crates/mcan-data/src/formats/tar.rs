//! Reads the members of tar archives, with limits that the `tar` crate lacks.
//!
//! A long name does not fit the header of a member. It is the content of an extra member before it, in GNU's or POSIX's
//! form. A few bytes of gzip could make such a name gigabytes long, so this module reads names itself, up to a limit.

use anyhow::{Context, Result, ensure};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entries, Entry, EntryType, PaxExtensions};

/// Bytes that the name or the attributes of a member may have.
const MAX_NAME_BYTES: u64 = 1 << 20;

/// One member of an archive.
pub(crate) struct Member<'a, R: Read> {
    /// The full name.
    pub path: PathBuf,
    /// The header and the content.
    pub entry: Entry<'a, R>,
}

/// The members of an archive, in order.
pub(crate) struct Members<'a, R: Read>(Entries<'a, R>);

impl<'a, R: Read> Members<'a, R> {
    /// The members of `archive`, of which nothing has been read yet.
    ///
    /// # Errors
    /// Something of the archive has been read.
    pub fn of(archive: &'a mut Archive<R>) -> io::Result<Self> {
        Ok(Members(archive.entries()?.raw(true)))
    }

    fn next_member(&mut self) -> Result<Option<Member<'a, R>>> {
        let mut name = None;
        for entry in self.0.by_ref() {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            let mut read = || read_limited(&mut entry, MAX_NAME_BYTES, "the name of a member");
            match kind {
                EntryType::GNULongName => {
                    name = read()?.split(|&byte| byte == 0).next().map(<[u8]>::to_vec)
                }
                EntryType::XHeader => name = posix_name(&read()?)?.or(name),
                EntryType::GNULongLink | EntryType::XGlobalHeader => {}
                _ => {
                    let long = name.map(|name| PathBuf::from(&*String::from_utf8_lossy(&name)));
                    let path =
                        long.map_or_else(|| entry.path().map(|path| path.into_owned()), Ok)?;
                    return Ok(Some(Member { path, entry }));
                }
            }
        }
        Ok(None)
    }
}

impl<'a, R: Read> Iterator for Members<'a, R> {
    type Item = Result<Member<'a, R>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_member().transpose()
    }
}

/// The name among the attributes of a POSIX header.
fn posix_name(attributes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    for attribute in PaxExtensions::new(attributes) {
        let attribute = attribute?;
        if attribute.key_bytes() == b"path" {
            return Ok(Some(attribute.value_bytes().to_vec()));
        }
    }
    Ok(None)
}

/// Whether a path stays inside the folder that it starts in.
pub(crate) fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The whole content of a file that may have `limit` bytes. `name` is for the message.
///
/// # Errors
/// The file has more bytes, or cannot be read to its end.
pub(crate) fn read_limited(reader: impl Read, limit: u64, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{name} cannot be read to its end"))?;
    ensure!(
        bytes.len() as u64 <= limit,
        "{name} has more than {limit} bytes"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header, HeaderMode};

    fn names(archive: &[u8]) -> Result<Vec<String>> {
        let mut archive = Archive::new(archive);
        let members = Members::of(&mut archive)?;
        members
            .map(|member| Ok(member?.path.display().to_string()))
            .collect()
    }

    fn archive(name: &str, attributes: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        builder.mode(HeaderMode::Deterministic);
        builder
            .append_pax_extensions(attributes.iter().copied())
            .unwrap();
        let mut header = Header::new_ustar();
        header.set_size(2);
        builder
            .append_data(&mut header, "short", &b"ab"[..])
            .unwrap();
        let mut header = Header::new_gnu();
        header.set_size(2);
        builder.append_data(&mut header, name, &b"cd"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn long_names_of_either_kind_are_read_and_each_names_one_member() {
        let long = format!("folder/{}.npz", "n".repeat(300));
        assert_eq!(names(&archive(&long, &[])).unwrap(), ["short", &long]);
        let attributes: [(&str, &[u8]); 2] = [("mtime", b"1.5"), ("path", b"other/name.npz")];
        assert_eq!(
            names(&archive("plain", &attributes)).unwrap(),
            ["other/name.npz", "plain"]
        );
    }

    #[test]
    fn a_name_beyond_all_measure_is_refused() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(MAX_NAME_BYTES + 1);
        header.set_cksum();
        let archive = [header.as_bytes(), &vec![b'n'; 2 << 20][..]].concat();
        let message = format!("{:#}", names(&archive).unwrap_err());
        assert!(
            message.contains("the name of a member has more than 1048576 bytes"),
            "{message}"
        );
    }
}
