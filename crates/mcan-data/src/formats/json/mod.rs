//! Reads JSON files, plain or in the `.zip` that they were published in, and streams the lists in them.
//!
//! This module finds a file and walks through its JSON. Its callers know the meaning of the elements.

mod clean;
mod types;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use types::{Int, Text, entry};
pub(crate) use words::in_plain_words;

use crate::base::mapped::Mapped;
use crate::base::{files, memory};
use crate::formats::magic;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::fmt;
use std::io::{Cursor, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;
use zip::ZipArchive;

/// Bytes that a text from an archive may have. The largest published file has 0.4 GB.
const MAX_INFLATED_BYTES: u64 = 4 << 30;

/// A text may be this many times longer than its bytes in the archive. The published ones are some 20 times longer.
const MAX_INFLATION: u64 = 100;
/// A text of this many bytes is accepted whatever its inflation.
const ALWAYS_INFLATED_BYTES: u64 = 64 << 20;

/// The place of a JSON file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file to open: JSON or an archive.
    pub file: PathBuf,
    /// The member of an archive. `None` means plain JSON, or the only JSON member.
    pub member: Option<String>,
}

/// Finds the JSON file called `path`.
///
/// If the file does not exist, `path` may be `archive.zip/member.json`, or an archive beside it, with its name and `.zip`,
/// may have the file. `None`: there is no such file.
///
/// # Errors
/// A folder of this name, or a path that the system cannot tell about.
pub fn locate(path: &Path) -> Result<Option<Location>> {
    let archive = archive_of(path);
    if archive.is_none()
        && let Some(found) = files::look(path)?
    {
        ensure!(
            !found.is_dir(),
            "{} is a folder, not a file",
            path.display()
        );
        return Ok(Some(Location {
            file: path.to_owned(),
            member: None,
        }));
    }
    let Some(name) = path.file_name().and_then(OsStr::to_str) else {
        return Ok(None);
    };
    let published = path.with_extension("zip");
    let file = match archive {
        Some(archive) => archive.to_owned(),
        None if files::is_file(&published)? => published,
        None => return Ok(None),
    };
    Ok(Some(Location {
        file,
        member: Some(name.to_owned()),
    }))
}

/// Whether a text that may come in pieces is there: as a file, inside of an archive, or as a folder.
///
/// # Errors
/// A path that the system cannot tell about.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    Ok(is_folder(path)? || locate(path)?.is_some())
}

/// Whether `path` is a folder; it may be inside of an archive.
fn is_folder(path: &Path) -> Result<bool> {
    Ok(archive_of(path).is_none() && files::is_folder(path)?)
}

/// The archive that has the file `path`, if the folder of the path is one.
fn archive_of(path: &Path) -> Option<&Path> {
    path.parent()
        .filter(|parent| files::is_file(parent).unwrap_or(false))
}

/// The files of a text that may come in pieces: `path` itself, or the `.json` files of a folder in the order of their names.
///
/// # Errors
/// A folder that cannot be read, or has no such file.
pub(crate) fn pieces(path: &Path) -> Result<Vec<PathBuf>> {
    if !is_folder(path)? {
        return Ok(vec![path.to_owned()]);
    }
    let entries = files::entries(path)?;
    let paths = entries.iter().map(std::fs::DirEntry::path);
    let mut pieces: Vec<_> = paths
        .filter(|path| path.extension() == Some(OsStr::new("json")))
        .collect();
    pieces.sort();
    ensure!(
        !pieces.is_empty(),
        "{} is a folder without .json files",
        path.display()
    );
    Ok(pieces)
}

/// A JSON text in memory, and its name for messages.
pub(crate) struct JsonFile {
    bytes: Bytes,
    name: String,
    /// The text as the standard allows it, if it is another one.
    cleaned: OnceCell<Option<String>>,
}

enum Bytes {
    Mapped(Mapped),
    Inflated(Vec<u8>),
}

impl JsonFile {
    /// Opens the file that [`locate`] finds for `path`.
    ///
    /// # Errors
    /// There is no such file, or its archive is damaged, has no such member, or inflates beyond the limits.
    pub fn open(path: &Path) -> Result<Self> {
        let Some(Location { file, member }) = locate(path)? else {
            bail!(
                "there is no file {} (nor the .zip it was published in beside it)",
                path.display()
            );
        };
        let unreadable = || format!("cannot read {}", file.display());
        let map = Mapped::open(&file)?;
        if map.starts_with(b"PK\x03\x04") {
            return Self::unzip(&map, member.as_deref(), &file).with_context(unreadable);
        }
        Ok(Self {
            bytes: Bytes::Mapped(map),
            name: file.display().to_string(),
            cleaned: OnceCell::new(),
        })
    }

    fn unzip(archive: &[u8], member: Option<&str>, file: &Path) -> Result<Self> {
        let archive_bytes = archive.len() as u64;
        let mut archive =
            ZipArchive::new(Cursor::new(archive)).context("it is a damaged .zip archive")?;
        let member = choose_member(archive.file_names(), member)?;
        let text = inflate(&mut archive, &member, archive_bytes)?;
        Ok(Self {
            bytes: Bytes::Inflated(text),
            name: format!("{} ({member})", file.display()),
            cleaned: OnceCell::new(),
        })
    }

