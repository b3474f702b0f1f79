//! The bytes of a JSON file, plain or in the `.zip` it was published in, and the streaming reader of the lists inside.
//!
//! Knows where a file may lie and how its JSON is walked; what the elements mean is for the callers.

use crate::base::mapped::Mapped;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::{Cursor, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;

/// Longest text that is taken out of an archive; the largest published file has 0.4 GB.
const MAX_INFLATED_BYTES: u64 = 4 << 30;

/// A member may be this many times longer than it is in the archive (the published ones are some 20 times), or this long.
const MAX_INFLATION: u64 = 100;
const ALWAYS_INFLATED_BYTES: u64 = 64 << 20;

/// Where a JSON file really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file to open: JSON or an archive.
    pub file: PathBuf,
    /// Which member of an archive; `None` for plain JSON, or for the only JSON member.
    pub member: Option<String>,
}

/// Finds the JSON file called `path`: itself; or, when it does not exist, the member that `archive.zip/member.json` names;
/// or the archive beside it that has its name with `.zip`. `None` when there is none of these.
pub fn locate(path: &Path) -> Option<Location> {
    if path.is_file() {
        return Some(Location {
            file: path.to_owned(),
            member: None,
        });
    }
    let name = path.file_name()?.to_str()?;
    let archives = [path.parent()?.to_owned(), path.with_extension("zip")];
    let file = archives.into_iter().find(|file| file.is_file())?;
    Some(Location {
        file,
        member: Some(name.to_owned()),
    })
}

/// A JSON text in memory, and what to call it in messages.
pub struct JsonFile {
    bytes: Bytes,
    name: String,
}

enum Bytes {
    Mapped(Mapped),
    Inflated(Vec<u8>),
}

impl JsonFile {
    /// Opens the file that [`locate`] finds for `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let Some(Location { file, member }) = locate(path) else {
            bail!(
                "there is no file {} (nor the .zip it was published in beside it)",
                path.display()
            );
        };
        let cannot = || format!("cannot read {}", file.display());
        let map = Mapped::open(&file).with_context(cannot)?;
        if map.starts_with(b"PK\x03\x04") {
            return Self::unzip(&map, member.as_deref(), &file).with_context(cannot);
        }
        Ok(Self {
            bytes: Bytes::Mapped(map),
            name: file.display().to_string(),
        })
    }

    fn unzip(archive: &[u8], member: Option<&str>, file: &Path) -> Result<Self> {
        let archive_bytes = archive.len() as u64;
        let mut archive =
            zip::ZipArchive::new(Cursor::new(archive)).context("it is a damaged .zip archive")?;
        let member = choose_member(archive.file_names(), member)?;
        let mut reader = archive
            .by_name(&member)
            .with_context(|| format!("its member {member} cannot be unpacked"))?;
        let limit = reader
            .compressed_size()
            .saturating_mul(MAX_INFLATION)
            .clamp(ALWAYS_INFLATED_BYTES, MAX_INFLATED_BYTES);
        ensure!(
            reader.size() <= limit,
            "its member {member} inflates to more than {limit} bytes; it is damaged or hostile"
        );
        // What it claims is believed as far as the file can back it, and not exceeded, so that memory is taken once.
        let claimed = reader.size();
        let mut text = Vec::new();
        text.try_reserve_exact(usize::try_from(
            claimed.min(archive_bytes.saturating_mul(MAX_INFLATION)),
        )?)?;
        let read = reader
            .by_ref()
            .take(claimed.saturating_add(1))
            .read_to_end(&mut text);
        let read = read.with_context(|| format!("its member {member} is damaged"))?;
        ensure!(
            read as u64 <= claimed,
            "its member {member} is longer than the {claimed} bytes that it claims"
        );
        Ok(Self {
            bytes: Bytes::Inflated(text),
            name: format!("{} ({member})", file.display()),
        })
    }

    /// The file, with the archive's member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checked as a whole, which is much faster than string by string.
    fn text(&self) -> Result<&str> {
        let bytes = match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Inflated(text) => &text[..],
        };
        let invalid = |error: Utf8Error| {
            format!("{} is not UTF-8 at byte {}", self.name, error.valid_up_to())
        };
        std::str::from_utf8(bytes).map_err(|error| anyhow!(invalid(error)))
    }

    /// Hands each element of the list under `key` of the top-level object to `sink`, without building the list.
    ///
    /// # Errors
    /// Not JSON, no such list, an element that is not a `T`, or `sink`'s refusal, with file, line and column.
    pub fn for_each_in<'a, T: Deserialize<'a>>(
        &'a self,
        key: &'static str,
        sink: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut json = serde_json::Deserializer::from_str(self.text()?);
        let visitor = ObjectVisitor {
            key,
            list: ListVisitor {
                sink,
                element: PhantomData,
            },
        };
        self.explain(json.deserialize_any(visitor).and_then(|()| json.end()))
    }

    /// The same for a text that is the list itself.
    pub fn for_each<'a, T: Deserialize<'a>>(
        &'a self,
        sink: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut json = serde_json::Deserializer::from_str(self.text()?);
        let mut visitor = ListVisitor {
            sink,
            element: PhantomData,
        };
        self.explain(json.deserialize_any(&mut visitor).and_then(|()| json.end()))
    }

    /// The whole text as one value.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.explain(serde_json::from_str(self.text()?))
    }

    fn explain<T>(&self, parsed: serde_json::Result<T>) -> Result<T> {
        parsed.map_err(|error| match error.is_data() {
            true => anyhow!("{}: {error}", self.name),
            false => anyhow!("{} is not valid JSON: {error}", self.name),
        })
    }
}

/// The member called `wanted` in whatever folder, or else the only JSON file there is.
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
            "it has several .json members; put the one you mean behind the archive's path, as in archive.zip/{}",
            several.join(" or archive.zip/")
        ),
    }
}

struct ObjectVisitor<L> {
    key: &'static str,
    list: L,
}

impl<'de, T: Deserialize<'de>, S: FnMut(T) -> Result<()>> Visitor<'de>
    for ObjectVisitor<ListVisitor<T, S>>
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

struct ListVisitor<T, S> {
    sink: S,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, S: FnMut(T) -> Result<()>> serde::de::DeserializeSeed<'de>
    for &mut ListVisitor<T, S>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, S: FnMut(T) -> Result<()>> Visitor<'de> for &mut ListVisitor<T, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.sink)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A string, borrowed from the JSON text unless it has escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