    /// The name of the file, with the archive's member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte order mark, as the standard of JSON allows it. Checking it for UTF-8 as a whole is much
    /// faster than string by string.
    fn text(&self) -> Result<&str> {
        let bytes = match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Inflated(text) => &text[..],
        };
        let start = bytes.get(..magic::BYTES).unwrap_or(bytes);
        if let Some(is) = magic::looks_like(start).filter(|_| !bytes.is_empty()) {
            bail!("{} is not valid JSON: it is {is}", self.name);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let invalid = |error: Utf8Error| {
            format!("{} is not UTF-8 at byte {}", self.name, error.valid_up_to())
        };
        let text = std::str::from_utf8(bytes).map_err(|error| anyhow!(invalid(error)))?;
        let cleaned = self.cleaned.get_or_init(|| match clean::clean(text) {
            Cow::Owned(cleaned) => Some(cleaned),
            Cow::Borrowed(_) => None,
        });
        Ok(cleaned.as_deref().unwrap_or(text))
    }

    /// Passes each element of a list to `sink`, without building the list: of the list under `key` of the top-level object,
    /// of a text that is itself a list, or of a text with an object on each line (JSON Lines).
    ///
    /// # Errors
    /// The text is not JSON or has no such list, an element is no `T`, or `sink` returns an error. The error has file,
    /// line and column.
    pub fn for_each_in<'a, T: Deserialize<'a>>(
        &'a self,
        key: &'static str,
        sink: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        self.elements(Some(key), sink)
    }

    /// Passes each element of a text that is a list to `sink`, as [`JsonFile::for_each_in`] does.
    ///
    /// # Errors
    /// Those of [`JsonFile::for_each_in`].
    pub fn for_each<'a, T: Deserialize<'a>>(
        &'a self,
        sink: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        self.elements(None, sink)
    }

    /// Passes each entry of a text that is an object to `sink`, without building the object: the key and the value.
    ///
    /// # Errors
    /// The text is not JSON or no object, a value is no `T`, or `sink` returns an error. The error has file, line and
    /// column.
    pub fn for_each_entry<'a, T: Deserialize<'a>>(
        &'a self,
        sink: impl FnMut(&str, T) -> Result<()>,
    ) -> Result<()> {
        let text = self.text()?;
        let mut json = serde_json::Deserializer::from_str(text);
        let number = Cell::new(0);
        let entries = EntriesVisitor {
            sink,
            number: &number,
            value: PhantomData,
        };
        let parsed = json.deserialize_any(entries).and_then(|()| json.end());
        parsed.map_err(|error| self.error(text, &error, number.get()))
    }

    fn elements<'a, T: Deserialize<'a>>(
        &'a self,
        key: Option<&'static str>,
        mut sink: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let text = self.text()?;
        let mut json = serde_json::Deserializer::from_str(text);
        if self.name.ends_with(".jsonl") || has_an_object_on_each_line(text) {
            for (number, element) in (1u64..).zip(json.into_iter()) {
                let element = element.map_err(|error| self.error(text, &error, number))?;
                sink(element).with_context(|| format!("{}: line {number}", self.name))?;
            }
            return Ok(());
        }
        let number = Cell::new(0);
        let mut list = ListVisitor {
            sink,
            number: &number,
            element: PhantomData,
        };
        let is_list = text.trim_start().starts_with('[');
        let parsed = match key.filter(|_| !is_list) {
            Some(key) => json.deserialize_any(ObjectVisitor { key, list }),
            None => json.deserialize_any(&mut list),
        };
        let parsed = parsed.and_then(|()| json.end());
        parsed.map_err(|error| self.error(text, &error, number.get()))
    }

    /// The whole text as one value.
    ///
    /// # Errors
    /// Another value, or a text that is not JSON.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let text = self.text()?;
        serde_json::from_str(text).map_err(|error| self.error(text, &error, 0))
    }

    /// What is wrong with `text`, in element `number` of a list (0: in none).
    fn error(&self, text: &str, error: &serde_json::Error, number: u64) -> anyhow::Error {
        let (line, column) = (error.line(), error.column());
        let reason = words::reason(error);
        let name = &self.name;
        if text.trim().is_empty() {
            return anyhow!("{name} is not valid JSON: it is empty");
        }
        let element = match number {
            0 => String::new(),
            number => format!(" of entry {number}"),
        };
        let place = format!("at line {line} column {column}{element}");
        if error.is_data() {
            let cleaned = match self.cleaned.get() {
                Some(Some(_)) => "; NaN and infinities in it count as null",
                _ => "",
            };
            return anyhow!("{name}: {reason} {place}{cleaned}");
        }
        let near = words::near(text, line, column);
        let near = near.map_or(String::new(), |piece| format!(", near {piece:?}"));
        anyhow!("{name} is not valid JSON: {reason} {place}{near}")
    }
}

/// Whether a text must be JSON Lines: its first line is a whole object, and more follows.
fn has_an_object_on_each_line(text: &str) -> bool {
    let text = text.trim_start();
    let Some((line, rest)) = text.split_once('\n').filter(|_| text.starts_with('{')) else {
        return false;
    };
    !rest.trim_start().is_empty() && serde_json::from_str::<IgnoredAny>(line).is_ok()
}

/// Reads the value of `key` of an object; `None` if it is null. An error about its type names the key.
pub(crate) fn value<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    map: &mut A,
    key: &'static str,
) -> Result<Option<T>, A::Error> {
    map.next_value().map_err(|error: A::Error| {
        let text = error.to_string();
        match text.starts_with("invalid ") {
            true => A::Error::custom(format_args!("{key}: {text}")),
            false => error,
        }
    })
}

/// The text of a member of an archive with `archive_bytes` bytes.
fn inflate(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    member: &str,
    archive_bytes: u64,
) -> Result<Vec<u8>> {
    let mut reader = archive
        .by_name(member)
        .with_context(|| format!("its member {member} cannot be unpacked"))?;
    let limit = reader
        .compressed_size()
        .saturating_mul(MAX_INFLATION)
        .clamp(ALWAYS_INFLATED_BYTES, MAX_INFLATED_BYTES);
    ensure!(
        reader.size() <= limit,
        "its member {member} inflates to more than {limit} bytes; it is damaged or hostile"
    );
    // Memory for the claimed size is taken once, as far as the size of the archive makes the claim possible.
    let claimed = reader.size();
    let mut text = Vec::new();
    let possible = claimed.min(archive_bytes.saturating_mul(MAX_INFLATION));
    let possible_bytes = usize::try_from(possible)?;
    let reserved = memory::fallible(|| text.try_reserve_exact(possible_bytes));
    reserved.map_err(|_| files::no_memory(possible))?;
    let read = reader
        .by_ref()
        .take(claimed.saturating_add(1))
        .read_to_end(&mut text);
    let read = read.with_context(|| format!("its member {member} is damaged"))?;
    ensure!(
        read as u64 <= claimed,
        "its member {member} is longer than the {claimed} bytes that it claims"
    );
    Ok(text)
}

/// The member called `wanted` in any folder; the only JSON member if `wanted` is `None`.
fn choose_member<'a>(names: impl Iterator<Item = &'a str>, wanted: Option<&str>) -> Result<String> {
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let json = names.filter(|name| name.ends_with(".json") && !name.starts_with("__MACOSX/"));
    let fitting: Vec<_> = json
        .filter(|name| wanted.is_none_or(|wanted| base(name) == wanted))
        .collect();
    match (&fitting[..], wanted) {
        ([only], _) => Ok((*only).to_owned()),
        ([], Some(wanted)) => bail!("it has no member {wanted}"),
        ([], None) => bail!("it has no .json member"),
        (several, _) => bail!(
            "it has several .json members; put the right one behind the archive's path, as in archive.zip/{}",
            several.join(" or archive.zip/")
        ),
    }
}

struct ObjectVisitor<L> {
    key: &'static str,
    list: L,
}

impl<'de, T: Deserialize<'de>, S: FnMut(T) -> Result<()>> Visitor<'de>
    for ObjectVisitor<ListVisitor<'_, T, S>>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an object with a list \"{}\"", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Text>()? {
            if &*key != self.key {
                map.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut found, true) {
                return Err(A::Error::custom(format_args!(
                    "a second list \"{}\"",
                    self.key
                )));
            } else {
                map.next_value_seed(&mut self.list)?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(A::Error::custom(format_args!(
                "there is no list \"{}\"",
                self.key
            )))
        }
    }
}

struct EntriesVisitor<'n, T, S> {
    sink: S,
    /// The number of the entry that is being read, from 1; 0 outside.
    number: &'n Cell<u64>,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, S: FnMut(&str, T) -> Result<()>> Visitor<'de>
    for EntriesVisitor<'_, T, S>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with an entry for each id")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        loop {
            self.number.set(self.number.get() + 1);
            let Some(key) = map.next_key::<Text>()? else {
                break;
            };
            let value = map.next_value()?;
            (self.sink)(&key, value).map_err(A::Error::custom)?;
        }
        self.number.set(0);
        Ok(())
    }
}

struct ListVisitor<'n, T, S> {
    sink: S,
    /// The number of the element that is being read, from 1; 0 outside.
    number: &'n Cell<u64>,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, S: FnMut(T) -> Result<()>> DeserializeSeed<'de>
    for &mut ListVisitor<'_, T, S>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, S: FnMut(T) -> Result<()>> Visitor<'de>
    for &mut ListVisitor<'_, T, S>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            self.number.set(self.number.get() + 1);
            let Some(element) = list.next_element()? else {
                break;
            };
            (self.sink)(element).map_err(A::Error::custom)?;
        }
        self.number.set(0);
        Ok(())
    }
}
